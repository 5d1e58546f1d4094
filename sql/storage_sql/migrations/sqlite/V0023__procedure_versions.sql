-- name: procedure_versions
-- role: owner
-- transactional: yes

CREATE TABLE procedures (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    version INTEGER NOT NULL CHECK (version > 0),
    revision INTEGER NOT NULL DEFAULT 1 CHECK (revision > 0),
    scope TEXT NOT NULL CHECK (length(scope) <= 500),
    steps TEXT NOT NULL CHECK (json_valid(steps)),
    trigger_filter TEXT CHECK (trigger_filter IS NULL OR json_valid(trigger_filter)),
    provenance TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(provenance)),
    embedding BLOB CHECK (length(embedding) BETWEEN 4 AND 64000 AND length(embedding) % 4 = 0),
    prior REAL NOT NULL DEFAULT 0.5 CHECK (prior BETWEEN 0 AND 1),
    successes INTEGER NOT NULL DEFAULT 0 CHECK (successes >= 0),
    failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_outcome_at INTEGER,
    superseded_by TEXT CHECK (length(superseded_by) BETWEEN 1 AND 255),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) STRICT;
CREATE INDEX procedures_scope ON procedures (tenant_id, scope, name);

CREATE TABLE procedure_versions (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    version INTEGER NOT NULL CHECK (version > 0),
    scope TEXT NOT NULL CHECK (length(scope) <= 500),
    steps TEXT NOT NULL CHECK (json_valid(steps)),
    trigger_filter TEXT CHECK (trigger_filter IS NULL OR json_valid(trigger_filter)),
    provenance TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(provenance)),
    embedding BLOB CHECK (length(embedding) BETWEEN 4 AND 64000 AND length(embedding) % 4 = 0),
    prior REAL NOT NULL DEFAULT 0.5 CHECK (prior BETWEEN 0 AND 1),
    successes INTEGER NOT NULL DEFAULT 0 CHECK (successes >= 0),
    failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_outcome_at INTEGER,
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name, version),
    FOREIGN KEY (tenant_id, name) REFERENCES procedures ON DELETE CASCADE
) STRICT;
