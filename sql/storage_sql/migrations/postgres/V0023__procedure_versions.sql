-- name: procedure_versions
-- role: owner
-- transactional: yes

-- The current version of each procedure with its counters: counting an outcome changes one row, and no index.
CREATE TABLE {{ schema }}.procedures (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    version bigint NOT NULL CHECK (version > 0),
    revision bigint NOT NULL DEFAULT 1 CHECK (revision > 0),
    scope text COLLATE "C" NOT NULL CHECK (length(scope) <= 500),
    steps jsonb NOT NULL,
    trigger_filter jsonb,
    provenance jsonb NOT NULL DEFAULT '[]',
    embedding bytea CHECK (octet_length(embedding) BETWEEN 4 AND 64000) CHECK (octet_length(embedding) % 4 = 0),
    prior double precision NOT NULL DEFAULT 0.5 CHECK (prior BETWEEN 0 AND 1),
    successes bigint NOT NULL DEFAULT 0 CHECK (successes >= 0),
    failures bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_outcome_at timestamptz,
    superseded_by text COLLATE "C" CHECK (length(superseded_by) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
) WITH (fillfactor = 80);
CREATE INDEX procedures_scope ON {{ schema }}.procedures (tenant_id, scope, name);
SELECT {{ schema }}.protect_table(format('%I.procedures', {{ schema_name }}));

-- The versions that were replaced, as they were; an outcome that arrives late is still counted.
CREATE TABLE {{ schema }}.procedure_versions (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    version bigint NOT NULL CHECK (version > 0),
    scope text COLLATE "C" NOT NULL CHECK (length(scope) <= 500),
    steps jsonb NOT NULL,
    trigger_filter jsonb,
    provenance jsonb NOT NULL DEFAULT '[]',
    embedding bytea CHECK (octet_length(embedding) BETWEEN 4 AND 64000) CHECK (octet_length(embedding) % 4 = 0),
    prior double precision NOT NULL DEFAULT 0.5 CHECK (prior BETWEEN 0 AND 1),
    successes bigint NOT NULL DEFAULT 0 CHECK (successes >= 0),
    failures bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_outcome_at timestamptz,
    saved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name, version),
    FOREIGN KEY (tenant_id, name) REFERENCES {{ schema }}.procedures ON DELETE CASCADE
);
SELECT {{ schema }}.protect_table(format('%I.procedure_versions', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.procedures IS 'What to do when, in its current version, and how it has done.';
COMMENT ON COLUMN {{ schema }}.procedures.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.procedures.name IS 'Name of the procedure.';
COMMENT ON COLUMN {{ schema }}.procedures.version IS 'Counts the versions of the name from 1.';
COMMENT ON COLUMN {{ schema }}.procedures.revision IS 'Grows with every change of the row.';
COMMENT ON COLUMN {{ schema }}.procedures.scope IS 'Where it holds; empty for everywhere.';
COMMENT ON COLUMN {{ schema }}.procedures.steps IS 'What to do.';
COMMENT ON COLUMN {{ schema }}.procedures.trigger_filter IS 'The filter that a context must match; NULL when none triggers it.';
COMMENT ON COLUMN {{ schema }}.procedures.provenance IS 'Texts that say where it comes from.';
COMMENT ON COLUMN {{ schema }}.procedures.embedding IS 'Its meaning, as little-endian float32.';
COMMENT ON COLUMN {{ schema }}.procedures.prior IS 'The confidence before any outcome.';
COMMENT ON COLUMN {{ schema }}.procedures.successes IS 'How often the version succeeded.';
COMMENT ON COLUMN {{ schema }}.procedures.failures IS 'How often the version failed.';
COMMENT ON COLUMN {{ schema }}.procedures.last_outcome_at IS 'When the version last did either.';
COMMENT ON COLUMN {{ schema }}.procedures.superseded_by IS 'Name of the procedure that took its place.';
COMMENT ON COLUMN {{ schema }}.procedures.created_at IS 'When the name was first saved.';
COMMENT ON COLUMN {{ schema }}.procedures.updated_at IS 'When the version was saved.';

COMMENT ON TABLE {{ schema }}.procedure_versions IS 'The versions of procedures that were replaced.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.name IS 'Name of the procedure.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.version IS 'The version.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.scope IS 'Where it held.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.steps IS 'What to do.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.trigger_filter IS 'The filter that a context had to match.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.provenance IS 'Texts that say where it came from.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.embedding IS 'Its meaning, as little-endian float32.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.prior IS 'The confidence before any outcome.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.successes IS 'How often the version succeeded.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.failures IS 'How often the version failed.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.last_outcome_at IS 'When the version last did either.';
COMMENT ON COLUMN {{ schema }}.procedure_versions.saved_at IS 'When the version was saved.';
