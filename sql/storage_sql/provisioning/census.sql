-- Tenants by state, the connections that their limits add up to, and the first active ones by resource.
SELECT count(*) FILTER (WHERE t.state = 'active'),
       count(*) FILTER (WHERE t.state = 'retained'),
       COALESCE(sum(t.connection_limit * l.logins) FILTER (WHERE t.state = 'active'), 0)::bigint,
       count(*) FILTER (WHERE t.state = 'active' AND t.isolation = 'role' AND t.connection_limit IS NULL),
       (array_agg(t.namespace || '/' || t.name ORDER BY t.namespace, t.name) FILTER (WHERE t.state = 'active'))[1:10]
  FROM {{ schema }}.tenants t
  LEFT JOIN LATERAL (SELECT count(*) AS logins FROM {{ schema }}.tenant_logins l WHERE l.tenant = t.tenant) l ON true
