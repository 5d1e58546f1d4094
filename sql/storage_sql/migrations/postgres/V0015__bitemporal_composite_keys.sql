-- name: bitemporal_composite_keys
-- role: owner
-- transactional: yes

-- At any moment of valid time there is at most one current version. Ranges stay inside the
-- constraint: their operators are not leakproof, so no query under the policies could use them.
ALTER TABLE {{ schema }}.entities ADD CONSTRAINT entities_one_current_version EXCLUDE USING gist (
    tenant_id WITH =, entity_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&)
    WHERE (tx_to = 9223372036854775807);
ALTER TABLE {{ schema }}.relationships ADD CONSTRAINT relationships_one_current_version EXCLUDE USING gist (
    tenant_id WITH =, relationship_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&)
    WHERE (tx_to = 9223372036854775807);
