"""The outside world: PostgreSQL, Kubernetes, folders of manifests. Only here may psycopg and kubernetes be imported."""
