-- Tenants by state, and the connections that their limits add up to.
SELECT count(*) FILTER (WHERE t.state = 'active'),
       count(*) FILTER (WHERE t.state = 'retained'),
       COALESCE(sum(t.connection_limit * l.logins) FILTER (WHERE t.state = 'active'), 0)::bigint,
       count(*) FILTER (WHERE t.state = 'active' AND t.isolation = 'role' AND t.connection_limit IS NULL)
  FROM {{ schema }}.tenants t
  LEFT JOIN LATERAL (SELECT count(*) AS logins FROM {{ schema }}.tenant_logins l WHERE l.tenant = t.tenant) l ON true
