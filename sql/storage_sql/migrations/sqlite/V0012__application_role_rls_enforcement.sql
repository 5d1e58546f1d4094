-- name: application_role_rls_enforcement
-- role: owner
-- transactional: yes

-- SQLite has neither roles nor row-level security: isolation is the library's tenant predicate on
-- every statement. The number is kept so that both dialects count alike.
