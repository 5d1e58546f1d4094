-- name: hook_history
-- role: owner
-- transactional: yes

CREATE TABLE hook_history (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    execution_id TEXT NOT NULL CHECK (length(execution_id) = 36),
    hook_id TEXT NOT NULL CHECK (length(hook_id) BETWEEN 1 AND 255),
    hook_type TEXT NOT NULL CHECK (length(hook_type) BETWEEN 1 AND 100),
    correlation_id TEXT NOT NULL CHECK (length(correlation_id) BETWEEN 1 AND 255),
    hook_context BLOB NOT NULL,
    is_compressed INTEGER NOT NULL DEFAULT 0 CHECK (is_compressed IN (0, 1)),
    original_size_bytes INTEGER NOT NULL CHECK (original_size_bytes >= 0),
    result_data TEXT NOT NULL CHECK (json_valid(result_data)),
    timestamp INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
    triggering_component TEXT NOT NULL CHECK (length(triggering_component) BETWEEN 1 AND 255),
    tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(tags)),
    retention_priority INTEGER NOT NULL DEFAULT 0,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, execution_id)
) STRICT;
CREATE INDEX hook_history_time ON hook_history (tenant_id, timestamp);
CREATE INDEX hook_history_correlation ON hook_history (tenant_id, correlation_id, timestamp);
CREATE INDEX hook_history_hook ON hook_history (tenant_id, hook_id, timestamp);
CREATE INDEX hook_history_retention ON hook_history (tenant_id, retention_priority, timestamp);
