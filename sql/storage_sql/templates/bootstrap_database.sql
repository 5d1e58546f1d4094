-- The database of one installation; run inside it as a superuser, any number of times.
REVOKE CONNECT, TEMPORARY ON DATABASE {{ database }} FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE {{ database }} TO {{ owner }} WITH GRANT OPTION;
GRANT CONNECT ON DATABASE {{ database }} TO {{ operator }};
ALTER DATABASE {{ database }} SET temp_file_limit = {{ temp_file_limit }};
ALTER ROLE {{ operator }} IN DATABASE {{ database }} SET search_path = pg_catalog, pg_temp;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
-- The audit looks which columns have statistics, never into them.
GRANT SELECT (starelid, staattnum) ON pg_catalog.pg_statistic TO {{ owner }};
-- Large objects know no row-level security.
DO $bootstrap$
DECLARE
    routine regprocedure;
BEGIN
    FOR routine IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc AS p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace
           AND (p.proname ^@ 'lo_' OR p.proname IN ('loread', 'lowrite'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
    END LOOP;
END
$bootstrap$;
{% for extension in extensions %}
CREATE EXTENSION IF NOT EXISTS {{ extension }} WITH SCHEMA public;
{% endfor %}
CREATE SCHEMA IF NOT EXISTS {{ schema }} AUTHORIZATION {{ owner }};
COMMENT ON SCHEMA {{ schema }} IS {{ schema_comment }};
REVOKE ALL ON SCHEMA {{ schema }} FROM PUBLIC;
SET ROLE {{ owner }};
CREATE TABLE IF NOT EXISTS {{ schema }}.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user,
    duration_ms integer NOT NULL DEFAULT 0,
    release text NOT NULL
);
CREATE TABLE IF NOT EXISTS {{ schema }}.migration_lock (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    claimed_by_pid integer,
    claimed_backend_start timestamptz
);
INSERT INTO {{ schema }}.migration_lock DEFAULT VALUES ON CONFLICT (singleton) DO NOTHING;
COMMENT ON TABLE {{ schema }}.schema_migrations IS 'Migrations that were applied.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.version IS 'Number of the migration.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.name IS 'Name of the migration.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.checksum IS 'SHA-256 of its source text.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.applied_at IS 'When it was applied.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.applied_by IS 'The login that applied it.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.duration_ms IS 'How long it took, in milliseconds.';
COMMENT ON COLUMN {{ schema }}.schema_migrations.release IS 'The release it came with.';
COMMENT ON TABLE {{ schema }}.migration_lock IS 'The row that a runner locks while it applies a file.';
COMMENT ON COLUMN {{ schema }}.migration_lock.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN {{ schema }}.migration_lock.claimed_by_pid IS 'Backend that applies a file without a transaction.';
COMMENT ON COLUMN {{ schema }}.migration_lock.claimed_backend_start IS 'When that backend started.';
RESET ROLE;
