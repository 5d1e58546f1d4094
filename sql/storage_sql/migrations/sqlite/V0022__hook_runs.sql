-- name: hook_runs
-- role: owner
-- transactional: yes

-- Ids that callers gave to events, so that a second attempt is recognized.
CREATE TABLE event_ids (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    event_id TEXT NOT NULL CHECK (length(event_id) = 36),
    stream TEXT NOT NULL CHECK (length(stream) BETWEEN 1 AND 255),
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    position INTEGER NOT NULL CHECK (position > 0),
    timestamp INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_consumers (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    consumer TEXT NOT NULL CHECK (length(consumer) BETWEEN 1 AND 255),
    position INTEGER NOT NULL CHECK (position >= 0),
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, consumer)
) STRICT, WITHOUT ROWID;

-- Hooks often take less than a millisecond; rows from before have only duration_ms.
ALTER TABLE hook_history ADD COLUMN duration_us INTEGER CHECK (duration_us >= 0);
ALTER TABLE hook_history ADD COLUMN failed INTEGER NOT NULL DEFAULT 0 CHECK (failed IN (0, 1));
CREATE INDEX hook_history_type ON hook_history (tenant_id, hook_type, timestamp);
CREATE INDEX hook_history_component ON hook_history (tenant_id, triggering_component, timestamp);
