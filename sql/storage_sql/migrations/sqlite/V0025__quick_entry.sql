-- name: quick_entry
-- role: owner
-- transactional: yes

-- Nothing to enter: the tenant is a part of every key. The number is kept so that both dialects count alike.
