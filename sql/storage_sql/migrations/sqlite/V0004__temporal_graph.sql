-- name: temporal_graph
-- role: owner
-- transactional: yes

CREATE TABLE tenant_clock (
    tenant_id TEXT PRIMARY KEY NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    n INTEGER NOT NULL DEFAULT 0 CHECK (n >= 0),
    at INTEGER NOT NULL DEFAULT -9223372036854775808
) STRICT, WITHOUT ROWID;

CREATE TABLE entities (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    entity_id TEXT NOT NULL CHECK (length(entity_id) = 36),
    entity_type TEXT NOT NULL CHECK (length(entity_type) BETWEEN 1 AND 255),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 500),
    properties TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(properties)),
    valid_time_start INTEGER NOT NULL,
    valid_time_end INTEGER NOT NULL DEFAULT 9223372036854775807,
    transaction_time_start INTEGER NOT NULL,
    transaction_time_end INTEGER NOT NULL DEFAULT 9223372036854775807,
    tx_from INTEGER NOT NULL CHECK (tx_from > 0),
    tx_to INTEGER NOT NULL DEFAULT 9223372036854775807,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, entity_id, tx_from, valid_time_start),
    CHECK (valid_time_start < valid_time_end),
    CHECK (transaction_time_start < transaction_time_end),
    CHECK (tx_from < tx_to)
) STRICT;
CREATE INDEX entities_current ON entities (tenant_id, entity_id, valid_time_start)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX entities_current_type ON entities (tenant_id, entity_type, entity_id)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX entities_current_name ON entities (tenant_id, name, entity_id)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX entities_changes ON entities (tenant_id, tx_from, entity_id);

CREATE TABLE relationships (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    relationship_id TEXT NOT NULL CHECK (length(relationship_id) = 36),
    from_entity TEXT NOT NULL CHECK (length(from_entity) = 36),
    to_entity TEXT NOT NULL CHECK (length(to_entity) = 36),
    relationship_type TEXT NOT NULL CHECK (length(relationship_type) BETWEEN 1 AND 255),
    properties TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(properties)),
    valid_time_start INTEGER NOT NULL,
    valid_time_end INTEGER NOT NULL DEFAULT 9223372036854775807,
    transaction_time_start INTEGER NOT NULL,
    transaction_time_end INTEGER NOT NULL DEFAULT 9223372036854775807,
    tx_from INTEGER NOT NULL CHECK (tx_from > 0),
    tx_to INTEGER NOT NULL DEFAULT 9223372036854775807,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, relationship_id, tx_from, valid_time_start),
    CHECK (valid_time_start < valid_time_end),
    CHECK (transaction_time_start < transaction_time_end),
    CHECK (tx_from < tx_to)
) STRICT;
CREATE INDEX relationships_current ON relationships (tenant_id, relationship_id, valid_time_start)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX relationships_current_from ON relationships
    (tenant_id, from_entity, relationship_type, valid_time_start, to_entity, valid_time_end)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX relationships_current_to ON relationships
    (tenant_id, to_entity, relationship_type, valid_time_start, from_entity, valid_time_end)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX relationships_from ON relationships (tenant_id, from_entity, tx_from);
CREATE INDEX relationships_to ON relationships (tenant_id, to_entity, tx_from);
CREATE INDEX relationships_changes ON relationships (tenant_id, tx_from, relationship_id);

CREATE TABLE erasures (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    erasure_id TEXT NOT NULL CHECK (length(erasure_id) = 36),
    erased_at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('entity', 'stream', 'hooks')),
    subject_hash BLOB NOT NULL CHECK (length(subject_hash) = 32),
    rows_erased INTEGER NOT NULL CHECK (rows_erased >= 0),
    reason TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    erased_by TEXT NOT NULL DEFAULT 'sqlite',
    PRIMARY KEY (tenant_id, erased_at, erasure_id)
) STRICT, WITHOUT ROWID;
