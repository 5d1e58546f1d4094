-- name: hook_history
-- role: owner
-- transactional: yes

CREATE TABLE {{ schema }}.hook_history (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    execution_id uuid NOT NULL,
    hook_id text COLLATE "C" NOT NULL CHECK (length(hook_id) BETWEEN 1 AND 255),
    hook_type text COLLATE "C" NOT NULL CHECK (length(hook_type) BETWEEN 1 AND 100),
    correlation_id text COLLATE "C" NOT NULL CHECK (length(correlation_id) BETWEEN 1 AND 255),
    hook_context bytea STORAGE EXTERNAL NOT NULL,
    is_compressed boolean NOT NULL DEFAULT false,
    original_size_bytes bigint NOT NULL CHECK (original_size_bytes >= 0),
    result_data jsonb NOT NULL,
    timestamp timestamptz NOT NULL,
    duration_ms bigint NOT NULL CHECK (duration_ms >= 0),
    triggering_component text COLLATE "C" NOT NULL CHECK (length(triggering_component) BETWEEN 1 AND 255),
    tags text[] COLLATE "C" NOT NULL DEFAULT '{}',
    retention_priority bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, execution_id)
);
CREATE INDEX hook_history_time ON {{ schema }}.hook_history (tenant_id, timestamp);
CREATE INDEX hook_history_correlation ON {{ schema }}.hook_history (tenant_id, correlation_id, timestamp);
CREATE INDEX hook_history_hook ON {{ schema }}.hook_history (tenant_id, hook_id, timestamp);
CREATE INDEX hook_history_retention ON {{ schema }}.hook_history (tenant_id, retention_priority, timestamp);
SELECT {{ schema }}.protect_table(format('%I.hook_history', {{ schema_name }}), true);

SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.erase_hook_executions(subject text, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    erased bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    DELETE FROM {{ schema }}.hook_history AS h WHERE h.tenant_id = asking AND h.correlation_id = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'hooks', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.hook_history IS 'Executions of hooks, append-only.';
COMMENT ON COLUMN {{ schema }}.hook_history.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.hook_history.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN {{ schema }}.hook_history.hook_id IS 'The hook.';
COMMENT ON COLUMN {{ schema }}.hook_history.hook_type IS 'Kind of hook.';
COMMENT ON COLUMN {{ schema }}.hook_history.correlation_id IS 'What the execution belongs to.';
COMMENT ON COLUMN {{ schema }}.hook_history.hook_context IS 'The context the hook was given.';
COMMENT ON COLUMN {{ schema }}.hook_history.is_compressed IS 'Whether the context is zstd.';
COMMENT ON COLUMN {{ schema }}.hook_history.original_size_bytes IS 'Bytes of the context before compression.';
COMMENT ON COLUMN {{ schema }}.hook_history.result_data IS 'What the hook returned.';
COMMENT ON COLUMN {{ schema }}.hook_history.timestamp IS 'When it ran.';
COMMENT ON COLUMN {{ schema }}.hook_history.duration_ms IS 'How long it ran, in milliseconds.';
COMMENT ON COLUMN {{ schema }}.hook_history.triggering_component IS 'What triggered it.';
COMMENT ON COLUMN {{ schema }}.hook_history.tags IS 'Tags.';
COMMENT ON COLUMN {{ schema }}.hook_history.retention_priority IS 'Higher is kept longer.';
COMMENT ON COLUMN {{ schema }}.hook_history.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN {{ schema }}.hook_history.created_at IS 'When the row was first written.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.erase_hook_executions(text, text) IS 'Removes the executions of one correlation id and leaves a trace.';
SET LOCAL ROLE {{ owner }};
