-- name: event_log
-- role: owner
-- transactional: yes

CREATE TABLE event_streams (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    stream TEXT NOT NULL CHECK (length(stream) BETWEEN 1 AND 255),
    head INTEGER NOT NULL DEFAULT 0 CHECK (head >= 0),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_log (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    event_id TEXT NOT NULL CHECK (length(event_id) = 36),
    event_type TEXT NOT NULL CHECK (length(event_type) BETWEEN 1 AND 255),
    correlation_id TEXT NOT NULL CHECK (length(correlation_id) BETWEEN 1 AND 255),
    stream TEXT NOT NULL CHECK (length(stream) BETWEEN 1 AND 255),
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    position INTEGER NOT NULL CHECK (position > 0),
    timestamp INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL,
    language TEXT NOT NULL CHECK (length(language) <= 50),
    payload TEXT NOT NULL CHECK (json_valid(payload)),
    PRIMARY KEY (tenant_id, timestamp, event_id)
) STRICT;
CREATE INDEX event_log_position ON event_log (tenant_id, position);
CREATE UNIQUE INDEX event_log_stream ON event_log (tenant_id, stream, sequence);
CREATE INDEX event_log_correlation ON event_log (tenant_id, correlation_id, timestamp);
CREATE INDEX event_log_type ON event_log (tenant_id, event_type, timestamp);
