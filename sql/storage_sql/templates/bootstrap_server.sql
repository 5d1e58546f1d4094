-- Roles of one installation; run as a superuser, any number of times.
{% for role in roles %}
DO $bootstrap$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{ role.text }}) THEN
        CREATE ROLE {{ role.name }};
    END IF;
END $bootstrap$;
ALTER ROLE {{ role.name }} NOSUPERUSER NOCREATEDB NOREPLICATION NOBYPASSRLS{% if role.login %} LOGIN{% else %} NOLOGIN{% endif %}{% if role.createrole %} CREATEROLE{% else %} NOCREATEROLE{% endif %};
COMMENT ON ROLE {{ role.name }} IS {{ role.comment }};
{% endfor %}
GRANT {{ owner }} TO {{ maintenance }} WITH INHERIT TRUE, SET TRUE;
GRANT {{ owner }} TO {{ operator }} WITH INHERIT TRUE, SET TRUE;
GRANT {{ maintenance }} TO {{ operator }} WITH INHERIT FALSE, SET TRUE;
-- A tenant's logins are made in one of many roles: PostgreSQL makes the creator a member of each
-- role it creates, and one role with all memberships makes every later CREATE ROLE slower.
{% for shard in shards %}
GRANT {{ shard }} TO {{ owner }} WITH INHERIT FALSE, SET TRUE;
{% endfor %}
GRANT pg_signal_backend, pg_read_all_stats TO {{ owner }};
{% if has_password %}
ALTER ROLE {{ operator }} PASSWORD {{ password }};
{% endif %}
