-- name: vector_embeddings
-- role: owner
-- transactional: yes

CREATE TABLE vector_embeddings_128 (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    scope TEXT NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * 128),
    content TEXT,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX vector_embeddings_128_scope ON vector_embeddings_128 (tenant_id, scope, created_at, id);
CREATE TABLE vector_embeddings_384 (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    scope TEXT NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * 384),
    content TEXT,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX vector_embeddings_384_scope ON vector_embeddings_384 (tenant_id, scope, created_at, id);
CREATE TABLE vector_embeddings_768 (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    scope TEXT NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * 768),
    content TEXT,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX vector_embeddings_768_scope ON vector_embeddings_768 (tenant_id, scope, created_at, id);
CREATE TABLE vector_embeddings_1536 (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    scope TEXT NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * 1536),
    content TEXT,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX vector_embeddings_1536_scope ON vector_embeddings_1536 (tenant_id, scope, created_at, id);
CREATE TABLE vector_embeddings_3072 (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    scope TEXT NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * 3072),
    content TEXT,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX vector_embeddings_3072_scope ON vector_embeddings_3072 (tenant_id, scope, created_at, id);
