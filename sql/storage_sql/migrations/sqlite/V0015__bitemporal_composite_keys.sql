-- name: bitemporal_composite_keys
-- role: owner
-- transactional: yes

CREATE TRIGGER entities_one_current_version BEFORE INSERT ON entities WHEN NEW.tx_to = 9223372036854775807 BEGIN
    SELECT RAISE(ABORT, 'entities_one_current_version')
     WHERE EXISTS (SELECT 1 FROM entities AS v
                    WHERE v.tenant_id = NEW.tenant_id AND v.entity_id = NEW.entity_id AND v.tx_to = 9223372036854775807
                      AND v.valid_time_start < NEW.valid_time_end AND v.valid_time_end > NEW.valid_time_start);
END;
CREATE TRIGGER relationships_one_current_version BEFORE INSERT ON relationships WHEN NEW.tx_to = 9223372036854775807 BEGIN
    SELECT RAISE(ABORT, 'relationships_one_current_version')
     WHERE EXISTS (SELECT 1 FROM relationships AS v
                    WHERE v.tenant_id = NEW.tenant_id AND v.relationship_id = NEW.relationship_id AND v.tx_to = 9223372036854775807
                      AND v.valid_time_start < NEW.valid_time_end AND v.valid_time_end > NEW.valid_time_start);
END;
