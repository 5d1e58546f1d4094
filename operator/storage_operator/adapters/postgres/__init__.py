"""PostgreSQL as the operator meets it: connections, what is observed, what is applied."""
