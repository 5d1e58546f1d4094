-- The connections that the limits of active tenants add up to; a login that a rotation leaves for its overlap counts too.
SELECT COALESCE(sum(t.connection_limit * l.logins), 0)::bigint
  FROM {{ schema }}.tenants t
  JOIN LATERAL (SELECT count(*) AS logins FROM {{ schema }}.tenant_logins l WHERE l.tenant = t.tenant) l ON true
 WHERE t.state = 'active'
