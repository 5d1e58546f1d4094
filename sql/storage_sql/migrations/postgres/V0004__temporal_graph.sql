-- name: temporal_graph
-- role: owner
-- transactional: yes

-- One row a tenant; locking it orders the tenant's commits. Low fillfactor: the row is updated on
-- every append, and updates within the page need no index entry.
CREATE TABLE {{ schema }}.tenant_clock (
    tenant_id text COLLATE "C" PRIMARY KEY CHECK (length(tenant_id) BETWEEN 3 AND 255),
    n bigint NOT NULL DEFAULT 0 CHECK (n >= 0),
    at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
SELECT {{ schema }}.protect_table(format('%I.tenant_clock', {{ schema_name }}));

CREATE TABLE {{ schema }}.entities (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    entity_id uuid NOT NULL,
    entity_type text COLLATE "C" NOT NULL CHECK (length(entity_type) BETWEEN 1 AND 255),
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 500),
    properties jsonb NOT NULL DEFAULT '{}',
    valid_time_start timestamptz NOT NULL,
    valid_time_end timestamptz NOT NULL DEFAULT 'infinity',
    transaction_time_start timestamptz NOT NULL,
    transaction_time_end timestamptz NOT NULL DEFAULT 'infinity',
    tx_from bigint NOT NULL CHECK (tx_from > 0),
    tx_to bigint NOT NULL DEFAULT 9223372036854775807,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, entity_id, tx_from, valid_time_start),
    CONSTRAINT valid_time_range CHECK (valid_time_start < valid_time_end),
    CONSTRAINT tx_time_range CHECK (transaction_time_start < transaction_time_end),
    CONSTRAINT tx_range CHECK (tx_from < tx_to)
);
CREATE INDEX entities_current ON {{ schema }}.entities (tenant_id, entity_id, valid_time_start)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX entities_current_type ON {{ schema }}.entities (tenant_id, entity_type, entity_id)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX entities_current_name ON {{ schema }}.entities (tenant_id, name, entity_id)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX entities_changes ON {{ schema }}.entities (tenant_id, tx_from, entity_id);
SELECT {{ schema }}.protect_table(format('%I.entities', {{ schema_name }}), true);

CREATE TABLE {{ schema }}.relationships (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    relationship_id uuid NOT NULL,
    from_entity uuid NOT NULL,
    to_entity uuid NOT NULL,
    relationship_type text COLLATE "C" NOT NULL CHECK (length(relationship_type) BETWEEN 1 AND 255),
    properties jsonb NOT NULL DEFAULT '{}',
    valid_time_start timestamptz NOT NULL,
    valid_time_end timestamptz NOT NULL DEFAULT 'infinity',
    transaction_time_start timestamptz NOT NULL,
    transaction_time_end timestamptz NOT NULL DEFAULT 'infinity',
    tx_from bigint NOT NULL CHECK (tx_from > 0),
    tx_to bigint NOT NULL DEFAULT 9223372036854775807,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, relationship_id, tx_from, valid_time_start),
    CONSTRAINT valid_time_range CHECK (valid_time_start < valid_time_end),
    CONSTRAINT tx_time_range CHECK (transaction_time_start < transaction_time_end),
    CONSTRAINT tx_range CHECK (tx_from < tx_to)
);
CREATE INDEX relationships_current ON {{ schema }}.relationships (tenant_id, relationship_id, valid_time_start)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX relationships_current_from ON {{ schema }}.relationships
    (tenant_id, from_entity, relationship_type, valid_time_start) INCLUDE (to_entity, valid_time_end)
    WHERE tx_to = 9223372036854775807;
CREATE INDEX relationships_current_to ON {{ schema }}.relationships
    (tenant_id, to_entity, relationship_type, valid_time_start) INCLUDE (from_entity, valid_time_end)
    WHERE tx_to = 9223372036854775807;
-- Traversal as of a past transaction must find superseded versions by their ends too.
CREATE INDEX relationships_from ON {{ schema }}.relationships (tenant_id, from_entity, tx_from);
CREATE INDEX relationships_to ON {{ schema }}.relationships (tenant_id, to_entity, tx_from);
CREATE INDEX relationships_changes ON {{ schema }}.relationships (tenant_id, tx_from, relationship_id);
SELECT {{ schema }}.protect_table(format('%I.relationships', {{ schema_name }}), true);

-- What was physically removed on request, without what it was.
CREATE TABLE {{ schema }}.erasures (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    erasure_id uuid NOT NULL DEFAULT gen_random_uuid(),
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('entity', 'stream', 'hooks')),
    subject_hash bytea NOT NULL CHECK (length(subject_hash) = 32),
    rows_erased bigint NOT NULL CHECK (rows_erased >= 0),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    erased_by text COLLATE "C" NOT NULL DEFAULT session_user,
    PRIMARY KEY (tenant_id, erased_at, erasure_id)
);
SELECT {{ schema }}.protect_table(format('%I.erasures', {{ schema_name }}), true);

-- Advances the tenant's clock, unless this transaction already has: one transaction is one tick,
-- whatever it closes, except that no version ends in the tick that made it (`beyond`). The row is
-- made on first use. Not granted to tenants: they lock the row themselves.
CREATE FUNCTION {{ schema }}.tick_once(for_tenant text, beyond bigint, OUT tx bigint, OUT at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    INSERT INTO {{ schema }}.tenant_clock (tenant_id) VALUES (for_tenant) ON CONFLICT (tenant_id) DO NOTHING;
    SELECT c.n, c.at INTO tx, at FROM {{ schema }}.tenant_clock AS c
     WHERE c.tenant_id = for_tenant AND c.n > beyond AND c.xmin = pg_current_xact_id()::xid;
    IF NOT FOUND THEN
        UPDATE {{ schema }}.tenant_clock AS c
           SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
         WHERE c.tenant_id = for_tenant
        RETURNING c.n, c.at INTO tx, at;
    END IF;
END
$function$;

{% for relationships in [false, true] %}
-- Ends the current versions that overlap [valid_start, valid_end) and returns the transaction they
-- end in; what remains of them outside the range is the caller's to insert again under that number.
CREATE FUNCTION {{ schema }}.close_{% if relationships %}relationship{% else %}entity{% endif %}_versions(
    subject uuid, valid_start timestamptz, valid_end timestamptz,
    OUT tx bigint, OUT at timestamptz, OUT closed bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.writing_tenant();
    latest bigint;
    ending record;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    -- The clock is locked before any version is read.
    PERFORM {{ schema }}.tick_once(asking, 0);
    SELECT coalesce(max(v.tx_from), 0) INTO latest
      FROM {{ schema }}.{% if relationships %}relationships{% else %}entities{% endif %} AS v
     WHERE v.tenant_id = asking AND v.{% if relationships %}relationship_id{% else %}entity_id{% endif %} = subject
       AND v.tx_to = 9223372036854775807
       AND v.valid_time_start < valid_end AND v.valid_time_end > valid_start;
    SELECT t.tx, t.at INTO ending FROM {{ schema }}.tick_once(asking, latest) AS t;
    UPDATE {{ schema }}.{% if relationships %}relationships{% else %}entities{% endif %} AS v
       SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND v.{% if relationships %}relationship_id{% else %}entity_id{% endif %} = subject
       AND v.tx_to = 9223372036854775807
       AND v.valid_time_start < valid_end AND v.valid_time_end > valid_start;
    GET DIAGNOSTICS closed = ROW_COUNT;
    tx := ending.tx;
    at := ending.at;
END
$function$;
{% endfor %}

-- Ends an entity and, in the same tick, every relationship that touches it.
CREATE FUNCTION {{ schema }}.retire_entity(
    subject uuid, OUT tx bigint, OUT at timestamptz, OUT closed bigint, OUT relationships_closed bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.writing_tenant();
    latest bigint;
    ending record;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    PERFORM {{ schema }}.tick_once(asking, 0);
    SELECT greatest(
        (SELECT max(e.tx_from) FROM {{ schema }}.entities AS e
          WHERE e.tenant_id = asking AND e.entity_id = subject AND e.tx_to = 9223372036854775807),
        (SELECT max(r.tx_from) FROM {{ schema }}.relationships AS r
          WHERE r.tenant_id = asking AND r.from_entity = subject AND r.tx_to = 9223372036854775807),
        (SELECT max(r.tx_from) FROM {{ schema }}.relationships AS r
          WHERE r.tenant_id = asking AND r.to_entity = subject AND r.tx_to = 9223372036854775807),
        0) INTO latest;
    SELECT t.tx, t.at INTO ending FROM {{ schema }}.tick_once(asking, latest) AS t;
    UPDATE {{ schema }}.entities AS v SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND v.entity_id = subject AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS closed = ROW_COUNT;
    UPDATE {{ schema }}.relationships AS v SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND (v.from_entity = subject OR v.to_entity = subject)
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS relationships_closed = ROW_COUNT;
    tx := ending.tx;
    at := ending.at;
END
$function$;

-- Owned by maintenance, so that erasing works over the quota too; the tenant is in every predicate.
SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.erase_entity(subject uuid, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    entity_rows bigint;
    relationship_rows bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    DELETE FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = asking AND (r.from_entity = subject OR r.to_entity = subject);
    GET DIAGNOSTICS relationship_rows = ROW_COUNT;
    DELETE FROM {{ schema }}.entities AS e WHERE e.tenant_id = asking AND e.entity_id = subject;
    GET DIAGNOSTICS entity_rows = ROW_COUNT;
    INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'entity', sha256(convert_to(subject::text, 'UTF8')), entity_rows + relationship_rows, reason);
    RETURN entity_rows + relationship_rows;
END
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.tenant_clock IS 'The clock that orders a tenant''s commits; one row a tenant.';
COMMENT ON COLUMN {{ schema }}.tenant_clock.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.tenant_clock.n IS 'Number of the last tick.';
COMMENT ON COLUMN {{ schema }}.tenant_clock.at IS 'Time of the last tick; never goes back.';
COMMENT ON TABLE {{ schema }}.entities IS 'Bi-temporal nodes: append-only versions.';
COMMENT ON COLUMN {{ schema }}.entities.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.entities.entity_id IS 'Identity of the entity over all versions.';
COMMENT ON COLUMN {{ schema }}.entities.entity_type IS 'Kind of entity.';
COMMENT ON COLUMN {{ schema }}.entities.name IS 'Name of the entity.';
COMMENT ON COLUMN {{ schema }}.entities.properties IS 'Properties of this version.';
COMMENT ON COLUMN {{ schema }}.entities.valid_time_start IS 'Start of the time in the world in which this version is true, inclusive.';
COMMENT ON COLUMN {{ schema }}.entities.valid_time_end IS 'End of that time, exclusive; infinity until further notice.';
COMMENT ON COLUMN {{ schema }}.entities.transaction_time_start IS 'Clock time at which this version was recorded.';
COMMENT ON COLUMN {{ schema }}.entities.transaction_time_end IS 'Clock time at which it was superseded; infinity while current.';
COMMENT ON COLUMN {{ schema }}.entities.tx_from IS 'Number of the transaction, on the tenant''s clock, that recorded this version.';
COMMENT ON COLUMN {{ schema }}.entities.tx_to IS 'Number of the transaction that superseded it; the largest bigint while current.';
COMMENT ON COLUMN {{ schema }}.entities.created_at IS 'When the row was first written.';
COMMENT ON TABLE {{ schema }}.relationships IS 'Bi-temporal edges: append-only versions.';
COMMENT ON COLUMN {{ schema }}.relationships.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.relationships.relationship_id IS 'Identity of the relationship over all versions.';
COMMENT ON COLUMN {{ schema }}.relationships.from_entity IS 'The entity it starts at.';
COMMENT ON COLUMN {{ schema }}.relationships.to_entity IS 'The entity it leads to.';
COMMENT ON COLUMN {{ schema }}.relationships.relationship_type IS 'Kind of relationship.';
COMMENT ON COLUMN {{ schema }}.relationships.properties IS 'Properties of this version.';
COMMENT ON COLUMN {{ schema }}.relationships.valid_time_start IS 'Start of the time in the world in which this version is true, inclusive.';
COMMENT ON COLUMN {{ schema }}.relationships.valid_time_end IS 'End of that time, exclusive; infinity until further notice.';
COMMENT ON COLUMN {{ schema }}.relationships.transaction_time_start IS 'Clock time at which this version was recorded.';
COMMENT ON COLUMN {{ schema }}.relationships.transaction_time_end IS 'Clock time at which it was superseded; infinity while current.';
COMMENT ON COLUMN {{ schema }}.relationships.tx_from IS 'Number of the transaction, on the tenant''s clock, that recorded this version.';
COMMENT ON COLUMN {{ schema }}.relationships.tx_to IS 'Number of the transaction that superseded it; the largest bigint while current.';
COMMENT ON COLUMN {{ schema }}.relationships.created_at IS 'When the row was first written.';
COMMENT ON TABLE {{ schema }}.erasures IS 'Traces of physical erasure on request.';
COMMENT ON COLUMN {{ schema }}.erasures.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.erasures.erasure_id IS 'Id of the erasure.';
COMMENT ON COLUMN {{ schema }}.erasures.erased_at IS 'When it happened.';
COMMENT ON COLUMN {{ schema }}.erasures.kind IS 'entity, stream or hooks.';
COMMENT ON COLUMN {{ schema }}.erasures.subject_hash IS 'SHA-256 of the id of what was erased.';
COMMENT ON COLUMN {{ schema }}.erasures.rows_erased IS 'Rows removed.';
COMMENT ON COLUMN {{ schema }}.erasures.reason IS 'Reason given.';
COMMENT ON COLUMN {{ schema }}.erasures.erased_by IS 'The login that asked.';
COMMENT ON FUNCTION {{ schema }}.tick_once(text, bigint) IS 'Advances a tenant''s clock, once a transaction.';
COMMENT ON FUNCTION {{ schema }}.close_entity_versions(uuid, timestamptz, timestamptz) IS 'Ends the current versions of an entity that overlap a range of valid time.';
COMMENT ON FUNCTION {{ schema }}.close_relationship_versions(uuid, timestamptz, timestamptz) IS 'Ends the current versions of a relationship that overlap a range of valid time.';
COMMENT ON FUNCTION {{ schema }}.retire_entity(uuid) IS 'Ends an entity and every relationship that touches it, in one tick.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.erase_entity(uuid, text) IS 'Removes all versions of an entity and its relationships, and leaves a trace.';
SET LOCAL ROLE {{ owner }};
