-- name: procedural_memory
-- role: owner
-- transactional: yes

CREATE TABLE {{ schema }}.procedural_patterns (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    pattern_id uuid NOT NULL DEFAULT gen_random_uuid(),
    scope text COLLATE "C" NOT NULL CHECK (length(scope) <= 500),
    key text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 500),
    value text NOT NULL,
    -- Scope and key alone can exceed what a btree entry holds; three digests in a row are also a
    -- prefix index, by scope and by scope and key. They tell a tenant's own patterns apart, no more.
    identity text COLLATE "C" NOT NULL GENERATED ALWAYS AS (md5(scope) || md5(key) || md5(value)) STORED,
    frequency bigint NOT NULL DEFAULT 1 CONSTRAINT positive_frequency CHECK (frequency > 0),
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, pattern_id),
    CONSTRAINT unique_procedural_pattern UNIQUE (tenant_id, identity)
);
CREATE INDEX procedural_patterns_learned ON {{ schema }}.procedural_patterns (tenant_id, identity, frequency)
    WHERE frequency >= 3;
SELECT {{ schema }}.protect_table(format('%I.procedural_patterns', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.procedural_patterns IS 'Learned patterns and how often each was seen.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.pattern_id IS 'Id of the pattern.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.scope IS 'Scope in which the pattern holds.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.key IS 'What the pattern is about.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.value IS 'What was observed.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.identity IS 'Digests of scope, key and value in a row.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.frequency IS 'How often it was seen.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.first_seen IS 'When it was first seen.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.last_seen IS 'When it was last seen.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.procedural_patterns.updated_at IS 'When the row was last changed.';
