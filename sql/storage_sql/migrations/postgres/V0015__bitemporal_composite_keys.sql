-- name: bitemporal_composite_keys
-- role: owner
-- transactional: yes

-- At any moment of valid time an entity or relationship has at most one current version. Ranges stay
-- inside the constraint: their operators are not leakproof, so no query under the policies could use
-- them. Without btree_gist the same is kept by a trigger, under the lock of the tenant's clock.
{% for relationships in [false, true] %}
CREATE FUNCTION {{ schema }}.refuse_second_{% if relationships %}relationship{% else %}entity{% endif %}_version() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = NEW.tenant_id FOR UPDATE;
    IF EXISTS (
        SELECT FROM {{ schema }}.{% if relationships %}relationships{% else %}entities{% endif %} AS v
         WHERE v.tenant_id = NEW.tenant_id
           AND v.{% if relationships %}relationship_id = NEW.relationship_id{% else %}entity_id = NEW.entity_id{% endif %}

           AND v.tx_to = 9223372036854775807
           AND v.valid_time_start < NEW.valid_time_end AND v.valid_time_end > NEW.valid_time_start) THEN
        RAISE EXCEPTION 'a current version of this {% if relationships %}relationship{% else %}entity{% endif %} overlaps in valid time'
            USING ERRCODE = '23P01';
    END IF;
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION {{ schema }}.refuse_second_{% if relationships %}relationship{% else %}entity{% endif %}_version() IS
    'Keeps one current version where btree_gist is not installed.';
{% endfor %}

DO $migration$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gist') THEN
        ALTER TABLE {{ schema }}.entities ADD CONSTRAINT entities_one_current_version EXCLUDE USING gist (
            tenant_id WITH =, entity_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&)
            WHERE (tx_to = 9223372036854775807);
        ALTER TABLE {{ schema }}.relationships ADD CONSTRAINT relationships_one_current_version EXCLUDE USING gist (
            tenant_id WITH =, relationship_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&)
            WHERE (tx_to = 9223372036854775807);
        -- As with columns (see protect_table): what an index computes keeps no statistics either.
        ALTER INDEX {{ schema }}.entities_one_current_version ALTER COLUMN 3 SET STATISTICS 0;
        ALTER INDEX {{ schema }}.relationships_one_current_version ALTER COLUMN 3 SET STATISTICS 0;
    ELSE
        CREATE TRIGGER entities_one_current_version BEFORE INSERT ON {{ schema }}.entities
            FOR EACH ROW WHEN (NEW.tx_to = 9223372036854775807)
            EXECUTE FUNCTION {{ schema }}.refuse_second_entity_version();
        CREATE TRIGGER relationships_one_current_version BEFORE INSERT ON {{ schema }}.relationships
            FOR EACH ROW WHEN (NEW.tx_to = 9223372036854775807)
            EXECUTE FUNCTION {{ schema }}.refuse_second_relationship_version();
    END IF;
END
$migration$;
