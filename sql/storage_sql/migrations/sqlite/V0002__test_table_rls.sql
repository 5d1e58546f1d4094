-- name: test_table_rls
-- role: owner
-- transactional: yes

CREATE TABLE test_table (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;
