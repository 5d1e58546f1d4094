-- name: key_gateway
-- role: owner
-- transactional: yes

ALTER TABLE api_keys ADD COLUMN prefix TEXT CHECK (length(prefix) BETWEEN 1 AND 50);
-- A key has one successor: of two rotations at once one wins.
CREATE UNIQUE INDEX api_keys_successor ON api_keys (tenant_id, rotated_from) WHERE rotated_from IS NOT NULL;
