-- name: initial_setup
-- role: owner
-- transactional: yes

-- Times are microseconds since 1970 UTC; the largest and smallest integer stand for the infinities.
-- Documents are JSON text, vectors little-endian float32, truth is 0 or 1.
CREATE TABLE installation (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER) * 1000000)
) STRICT;
INSERT INTO installation DEFAULT VALUES;
