-- name: graph_provenance
-- role: owner
-- transactional: yes

CREATE TABLE graph_transactions (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    tx INTEGER NOT NULL CHECK (tx > 0),
    at INTEGER NOT NULL,
    actor TEXT CHECK (length(actor) BETWEEN 1 AND 255),
    reason TEXT CHECK (length(reason) BETWEEN 1 AND 500),
    sources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(sources)),
    erased_hash BLOB CHECK (length(erased_hash) = 32),
    PRIMARY KEY (tenant_id, tx)
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_embeddings (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    entity_id TEXT NOT NULL CHECK (length(entity_id) = 36),
    embedding_hash BLOB NOT NULL CHECK (length(embedding_hash) = 32),
    dimension INTEGER NOT NULL CHECK (dimension BETWEEN 1 AND 16000),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * dimension),
    PRIMARY KEY (tenant_id, entity_id, embedding_hash)
) STRICT;

ALTER TABLE entities ADD COLUMN embedding_hash BLOB;

CREATE INDEX entities_closed ON entities (tenant_id, tx_to, entity_id) WHERE tx_to < 9223372036854775807;
CREATE INDEX relationships_closed ON relationships (tenant_id, tx_to, relationship_id)
    WHERE tx_to < 9223372036854775807;
