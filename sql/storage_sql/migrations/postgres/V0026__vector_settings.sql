-- name: vector_settings
-- role: owner
-- transactional: yes

-- What a tenant may know of how the cluster runs its vectors: how many candidates an index search keeps, and from how many
-- vectors of a tenant on an index is built. Of the other columns and rows of `components` it sees nothing, and whatever the
-- column holds, the answer is one row of numbers in their bounds, or NULL where the cluster says nothing.
CREATE FUNCTION {{ schema }}.vector_settings(dimension bigint)
RETURNS TABLE (ef_search bigint, exact_scan_threshold bigint)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE WHEN jsonb_typeof(said.ef_search) = 'number'
                THEN least(greatest((said.ef_search #>> '{}')::numeric, 1), 1000)::bigint END,
           CASE WHEN jsonb_typeof(said.threshold) = 'number'
                THEN least(greatest((said.threshold #>> '{}')::numeric, 0), 100000000)::bigint END
      FROM (VALUES (1)) AS always (one)
      LEFT JOIN (
          SELECT c.parameters -> 'ef_search' AS ef_search,
                 c.parameters #> ARRAY['dimensions', vector_settings.dimension::text, 'exact_scan_threshold'] AS threshold
            FROM {{ schema }}.components AS c WHERE c.store = 'vectors'
      ) AS said ON true
$function$;

COMMENT ON FUNCTION {{ schema }}.vector_settings(bigint) IS
    'What the cluster says of vectors of one dimension: candidates of an index search, and the threshold of an exact scan.';
