-- name: vector_search
-- role: owner
-- transactional: yes

-- Makes the table of one dimension, hash-partitioned by tenant, or brings one that is there up to this form; does nothing
-- to one that has it. The vector stays in the row (STORAGE PLAIN), which makes an exact scan nearly three times as
-- fast, as long as a row with it still fits a page; above 2,000 dimensions the vector is external
-- and a generated halfvec stays in the row; above 4,000 there is no short form, only exact search.
CREATE OR REPLACE FUNCTION {{ schema }}.create_vector_table(dimension integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    leaves constant integer := 32;
    table_name constant text := format('vector_embeddings_%s', dimension);
    parent constant text := format('%I.%I', {{ schema_name }}, table_name);
    vector_type constant text := format('%I.vector(%s)', {{ extensions_name }}, dimension);
    half_type constant text := format('%I.halfvec(%s)', {{ extensions_name }}, dimension);
    -- A row holds at most 8,160 bytes; the last few dimensions leave too little for the keys, and
    -- MAIN keeps the vector in the row unless that row is impossible.
    vector_storage constant text := CASE
        WHEN dimension <= 1970 THEN 'PLAIN' WHEN dimension <= 2000 THEN 'MAIN' ELSE 'EXTERNAL' END;
    half_storage constant text := CASE WHEN dimension <= 3940 THEN 'PLAIN' ELSE 'MAIN' END;
    half_column constant text := CASE WHEN dimension BETWEEN 2001 AND 4000 THEN format(
        'embedding_half %s STORAGE %s GENERATED ALWAYS AS (embedding::%s) STORED,', half_type, half_storage, half_type)
        ELSE '' END;
    row_vector_bytes constant integer := CASE
        WHEN dimension <= 2000 THEN 4 * dimension WHEN dimension <= 4000 THEN 2 * dimension ELSE 0 END;
    leaf text;
BEGIN
    IF dimension IS NULL OR dimension NOT BETWEEN 1 AND 16000 THEN
        RAISE EXCEPTION 'dimension must be from 1 to 16000, not %', dimension USING ERRCODE = '22023';
    END IF;
    IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass(parent) AND a.attname = 'document_id') THEN
        RETURN;
    END IF;
    IF to_regclass(parent) IS NULL THEN
        EXECUTE format($ddl$
            CREATE TABLE %s (
                tenant_id text STORAGE MAIN COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
                id text STORAGE MAIN COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
                scope text STORAGE MAIN COLLATE "C" NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
                embedding %s STORAGE %s NOT NULL,
                %s
                content text,
                metadata jsonb NOT NULL DEFAULT '{}',
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (tenant_id, id)
            ) PARTITION BY HASH (tenant_id)$ddl$,
            parent, vector_type, vector_storage, half_column);
        EXECUTE format('CREATE INDEX %I ON %s (tenant_id, scope, created_at, id)', table_name || '_scope', parent);
        FOR remainder IN 0..leaves - 1 LOOP
            leaf := format('%I.%I', {{ schema_name }}, table_name || format('_p%s', lpad(remainder::text, 2, '0')));
            EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                leaf, parent, leaves, remainder);
            -- A vector in the row always crosses the limit that starts moving columns out; without
            -- this target the short ids would be moved out first and every scan would fetch them.
            EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = %s, autovacuum_vacuum_scale_factor = 0.05,'
                ' autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 10,'
                ' autovacuum_vacuum_cost_limit = 1000)', leaf, least(8160, row_vector_bytes + 1024));
        END LOOP;
        EXECUTE format('COMMENT ON TABLE %s IS %L', parent,
            format('Vectors of %s dimensions, 32 hash leaves by tenant.', dimension));
        EXECUTE format(
            'COMMENT ON COLUMN %1$s.tenant_id IS ''The tenant that owns the row; first in every key.'';'
            'COMMENT ON COLUMN %1$s.id IS ''Id of the vector, given by the caller.'';'
            'COMMENT ON COLUMN %1$s.scope IS ''Scope within the tenant.'';'
            'COMMENT ON COLUMN %1$s.embedding IS ''The vector, in single precision.'';'
            'COMMENT ON COLUMN %1$s.content IS ''The text it was made of, for hybrid search.'';'
            'COMMENT ON COLUMN %1$s.metadata IS ''Free metadata of the caller.'';'
            'COMMENT ON COLUMN %1$s.created_at IS ''When the row was first written.'';'
            'COMMENT ON COLUMN %1$s.updated_at IS ''When the row was last changed.''', parent);
        IF half_column <> '' THEN
            EXECUTE format('COMMENT ON COLUMN %s.embedding_half IS ''The vector in half precision, for scan and index.''',
                parent);
        END IF;
    ELSIF vector_storage = 'MAIN' THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN embedding SET STORAGE MAIN', parent);
    ELSIF half_column <> '' AND half_storage = 'MAIN' THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN embedding_half SET STORAGE MAIN', parent);
    END IF;
    EXECUTE format($ddl$
        ALTER TABLE %s
            ADD COLUMN document_id text STORAGE MAIN COLLATE "C" CHECK (length(document_id) BETWEEN 1 AND 255),
            ADD COLUMN position bigint CHECK (position >= 0),
            ADD COLUMN terms tsvector$ddl$, parent);
    EXECUTE format('CREATE INDEX %I ON %s (tenant_id, document_id, position) WHERE document_id IS NOT NULL',
        table_name || '_document', parent);
    EXECUTE format(
        'COMMENT ON COLUMN %1$s.document_id IS ''The document that the content is a part of.'';'
        'COMMENT ON COLUMN %1$s.position IS ''Its place in the document.'';'
        'COMMENT ON COLUMN %1$s.terms IS ''The different words of the content, as the library found them.''', parent);
    PERFORM {{ schema }}.protect_table(parent);
END
$function$;

SELECT {{ schema }}.create_vector_table(substring(c.relname FROM '[0-9]+$')::integer)
  FROM pg_catalog.pg_class AS c
 WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = {{ schema_name }}) AND c.relkind = 'p' AND c.relname ~ '^vector_embeddings_[0-9]+$';

COMMENT ON FUNCTION {{ schema }}.create_vector_table(integer) IS 'Makes the table of one vector dimension, or brings it up.';
