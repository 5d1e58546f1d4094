"""The PostgreSQL backend: a tenant's statements, each entered, run and committed in one round trip."""
