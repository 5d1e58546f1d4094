-- name: quick_reads
-- role: owner
-- transactional: yes

-- Nothing to do in this dialect. The number is kept so that both count alike.
