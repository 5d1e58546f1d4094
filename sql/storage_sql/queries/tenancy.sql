-- Sealed mode: the context lives until the sync that ends the implicit transaction.
-- name: enter
-- in: capability text, store text
SELECT {{ schema }}.enter(:tenant, :capability, :store)
