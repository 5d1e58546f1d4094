-- name: graph_provenance
-- role: owner
-- transactional: yes

-- Who wrote, why, and from what: a row for each tick of which the writer said something, and for
-- each erasure, so that a copy that is kept in step learns of it.
CREATE TABLE {{ schema }}.graph_transactions (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    tx bigint NOT NULL CHECK (tx > 0),
    at timestamptz NOT NULL,
    actor text COLLATE "C" CHECK (length(actor) BETWEEN 1 AND 255),
    reason text COLLATE "C" CHECK (length(reason) BETWEEN 1 AND 500),
    sources jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(sources) = 'array'),
    erased_hash bytea CHECK (length(erased_hash) = 32),
    PRIMARY KEY (tenant_id, tx)
);
SELECT {{ schema }}.protect_table(format('%I.graph_transactions', {{ schema_name }}), true);

-- An embedding is kept once an entity, however many versions carry it. MAIN keeps it in the row as
-- long as the row fits its page, which makes a scan nearly three times as fast.
CREATE TABLE {{ schema }}.graph_embeddings (
    tenant_id text STORAGE MAIN COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    entity_id uuid NOT NULL,
    embedding_hash bytea NOT NULL CHECK (length(embedding_hash) = 32),
    dimension bigint NOT NULL CHECK (dimension BETWEEN 1 AND 16000),
    embedding {{ extensions }}.vector STORAGE MAIN NOT NULL,
    PRIMARY KEY (tenant_id, entity_id, embedding_hash)
);
SELECT {{ schema }}.protect_table(format('%I.graph_embeddings', {{ schema_name }}), true);

ALTER TABLE {{ schema }}.entities ADD COLUMN embedding_hash bytea;
ALTER TABLE {{ schema }}.entities ALTER COLUMN embedding_hash SET STATISTICS 0;

-- What a tick ended: a copy that is kept in step asks for it. Only superseded versions are in these
-- indexes, of which no installation has any yet: nothing is locked for long.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX entities_closed ON {{ schema }}.entities (tenant_id, tx_to, entity_id)
    WHERE tx_to < 9223372036854775807;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX relationships_closed ON {{ schema }}.relationships (tenant_id, tx_to, relationship_id)
    WHERE tx_to < 9223372036854775807;

-- Erasing takes the embeddings too, and is a tick of its own. Under the clock's lock nothing is added
-- meanwhile; where there is nothing to erase the clock stands still.
SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.erase_entity_as(
    subject uuid, reason text, actor text, OUT tx bigint, OUT at timestamptz, OUT erased bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    hash constant bytea := sha256(convert_to(subject::text, 'UTF8'));
    removed bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    PERFORM FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = asking FOR UPDATE;
    DELETE FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = asking AND (r.from_entity = subject OR r.to_entity = subject);
    GET DIAGNOSTICS erased = ROW_COUNT;
    DELETE FROM {{ schema }}.entities AS e WHERE e.tenant_id = asking AND e.entity_id = subject;
    GET DIAGNOSTICS removed = ROW_COUNT;
    erased := erased + removed;
    DELETE FROM {{ schema }}.graph_embeddings AS g WHERE g.tenant_id = asking AND g.entity_id = subject;
    IF erased > 0 THEN
        SELECT t.tx, t.at INTO tx, at FROM {{ schema }}.tick_once(asking, 0) AS t;
        INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'entity', hash, erased, reason);
        -- Two erasures in one transaction are one tick, whose row names the last of them.
        INSERT INTO {{ schema }}.graph_transactions AS g (tenant_id, tx, at, actor, reason, erased_hash)
        VALUES (asking, tx, at, actor, reason, hash)
        ON CONFLICT ON CONSTRAINT graph_transactions_pkey DO UPDATE SET erased_hash = excluded.erased_hash;
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION {{ schema }}.erase_entity(subject uuid, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    rows_gone bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    SELECT e.erased INTO rows_gone FROM {{ schema }}.erase_entity_as(subject, reason, NULL) AS e;
    IF rows_gone = 0 THEN
        INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'entity', sha256(convert_to(subject::text, 'UTF8')), 0, reason);
    END IF;
    RETURN rows_gone;
END
$function$;
COMMENT ON FUNCTION {{ schema }}.erase_entity_as(uuid, text, text) IS 'Removes all versions of an entity, its relationships and embeddings in one tick, and leaves a trace.';
SET LOCAL ROLE {{ owner }};

COMMENT ON TABLE {{ schema }}.graph_transactions IS 'Who wrote to the graph, why, and from what; a row for each tick of which something was said.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.tx IS 'Number of the transaction on the tenant''s clock.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.at IS 'Time of the transaction on the tenant''s clock.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.actor IS 'Who wrote, as the writer says.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.reason IS 'Why, as the writer says.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.sources IS 'Ids of what it was learned from.';
COMMENT ON COLUMN {{ schema }}.graph_transactions.erased_hash IS 'SHA-256 of the id of the entity that this transaction erased.';
COMMENT ON TABLE {{ schema }}.graph_embeddings IS 'Embeddings of entities, each kept once, whatever number of versions carry it.';
COMMENT ON COLUMN {{ schema }}.graph_embeddings.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.graph_embeddings.entity_id IS 'The entity that it describes.';
COMMENT ON COLUMN {{ schema }}.graph_embeddings.embedding_hash IS 'SHA-256 of the embedding as little-endian float32.';
COMMENT ON COLUMN {{ schema }}.graph_embeddings.dimension IS 'Number of its components.';
COMMENT ON COLUMN {{ schema }}.graph_embeddings.embedding IS 'The embedding.';
COMMENT ON COLUMN {{ schema }}.entities.embedding_hash IS 'Names the embedding of this version; NULL for none.';
