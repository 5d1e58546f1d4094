-- Generated from the catalog of a migrated database; not edited by hand. Run as the owner, in one
-- transaction, after bootstrap; xxxxxxxx stands for the installation's id.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO "llmspell_xxxxxxxx" WITH GRANT OPTION;
SET LOCAL ROLE "llmspell_xxxxxxxx";

CREATE TABLE llmspell.agent_states (
    tenant_id text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    state_id uuid NOT NULL DEFAULT gen_random_uuid(),
    agent_type text COLLATE "C" NOT NULL,
    state_data jsonb NOT NULL,
    schema_version bigint NOT NULL DEFAULT 1,
    data_version bigint NOT NULL DEFAULT 1,
    checksum text COLLATE "C" NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT agent_states_pkey PRIMARY KEY (tenant_id, agent_id),
    CONSTRAINT agent_states_agent_id_check CHECK (((length(agent_id) >= 1) AND (length(agent_id) <= 255))),
    CONSTRAINT agent_states_agent_type_check CHECK (((length(agent_type) >= 1) AND (length(agent_type) <= 100))),
    CONSTRAINT agent_states_checksum_check CHECK ((checksum ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT agent_states_data_version_check CHECK ((data_version > 0)),
    CONSTRAINT agent_states_schema_version_check CHECK ((schema_version > 0)),
    CONSTRAINT agent_states_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.agent_states IS 'The latest state of each agent.';
COMMENT ON COLUMN llmspell.agent_states.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_states.agent_id IS 'Id of the agent.';
COMMENT ON COLUMN llmspell.agent_states.state_id IS 'Id of the state record.';
COMMENT ON COLUMN llmspell.agent_states.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN llmspell.agent_states.state_data IS 'The state.';
COMMENT ON COLUMN llmspell.agent_states.schema_version IS 'Version of the state''s own schema.';
COMMENT ON COLUMN llmspell.agent_states.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN llmspell.agent_states.checksum IS 'SHA-256 of the state as it was serialised.';
COMMENT ON COLUMN llmspell.agent_states.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.agent_states.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.api_keys (
    tenant_id text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    key_hash bytea,
    sealed_value bytea,
    sealing_key_id text COLLATE "C",
    scopes text[] COLLATE "C" NOT NULL DEFAULT '{}'::text[],
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    rotated_from text COLLATE "C",
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, key_id),
    CONSTRAINT api_keys_key_hash_check CHECK ((length(key_hash) = 32)),
    CONSTRAINT api_keys_key_id_check CHECK (((length(key_id) >= 1) AND (length(key_id) <= 255))),
    CONSTRAINT api_keys_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255))),
    CONSTRAINT api_keys_rotated_from_check CHECK (((length(rotated_from) >= 1) AND (length(rotated_from) <= 255))),
    CONSTRAINT api_keys_sealing_key_id_check CHECK (((length(sealing_key_id) >= 1) AND (length(sealing_key_id) <= 255))),
    CONSTRAINT api_keys_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT hashed_or_sealed CHECK ((((key_hash IS NULL) <> (sealed_value IS NULL)) AND ((sealed_value IS NULL) = (sealing_key_id IS NULL))))
);
COMMENT ON TABLE llmspell.api_keys IS 'Keys: issued ones as hashes, foreign ones sealed by the application.';
COMMENT ON COLUMN llmspell.api_keys.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.api_keys.key_id IS 'Public id of the key, part of the key itself.';
COMMENT ON COLUMN llmspell.api_keys.name IS 'Name of the key.';
COMMENT ON COLUMN llmspell.api_keys.key_hash IS 'SHA-256 of an issued key''s secret.';
COMMENT ON COLUMN llmspell.api_keys.sealed_value IS 'A foreign key, encrypted by the application.';
COMMENT ON COLUMN llmspell.api_keys.sealing_key_id IS 'Which of the application''s keys encrypted it.';
COMMENT ON COLUMN llmspell.api_keys.scopes IS 'What an issued key may do.';
COMMENT ON COLUMN llmspell.api_keys.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN llmspell.api_keys.rotated_from IS 'The key this one replaces.';
COMMENT ON COLUMN llmspell.api_keys.expires_at IS 'When it stops working.';
COMMENT ON COLUMN llmspell.api_keys.revoked_at IS 'When it was revoked.';
COMMENT ON COLUMN llmspell.api_keys.last_used_at IS 'When it was last used, to the minute.';
COMMENT ON COLUMN llmspell.api_keys.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.api_keys.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.artifact_chunks (
    tenant_id text COLLATE "C" NOT NULL,
    content_hash text COLLATE "C" NOT NULL,
    chunk bigint NOT NULL,
    data bytea STORAGE EXTERNAL NOT NULL,
    CONSTRAINT artifact_chunks_pkey PRIMARY KEY (tenant_id, content_hash, chunk),
    CONSTRAINT artifact_chunks_chunk_check CHECK ((chunk >= 0)),
    CONSTRAINT artifact_chunks_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.artifact_chunks IS 'Chunks of content that is too large for one row.';
COMMENT ON COLUMN llmspell.artifact_chunks.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.artifact_chunks.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits.';
COMMENT ON COLUMN llmspell.artifact_chunks.chunk IS 'Index of the chunk, from 0.';
COMMENT ON COLUMN llmspell.artifact_chunks.data IS 'Its stored bytes.';

CREATE TABLE llmspell.artifact_content (
    tenant_id text COLLATE "C" NOT NULL,
    content_hash text COLLATE "C" NOT NULL,
    storage_type text COLLATE "C" NOT NULL,
    data bytea STORAGE EXTERNAL,
    chunk_size bigint,
    size_bytes bigint NOT NULL,
    is_compressed boolean NOT NULL DEFAULT false,
    original_size_bytes bigint NOT NULL,
    reference_count bigint NOT NULL DEFAULT 0,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    last_accessed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT artifact_content_pkey PRIMARY KEY (tenant_id, content_hash),
    CONSTRAINT artifact_content_chunk_size_check CHECK ((chunk_size > 0)),
    CONSTRAINT artifact_content_content_hash_check CHECK ((content_hash ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT artifact_content_original_size_bytes_check CHECK ((original_size_bytes >= 0)),
    CONSTRAINT artifact_content_reference_count_check CHECK ((reference_count >= 0)),
    CONSTRAINT artifact_content_size_bytes_check CHECK ((size_bytes >= 0)),
    CONSTRAINT artifact_content_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT content_is_where_it_says CHECK ((((storage_type = 'inline'::text) = (data IS NOT NULL)) AND ((storage_type = 'chunked'::text) = (chunk_size IS NOT NULL)))),
    CONSTRAINT valid_storage_type CHECK ((storage_type = ANY (ARRAY['inline'::text, 'chunked'::text])))
);
COMMENT ON TABLE llmspell.artifact_content IS 'Content by its hash, stored once a tenant.';
COMMENT ON COLUMN llmspell.artifact_content.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.artifact_content.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits.';
COMMENT ON COLUMN llmspell.artifact_content.storage_type IS 'inline or chunked.';
COMMENT ON COLUMN llmspell.artifact_content.data IS 'The stored bytes of inline content.';
COMMENT ON COLUMN llmspell.artifact_content.chunk_size IS 'Stored bytes a chunk, the last one excepted.';
COMMENT ON COLUMN llmspell.artifact_content.size_bytes IS 'Stored bytes, after compression.';
COMMENT ON COLUMN llmspell.artifact_content.is_compressed IS 'Whether the stored bytes are zstd.';
COMMENT ON COLUMN llmspell.artifact_content.original_size_bytes IS 'Bytes before compression.';
COMMENT ON COLUMN llmspell.artifact_content.reference_count IS 'Artifacts that point here; kept by a trigger.';
COMMENT ON COLUMN llmspell.artifact_content.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.artifact_content.last_accessed_at IS 'When it was last read.';

CREATE TABLE llmspell.artifacts (
    tenant_id text COLLATE "C" NOT NULL,
    artifact_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    content_hash text COLLATE "C" NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    name text COLLATE "C" NOT NULL,
    artifact_type text COLLATE "C" NOT NULL,
    mime_type text COLLATE "C" NOT NULL,
    size_bytes bigint NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    tags text[] COLLATE "C" NOT NULL DEFAULT '{}'::text[],
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT artifacts_pkey PRIMARY KEY (tenant_id, artifact_id),
    CONSTRAINT artifacts_artifact_id_check CHECK (((length(artifact_id) >= 1) AND (length(artifact_id) <= 512))),
    CONSTRAINT artifacts_artifact_type_check CHECK (((length(artifact_type) >= 1) AND (length(artifact_type) <= 50))),
    CONSTRAINT artifacts_mime_type_check CHECK (((length(mime_type) >= 1) AND (length(mime_type) <= 255))),
    CONSTRAINT artifacts_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255))),
    CONSTRAINT artifacts_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT artifacts_size_bytes_check CHECK ((size_bytes >= 0)),
    CONSTRAINT artifacts_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT artifacts_version_check CHECK ((version > 0))
);
COMMENT ON TABLE llmspell.artifacts IS 'Names, types and places of artifacts.';
COMMENT ON COLUMN llmspell.artifacts.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.artifacts.artifact_id IS 'Id of the artifact.';
COMMENT ON COLUMN llmspell.artifacts.session_id IS 'The session that made it.';
COMMENT ON COLUMN llmspell.artifacts.sequence IS 'Its order within the session.';
COMMENT ON COLUMN llmspell.artifacts.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits.';
COMMENT ON COLUMN llmspell.artifacts.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN llmspell.artifacts.name IS 'Name of the artifact.';
COMMENT ON COLUMN llmspell.artifacts.artifact_type IS 'Kind of artifact.';
COMMENT ON COLUMN llmspell.artifacts.mime_type IS 'Media type.';
COMMENT ON COLUMN llmspell.artifacts.size_bytes IS 'Bytes before compression.';
COMMENT ON COLUMN llmspell.artifacts.version IS 'Version of the artifact.';
COMMENT ON COLUMN llmspell.artifacts.tags IS 'Tags.';
COMMENT ON COLUMN llmspell.artifacts.created_at IS 'When the row was first written.';

CREATE TABLE llmspell.components (
    store text COLLATE "C" NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    parameters jsonb NOT NULL DEFAULT '{}'::jsonb,
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT components_pkey PRIMARY KEY (store)
);
COMMENT ON TABLE llmspell.components IS 'The eleven stores and how the cluster runs them.';
COMMENT ON COLUMN llmspell.components.store IS 'Name of the store.';
COMMENT ON COLUMN llmspell.components.enabled IS 'Whether any tenant may reach it.';
COMMENT ON COLUMN llmspell.components.parameters IS 'Parameters of its StorageComponent.';
COMMENT ON COLUMN llmspell.components.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.entities (
    tenant_id text COLLATE "C" NOT NULL,
    entity_id uuid NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}'::jsonb,
    valid_time_start timestamp with time zone NOT NULL,
    valid_time_end timestamp with time zone NOT NULL DEFAULT 'infinity'::timestamp with time zone,
    transaction_time_start timestamp with time zone NOT NULL,
    transaction_time_end timestamp with time zone NOT NULL DEFAULT 'infinity'::timestamp with time zone,
    tx_from bigint NOT NULL,
    tx_to bigint NOT NULL DEFAULT '9223372036854775807'::bigint,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT entities_pkey PRIMARY KEY (tenant_id, entity_id, tx_from, valid_time_start),
    CONSTRAINT entities_one_current_version EXCLUDE USING gist (tenant_id WITH =, entity_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&) WHERE ((tx_to = '9223372036854775807'::bigint)),
    CONSTRAINT entities_entity_type_check CHECK (((length(entity_type) >= 1) AND (length(entity_type) <= 255))),
    CONSTRAINT entities_name_check CHECK (((length(name) >= 1) AND (length(name) <= 500))),
    CONSTRAINT entities_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT entities_tx_from_check CHECK ((tx_from > 0)),
    CONSTRAINT tx_range CHECK ((tx_from < tx_to)),
    CONSTRAINT tx_time_range CHECK ((transaction_time_start < transaction_time_end)),
    CONSTRAINT valid_time_range CHECK ((valid_time_start < valid_time_end))
);
COMMENT ON TABLE llmspell.entities IS 'Bi-temporal nodes: append-only versions.';
COMMENT ON COLUMN llmspell.entities.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.entities.entity_id IS 'Identity of the entity over all versions.';
COMMENT ON COLUMN llmspell.entities.entity_type IS 'Kind of entity.';
COMMENT ON COLUMN llmspell.entities.name IS 'Name of the entity.';
COMMENT ON COLUMN llmspell.entities.properties IS 'Properties of this version.';
COMMENT ON COLUMN llmspell.entities.valid_time_start IS 'Start of the time in the world in which this version is true, inclusive.';
COMMENT ON COLUMN llmspell.entities.valid_time_end IS 'End of that time, exclusive; infinity until further notice.';
COMMENT ON COLUMN llmspell.entities.transaction_time_start IS 'Clock time at which this version was recorded.';
COMMENT ON COLUMN llmspell.entities.transaction_time_end IS 'Clock time at which it was superseded; infinity while current.';
COMMENT ON COLUMN llmspell.entities.tx_from IS 'Number of the transaction, on the tenant''s clock, that recorded this version.';
COMMENT ON COLUMN llmspell.entities.tx_to IS 'Number of the transaction that superseded it; the largest bigint while current.';
COMMENT ON COLUMN llmspell.entities.created_at IS 'When the row was first written.';

CREATE TABLE llmspell.erasures (
    tenant_id text COLLATE "C" NOT NULL,
    erasure_id uuid NOT NULL DEFAULT gen_random_uuid(),
    erased_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    kind text COLLATE "C" NOT NULL,
    subject_hash bytea NOT NULL,
    rows_erased bigint NOT NULL,
    reason text NOT NULL,
    erased_by text COLLATE "C" NOT NULL DEFAULT SESSION_USER,
    CONSTRAINT erasures_pkey PRIMARY KEY (tenant_id, erased_at, erasure_id),
    CONSTRAINT erasures_kind_check CHECK ((kind = ANY (ARRAY['entity'::text, 'stream'::text, 'hooks'::text]))),
    CONSTRAINT erasures_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 500))),
    CONSTRAINT erasures_rows_erased_check CHECK ((rows_erased >= 0)),
    CONSTRAINT erasures_subject_hash_check CHECK ((length(subject_hash) = 32)),
    CONSTRAINT erasures_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.erasures IS 'Traces of physical erasure on request.';
COMMENT ON COLUMN llmspell.erasures.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.erasures.erasure_id IS 'Id of the erasure.';
COMMENT ON COLUMN llmspell.erasures.erased_at IS 'When it happened.';
COMMENT ON COLUMN llmspell.erasures.kind IS 'entity, stream or hooks.';
COMMENT ON COLUMN llmspell.erasures.subject_hash IS 'SHA-256 of the id of what was erased.';
COMMENT ON COLUMN llmspell.erasures.rows_erased IS 'Rows removed.';
COMMENT ON COLUMN llmspell.erasures.reason IS 'Reason given.';
COMMENT ON COLUMN llmspell.erasures.erased_by IS 'The login that asked.';

CREATE TABLE llmspell.event_log (
    tenant_id text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    correlation_id text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    "position" bigint NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    language text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    CONSTRAINT event_log_pkey PRIMARY KEY (tenant_id, "timestamp", event_id),
    CONSTRAINT event_log_correlation_id_check CHECK (((length(correlation_id) >= 1) AND (length(correlation_id) <= 255))),
    CONSTRAINT event_log_event_type_check CHECK (((length(event_type) >= 1) AND (length(event_type) <= 255))),
    CONSTRAINT event_log_language_check CHECK ((length(language) <= 50)),
    CONSTRAINT event_log_position_check CHECK (("position" > 0)),
    CONSTRAINT event_log_sequence_check CHECK ((sequence > 0)),
    CONSTRAINT event_log_stream_check CHECK (((length(stream) >= 1) AND (length(stream) <= 255))),
    CONSTRAINT event_log_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE llmspell.event_log IS 'Events, append-only, partitioned by recording time.';
COMMENT ON COLUMN llmspell.event_log.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.event_log.event_id IS 'Id of the event.';
COMMENT ON COLUMN llmspell.event_log.event_type IS 'Kind of event.';
COMMENT ON COLUMN llmspell.event_log.correlation_id IS 'What the event belongs to.';
COMMENT ON COLUMN llmspell.event_log.stream IS 'Stream the event is in; the correlation id unless the caller names one.';
COMMENT ON COLUMN llmspell.event_log.sequence IS 'Version of the stream that this event made; no gaps.';
COMMENT ON COLUMN llmspell.event_log."position" IS 'Tick of the tenant''s clock: order over all streams.';
COMMENT ON COLUMN llmspell.event_log."timestamp" IS 'When the server recorded the event; the partition key.';
COMMENT ON COLUMN llmspell.event_log.occurred_at IS 'When it happened, by the caller.';
COMMENT ON COLUMN llmspell.event_log.language IS 'Language of the script that raised it.';
COMMENT ON COLUMN llmspell.event_log.payload IS 'The event.';

CREATE TABLE llmspell.event_streams (
    tenant_id text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    head bigint NOT NULL DEFAULT 0,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT event_streams_pkey PRIMARY KEY (tenant_id, stream),
    CONSTRAINT event_streams_head_check CHECK ((head >= 0)),
    CONSTRAINT event_streams_stream_check CHECK (((length(stream) >= 1) AND (length(stream) <= 255))),
    CONSTRAINT event_streams_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
) WITH (fillfactor=50);
COMMENT ON TABLE llmspell.event_streams IS 'The last version of each event stream.';
COMMENT ON COLUMN llmspell.event_streams.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.event_streams.stream IS 'Name of the stream.';
COMMENT ON COLUMN llmspell.event_streams.head IS 'Version of its last event.';
COMMENT ON COLUMN llmspell.event_streams.created_at IS 'When the row was first written.';

CREATE TABLE llmspell.hook_history (
    tenant_id text COLLATE "C" NOT NULL,
    execution_id uuid NOT NULL,
    hook_id text COLLATE "C" NOT NULL,
    hook_type text COLLATE "C" NOT NULL,
    correlation_id text COLLATE "C" NOT NULL,
    hook_context bytea STORAGE EXTERNAL NOT NULL,
    is_compressed boolean NOT NULL DEFAULT false,
    original_size_bytes bigint NOT NULL,
    result_data jsonb NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    duration_ms bigint NOT NULL,
    triggering_component text COLLATE "C" NOT NULL,
    tags text[] COLLATE "C" NOT NULL DEFAULT '{}'::text[],
    retention_priority bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT hook_history_pkey PRIMARY KEY (tenant_id, execution_id),
    CONSTRAINT hook_history_correlation_id_check CHECK (((length(correlation_id) >= 1) AND (length(correlation_id) <= 255))),
    CONSTRAINT hook_history_duration_ms_check CHECK ((duration_ms >= 0)),
    CONSTRAINT hook_history_hook_id_check CHECK (((length(hook_id) >= 1) AND (length(hook_id) <= 255))),
    CONSTRAINT hook_history_hook_type_check CHECK (((length(hook_type) >= 1) AND (length(hook_type) <= 100))),
    CONSTRAINT hook_history_original_size_bytes_check CHECK ((original_size_bytes >= 0)),
    CONSTRAINT hook_history_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT hook_history_triggering_component_check CHECK (((length(triggering_component) >= 1) AND (length(triggering_component) <= 255)))
);
COMMENT ON TABLE llmspell.hook_history IS 'Executions of hooks, append-only.';
COMMENT ON COLUMN llmspell.hook_history.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.hook_history.execution_id IS 'Id of the execution.';
COMMENT ON COLUMN llmspell.hook_history.hook_id IS 'The hook.';
COMMENT ON COLUMN llmspell.hook_history.hook_type IS 'Kind of hook.';
COMMENT ON COLUMN llmspell.hook_history.correlation_id IS 'What the execution belongs to.';
COMMENT ON COLUMN llmspell.hook_history.hook_context IS 'The context the hook was given.';
COMMENT ON COLUMN llmspell.hook_history.is_compressed IS 'Whether the context is zstd.';
COMMENT ON COLUMN llmspell.hook_history.original_size_bytes IS 'Bytes of the context before compression.';
COMMENT ON COLUMN llmspell.hook_history.result_data IS 'What the hook returned.';
COMMENT ON COLUMN llmspell.hook_history."timestamp" IS 'When it ran.';
COMMENT ON COLUMN llmspell.hook_history.duration_ms IS 'How long it ran, in milliseconds.';
COMMENT ON COLUMN llmspell.hook_history.triggering_component IS 'What triggered it.';
COMMENT ON COLUMN llmspell.hook_history.tags IS 'Tags.';
COMMENT ON COLUMN llmspell.hook_history.retention_priority IS 'Higher is kept longer.';
COMMENT ON COLUMN llmspell.hook_history.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN llmspell.hook_history.created_at IS 'When the row was first written.';

CREATE TABLE llmspell.installation (
    singleton boolean NOT NULL DEFAULT true,
    id text COLLATE "C" NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    claimed_by jsonb,
    CONSTRAINT installation_pkey PRIMARY KEY (singleton),
    CONSTRAINT installation_singleton_check CHECK (singleton)
);
COMMENT ON TABLE llmspell.installation IS 'Identity of this installation; one row.';
COMMENT ON COLUMN llmspell.installation.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN llmspell.installation.id IS 'Eight characters that every role name carries.';
COMMENT ON COLUMN llmspell.installation.created_at IS 'When the schema was first migrated.';
COMMENT ON COLUMN llmspell.installation.claimed_by IS 'The StorageCluster that manages this schema, as cluster, namespace and name.';

CREATE TABLE llmspell.kv_store (
    tenant_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    version bigint NOT NULL DEFAULT 1,
    expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT kv_store_pkey PRIMARY KEY (tenant_id, key),
    CONSTRAINT kv_store_key_check CHECK (((length(key) >= 1) AND (length(key) <= 500))),
    CONSTRAINT kv_store_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT kv_store_version_check CHECK ((version > 0))
);
COMMENT ON TABLE llmspell.kv_store IS 'Keys and binary values.';
COMMENT ON COLUMN llmspell.kv_store.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.kv_store.key IS 'The key.';
COMMENT ON COLUMN llmspell.kv_store.value IS 'The value.';
COMMENT ON COLUMN llmspell.kv_store.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN llmspell.kv_store.version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN llmspell.kv_store.expires_at IS 'When the entry may be removed.';
COMMENT ON COLUMN llmspell.kv_store.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.kv_store.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.operator_lease (
    singleton boolean NOT NULL DEFAULT true,
    epoch bigint NOT NULL DEFAULT 0,
    holder text,
    acquired_at timestamp with time zone,
    CONSTRAINT operator_lease_pkey PRIMARY KEY (singleton),
    CONSTRAINT operator_lease_singleton_check CHECK (singleton)
);
COMMENT ON TABLE llmspell.operator_lease IS 'Fencing: the epoch of the operator that may provision; one row.';
COMMENT ON COLUMN llmspell.operator_lease.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN llmspell.operator_lease.epoch IS 'Grows with each new leader; provisioning transactions compare it.';
COMMENT ON COLUMN llmspell.operator_lease.holder IS 'Identity of the leader.';
COMMENT ON COLUMN llmspell.operator_lease.acquired_at IS 'When the leader took over.';

CREATE TABLE llmspell.procedural_patterns (
    tenant_id text COLLATE "C" NOT NULL,
    pattern_id uuid NOT NULL DEFAULT gen_random_uuid(),
    scope text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text NOT NULL,
    identity text COLLATE "C" NOT NULL GENERATED ALWAYS AS (((md5(scope) || md5(key)) || md5(value))) STORED,
    frequency bigint NOT NULL DEFAULT 1,
    first_seen timestamp with time zone NOT NULL DEFAULT now(),
    last_seen timestamp with time zone NOT NULL DEFAULT now(),
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT procedural_patterns_pkey PRIMARY KEY (tenant_id, pattern_id),
    CONSTRAINT unique_procedural_pattern UNIQUE (tenant_id, identity),
    CONSTRAINT positive_frequency CHECK ((frequency > 0)),
    CONSTRAINT procedural_patterns_key_check CHECK (((length(key) >= 1) AND (length(key) <= 500))),
    CONSTRAINT procedural_patterns_scope_check CHECK ((length(scope) <= 500)),
    CONSTRAINT procedural_patterns_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.procedural_patterns IS 'Learned patterns and how often each was seen.';
COMMENT ON COLUMN llmspell.procedural_patterns.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.procedural_patterns.pattern_id IS 'Id of the pattern.';
COMMENT ON COLUMN llmspell.procedural_patterns.scope IS 'Scope in which the pattern holds.';
COMMENT ON COLUMN llmspell.procedural_patterns.key IS 'What the pattern is about.';
COMMENT ON COLUMN llmspell.procedural_patterns.value IS 'What was observed.';
COMMENT ON COLUMN llmspell.procedural_patterns.identity IS 'Digests of scope, key and value in a row.';
COMMENT ON COLUMN llmspell.procedural_patterns.frequency IS 'How often it was seen.';
COMMENT ON COLUMN llmspell.procedural_patterns.first_seen IS 'When it was first seen.';
COMMENT ON COLUMN llmspell.procedural_patterns.last_seen IS 'When it was last seen.';
COMMENT ON COLUMN llmspell.procedural_patterns.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.procedural_patterns.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.relationships (
    tenant_id text COLLATE "C" NOT NULL,
    relationship_id uuid NOT NULL,
    from_entity uuid NOT NULL,
    to_entity uuid NOT NULL,
    relationship_type text COLLATE "C" NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}'::jsonb,
    valid_time_start timestamp with time zone NOT NULL,
    valid_time_end timestamp with time zone NOT NULL DEFAULT 'infinity'::timestamp with time zone,
    transaction_time_start timestamp with time zone NOT NULL,
    transaction_time_end timestamp with time zone NOT NULL DEFAULT 'infinity'::timestamp with time zone,
    tx_from bigint NOT NULL,
    tx_to bigint NOT NULL DEFAULT '9223372036854775807'::bigint,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT relationships_pkey PRIMARY KEY (tenant_id, relationship_id, tx_from, valid_time_start),
    CONSTRAINT relationships_one_current_version EXCLUDE USING gist (tenant_id WITH =, relationship_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&) WHERE ((tx_to = '9223372036854775807'::bigint)),
    CONSTRAINT relationships_relationship_type_check CHECK (((length(relationship_type) >= 1) AND (length(relationship_type) <= 255))),
    CONSTRAINT relationships_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT relationships_tx_from_check CHECK ((tx_from > 0)),
    CONSTRAINT tx_range CHECK ((tx_from < tx_to)),
    CONSTRAINT tx_time_range CHECK ((transaction_time_start < transaction_time_end)),
    CONSTRAINT valid_time_range CHECK ((valid_time_start < valid_time_end))
);
COMMENT ON TABLE llmspell.relationships IS 'Bi-temporal edges: append-only versions.';
COMMENT ON COLUMN llmspell.relationships.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.relationships.relationship_id IS 'Identity of the relationship over all versions.';
COMMENT ON COLUMN llmspell.relationships.from_entity IS 'The entity it starts at.';
COMMENT ON COLUMN llmspell.relationships.to_entity IS 'The entity it leads to.';
COMMENT ON COLUMN llmspell.relationships.relationship_type IS 'Kind of relationship.';
COMMENT ON COLUMN llmspell.relationships.properties IS 'Properties of this version.';
COMMENT ON COLUMN llmspell.relationships.valid_time_start IS 'Start of the time in the world in which this version is true, inclusive.';
COMMENT ON COLUMN llmspell.relationships.valid_time_end IS 'End of that time, exclusive; infinity until further notice.';
COMMENT ON COLUMN llmspell.relationships.transaction_time_start IS 'Clock time at which this version was recorded.';
COMMENT ON COLUMN llmspell.relationships.transaction_time_end IS 'Clock time at which it was superseded; infinity while current.';
COMMENT ON COLUMN llmspell.relationships.tx_from IS 'Number of the transaction, on the tenant''s clock, that recorded this version.';
COMMENT ON COLUMN llmspell.relationships.tx_to IS 'Number of the transaction that superseded it; the largest bigint while current.';
COMMENT ON COLUMN llmspell.relationships.created_at IS 'When the row was first written.';

CREATE TABLE llmspell.sealing_key (
    singleton boolean NOT NULL DEFAULT true,
    version integer NOT NULL,
    inner_pad bytea NOT NULL,
    outer_pad bytea NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT sealing_key_pkey PRIMARY KEY (singleton),
    CONSTRAINT sealing_key_inner_pad_check CHECK ((length(inner_pad) = 64)),
    CONSTRAINT sealing_key_outer_pad_check CHECK ((length(outer_pad) = 64)),
    CONSTRAINT sealing_key_singleton_check CHECK (singleton)
);
COMMENT ON TABLE llmspell.sealing_key IS 'The HMAC-SHA-256 key of capabilities and contexts, as its two pads; one row, left out of dumps.';
COMMENT ON COLUMN llmspell.sealing_key.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN llmspell.sealing_key.version IS 'Grows with each rotation.';
COMMENT ON COLUMN llmspell.sealing_key.inner_pad IS 'Key XOR the inner pad.';
COMMENT ON COLUMN llmspell.sealing_key.outer_pad IS 'Key XOR the outer pad.';
COMMENT ON COLUMN llmspell.sealing_key.created_at IS 'When the key was drawn.';

CREATE TABLE llmspell.sessions (
    tenant_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    session_data jsonb NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'active'::text,
    data_version bigint NOT NULL DEFAULT 1,
    artifact_count bigint NOT NULL DEFAULT 0,
    expires_at timestamp with time zone,
    last_accessed_at timestamp with time zone NOT NULL DEFAULT now(),
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT sessions_pkey PRIMARY KEY (tenant_id, session_id),
    CONSTRAINT sessions_artifact_count_check CHECK ((artifact_count >= 0)),
    CONSTRAINT sessions_data_version_check CHECK ((data_version > 0)),
    CONSTRAINT sessions_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT sessions_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT valid_session_status CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text, 'expired'::text])))
);
COMMENT ON TABLE llmspell.sessions IS 'Snapshots of sessions.';
COMMENT ON COLUMN llmspell.sessions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.sessions.session_id IS 'Id of the session.';
COMMENT ON COLUMN llmspell.sessions.session_data IS 'The snapshot.';
COMMENT ON COLUMN llmspell.sessions.status IS 'active, archived or expired.';
COMMENT ON COLUMN llmspell.sessions.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN llmspell.sessions.artifact_count IS 'Artifacts of the session, kept by the writer.';
COMMENT ON COLUMN llmspell.sessions.expires_at IS 'When it expires.';
COMMENT ON COLUMN llmspell.sessions.last_accessed_at IS 'When it was last read.';
COMMENT ON COLUMN llmspell.sessions.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.sessions.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.tenant_clock (
    tenant_id text COLLATE "C" NOT NULL,
    n bigint NOT NULL DEFAULT 0,
    at timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    CONSTRAINT tenant_clock_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenant_clock_n_check CHECK ((n >= 0)),
    CONSTRAINT tenant_clock_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
) WITH (fillfactor=10);
COMMENT ON TABLE llmspell.tenant_clock IS 'The clock that orders a tenant''s commits; one row a tenant.';
COMMENT ON COLUMN llmspell.tenant_clock.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.tenant_clock.n IS 'Number of the last tick.';
COMMENT ON COLUMN llmspell.tenant_clock.at IS 'Time of the last tick; never goes back.';

CREATE TABLE llmspell.tenant_logins (
    login text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    slot text COLLATE "C" NOT NULL,
    digest text COLLATE "C",
    verifier text COLLATE "C",
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    retire_at timestamp with time zone,
    CONSTRAINT tenant_logins_pkey PRIMARY KEY (login),
    CONSTRAINT tenant_logins_tenant_slot_key UNIQUE (tenant, slot),
    CONSTRAINT tenant_logins_login_check CHECK ((octet_length(login) <= 63)),
    CONSTRAINT tenant_logins_slot_check CHECK ((slot = ANY (ARRAY['a'::text, 'b'::text])))
);
COMMENT ON TABLE llmspell.tenant_logins IS 'Which login belongs to which tenant: what isolation rests on in role mode.';
COMMENT ON COLUMN llmspell.tenant_logins.login IS 'Name of the login role.';
COMMENT ON COLUMN llmspell.tenant_logins.tenant IS 'The tenant it is bound to.';
COMMENT ON COLUMN llmspell.tenant_logins.slot IS 'a or b: two logins live during a rotation.';
COMMENT ON COLUMN llmspell.tenant_logins.digest IS 'Fingerprint of the password that was handed out, to notice an edited Secret.';
COMMENT ON COLUMN llmspell.tenant_logins.verifier IS 'SCRAM verifier that the role was given, to notice a password changed by its holder.';
COMMENT ON COLUMN llmspell.tenant_logins.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.tenant_logins.retire_at IS 'When the login stops being honoured; NULL for the current one.';

CREATE TABLE llmspell.tenants (
    tenant text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'active'::text,
    isolation text COLLATE "C" NOT NULL DEFAULT 'role'::text,
    suspended boolean NOT NULL DEFAULT false,
    stores text[] COLLATE "C" NOT NULL DEFAULT '{}'::text[],
    statement_timeout_ms bigint,
    lock_timeout_ms bigint,
    idle_in_transaction_timeout_ms bigint,
    work_mem_kb bigint,
    connection_limit integer,
    quota_bytes bigint,
    quota_enforced boolean NOT NULL DEFAULT false,
    over_quota boolean NOT NULL DEFAULT false,
    used_bytes bigint,
    used_rows bigint,
    measured_at timestamp with time zone,
    capability_version integer NOT NULL DEFAULT 1,
    previous_capability_version integer,
    previous_capability_expires_at timestamp with time zone,
    password_changed_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant),
    CONSTRAINT tenants_capability_version_check CHECK ((capability_version > 0)),
    CONSTRAINT tenants_connection_limit_check CHECK (((connection_limit >= 1) AND (connection_limit <= 10000))),
    CONSTRAINT tenants_idle_in_transaction_timeout_ms_check CHECK (((idle_in_transaction_timeout_ms >= 0) AND (idle_in_transaction_timeout_ms <= 2147483647))),
    CONSTRAINT tenants_isolation_check CHECK ((isolation = ANY (ARRAY['role'::text, 'sealed'::text]))),
    CONSTRAINT tenants_lock_timeout_ms_check CHECK (((lock_timeout_ms >= 0) AND (lock_timeout_ms <= 2147483647))),
    CONSTRAINT tenants_previous_capability_version_check CHECK ((previous_capability_version > 0)),
    CONSTRAINT tenants_quota_bytes_check CHECK ((quota_bytes >= 0)),
    CONSTRAINT tenants_state_check CHECK ((state = ANY (ARRAY['active'::text, 'retained'::text]))),
    CONSTRAINT tenants_statement_timeout_ms_check CHECK (((statement_timeout_ms >= 0) AND (statement_timeout_ms <= 2147483647))),
    CONSTRAINT tenants_tenant_check CHECK ((tenant ~ '^[a-z0-9-]{3,255}$'::text)),
    CONSTRAINT tenants_used_bytes_check CHECK ((used_bytes >= 0)),
    CONSTRAINT tenants_used_rows_check CHECK ((used_rows >= 0)),
    CONSTRAINT tenants_work_mem_kb_check CHECK (((work_mem_kb >= 64) AND (work_mem_kb <= 2147483647)))
);
COMMENT ON TABLE llmspell.tenants IS 'What the operator knows of each tenant; unreadable for tenants.';
COMMENT ON COLUMN llmspell.tenants.tenant IS 'The tenant id.';
COMMENT ON COLUMN llmspell.tenants.namespace IS 'Namespace of the Tenant that owns the id.';
COMMENT ON COLUMN llmspell.tenants.name IS 'Name of that Tenant.';
COMMENT ON COLUMN llmspell.tenants.state IS 'active, or retained after deletion with its rows kept.';
COMMENT ON COLUMN llmspell.tenants.isolation IS 'role: a login of its own; sealed: a capability on the shared login.';
COMMENT ON COLUMN llmspell.tenants.suspended IS 'Whether access is closed for now.';
COMMENT ON COLUMN llmspell.tenants.stores IS 'The stores the tenant has.';
COMMENT ON COLUMN llmspell.tenants.statement_timeout_ms IS 'Default statement timeout, in milliseconds.';
COMMENT ON COLUMN llmspell.tenants.lock_timeout_ms IS 'Default lock timeout, in milliseconds.';
COMMENT ON COLUMN llmspell.tenants.idle_in_transaction_timeout_ms IS 'Default timeout of an idle transaction, in milliseconds.';
COMMENT ON COLUMN llmspell.tenants.work_mem_kb IS 'Default work_mem, in kilobytes.';
COMMENT ON COLUMN llmspell.tenants.connection_limit IS 'Connection limit of each login.';
COMMENT ON COLUMN llmspell.tenants.quota_bytes IS 'Storage quota, in bytes.';
COMMENT ON COLUMN llmspell.tenants.quota_enforced IS 'Whether INSERT and UPDATE are refused over the quota.';
COMMENT ON COLUMN llmspell.tenants.over_quota IS 'Whether the last measurement was over the quota.';
COMMENT ON COLUMN llmspell.tenants.used_bytes IS 'Bytes used at the last measurement.';
COMMENT ON COLUMN llmspell.tenants.used_rows IS 'Rows held at the last measurement.';
COMMENT ON COLUMN llmspell.tenants.measured_at IS 'When usage was last measured.';
COMMENT ON COLUMN llmspell.tenants.capability_version IS 'Version of the capability now issued.';
COMMENT ON COLUMN llmspell.tenants.previous_capability_version IS 'Version that is still accepted during a rotation.';
COMMENT ON COLUMN llmspell.tenants.previous_capability_expires_at IS 'When that version stops being accepted.';
COMMENT ON COLUMN llmspell.tenants.password_changed_at IS 'When the login''s password was last set.';
COMMENT ON COLUMN llmspell.tenants.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.tenants.updated_at IS 'When the row was last changed.';

CREATE TABLE llmspell.test_table (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL DEFAULT (gen_random_uuid())::text,
    value text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT test_table_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT test_table_id_check CHECK (((length(id) >= 1) AND (length(id) <= 255))),
    CONSTRAINT test_table_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.test_table IS 'Rows of the isolation probe.';
COMMENT ON COLUMN llmspell.test_table.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.test_table.id IS 'Id of the probe.';
COMMENT ON COLUMN llmspell.test_table.value IS 'What a neighbour must not see.';
COMMENT ON COLUMN llmspell.test_table.created_at IS 'When the row was first written.';

CREATE TABLE llmspell.workflow_states (
    tenant_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    workflow_name text COLLATE "C",
    state_data jsonb NOT NULL,
    current_step bigint NOT NULL DEFAULT 0,
    status text COLLATE "C" NOT NULL DEFAULT 'pending'::text,
    data_version bigint NOT NULL DEFAULT 1,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    last_updated timestamp with time zone NOT NULL DEFAULT now(),
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT workflow_states_pkey PRIMARY KEY (tenant_id, workflow_id),
    CONSTRAINT valid_workflow_status CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT workflow_states_current_step_check CHECK ((current_step >= 0)),
    CONSTRAINT workflow_states_data_version_check CHECK ((data_version > 0)),
    CONSTRAINT workflow_states_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT workflow_states_workflow_id_check CHECK (((length(workflow_id) >= 1) AND (length(workflow_id) <= 255))),
    CONSTRAINT workflow_states_workflow_name_check CHECK ((length(workflow_name) <= 500))
);
COMMENT ON TABLE llmspell.workflow_states IS 'The life of each workflow.';
COMMENT ON COLUMN llmspell.workflow_states.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.workflow_states.workflow_id IS 'Id of the workflow.';
COMMENT ON COLUMN llmspell.workflow_states.workflow_name IS 'Name of the workflow.';
COMMENT ON COLUMN llmspell.workflow_states.state_data IS 'The state.';
COMMENT ON COLUMN llmspell.workflow_states.current_step IS 'Index of the current step.';
COMMENT ON COLUMN llmspell.workflow_states.status IS 'pending, running, completed, failed or cancelled.';
COMMENT ON COLUMN llmspell.workflow_states.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN llmspell.workflow_states.started_at IS 'When it started.';
COMMENT ON COLUMN llmspell.workflow_states.completed_at IS 'When it ended.';
COMMENT ON COLUMN llmspell.workflow_states.last_updated IS 'When the row was last changed.';
COMMENT ON COLUMN llmspell.workflow_states.created_at IS 'When the row was first written.';

CREATE INDEX agent_states_type ON llmspell.agent_states USING btree (tenant_id, agent_type, updated_at);
CREATE UNIQUE INDEX api_keys_hash ON llmspell.api_keys USING btree (key_hash) WHERE (key_hash IS NOT NULL);
CREATE INDEX api_keys_name ON llmspell.api_keys USING btree (tenant_id, name, created_at);
CREATE INDEX artifact_content_unreferenced ON llmspell.artifact_content USING btree (tenant_id, last_accessed_at) WHERE (reference_count = 0);
CREATE INDEX artifacts_content ON llmspell.artifacts USING btree (tenant_id, content_hash);
CREATE INDEX artifacts_session ON llmspell.artifacts USING btree (tenant_id, session_id, sequence);
CREATE INDEX artifacts_type ON llmspell.artifacts USING btree (tenant_id, artifact_type, created_at);
CREATE INDEX entities_changes ON llmspell.entities USING btree (tenant_id, tx_from, entity_id);
CREATE INDEX entities_current ON llmspell.entities USING btree (tenant_id, entity_id, valid_time_start) WHERE (tx_to = '9223372036854775807'::bigint);
CREATE INDEX entities_current_name ON llmspell.entities USING btree (tenant_id, name, entity_id) WHERE (tx_to = '9223372036854775807'::bigint);
CREATE INDEX entities_current_type ON llmspell.entities USING btree (tenant_id, entity_type, entity_id) WHERE (tx_to = '9223372036854775807'::bigint);
CREATE INDEX event_log_correlation ON ONLY llmspell.event_log USING btree (tenant_id, correlation_id, "timestamp");
CREATE INDEX event_log_position ON ONLY llmspell.event_log USING btree (tenant_id, "position");
CREATE INDEX event_log_stream ON ONLY llmspell.event_log USING btree (tenant_id, stream, sequence);
CREATE INDEX event_log_type ON ONLY llmspell.event_log USING btree (tenant_id, event_type, "timestamp");
CREATE INDEX hook_history_correlation ON llmspell.hook_history USING btree (tenant_id, correlation_id, "timestamp");
CREATE INDEX hook_history_hook ON llmspell.hook_history USING btree (tenant_id, hook_id, "timestamp");
CREATE INDEX hook_history_retention ON llmspell.hook_history USING btree (tenant_id, retention_priority, "timestamp");
CREATE INDEX hook_history_time ON llmspell.hook_history USING btree (tenant_id, "timestamp");
CREATE INDEX kv_store_expiry ON llmspell.kv_store USING btree (tenant_id, expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX procedural_patterns_learned ON llmspell.procedural_patterns USING btree (tenant_id, identity, frequency) WHERE (frequency >= 3);
CREATE INDEX relationships_changes ON llmspell.relationships USING btree (tenant_id, tx_from, relationship_id);
CREATE INDEX relationships_current ON llmspell.relationships USING btree (tenant_id, relationship_id, valid_time_start) WHERE (tx_to = '9223372036854775807'::bigint);
CREATE INDEX relationships_current_from ON llmspell.relationships USING btree (tenant_id, from_entity, relationship_type, valid_time_start) INCLUDE (to_entity, valid_time_end) WHERE (tx_to = '9223372036854775807'::bigint);
CREATE INDEX relationships_current_to ON llmspell.relationships USING btree (tenant_id, to_entity, relationship_type, valid_time_start) INCLUDE (from_entity, valid_time_end) WHERE (tx_to = '9223372036854775807'::bigint);
CREATE INDEX relationships_from ON llmspell.relationships USING btree (tenant_id, from_entity, tx_from);
CREATE INDEX relationships_to ON llmspell.relationships USING btree (tenant_id, to_entity, tx_from);
CREATE INDEX sessions_expiry ON llmspell.sessions USING btree (tenant_id, expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX sessions_status ON llmspell.sessions USING btree (tenant_id, status, updated_at);
CREATE INDEX workflow_states_status ON llmspell.workflow_states USING btree (tenant_id, status, last_updated);
COMMENT ON INDEX llmspell.api_keys_hash IS 'global key: a gateway finds the tenant by the hash; 256 random bits leave nothing to probe for';
ALTER TABLE llmspell.artifact_chunks ADD CONSTRAINT artifact_chunks_tenant_id_content_hash_fkey FOREIGN KEY (tenant_id, content_hash) REFERENCES llmspell.artifact_content(tenant_id, content_hash) ON DELETE CASCADE;
ALTER TABLE llmspell.artifacts ADD CONSTRAINT artifacts_tenant_id_content_hash_fkey FOREIGN KEY (tenant_id, content_hash) REFERENCES llmspell.artifact_content(tenant_id, content_hash) ON DELETE RESTRICT;
ALTER TABLE llmspell.tenant_logins ADD CONSTRAINT tenant_logins_tenant_fkey FOREIGN KEY (tenant) REFERENCES llmspell.tenants(tenant);

CREATE OR REPLACE FUNCTION llmspell.capability(tenant text, version integer)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('v%s.%s', capability.version, encode(sha256(k.outer_pad || sha256(k.inner_pad
               || convert_to(concat_ws(chr(31), 'capability', capability.tenant, capability.version), 'UTF8'))), 'hex'))
      FROM "llmspell".sealing_key AS k
$function$;
COMMENT ON FUNCTION llmspell.capability(tenant text, version integer) IS 'The capability of a tenant in sealed mode.';

CREATE OR REPLACE FUNCTION llmspell.close_entity_versions(subject uuid, valid_start timestamp with time zone, valid_end timestamp with time zone, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".writing_tenant();
    latest bigint;
    ending record;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    -- The clock is locked before any version is read.
    PERFORM "llmspell".tick_once(asking, 0);
    SELECT coalesce(max(v.tx_from), 0) INTO latest
      FROM "llmspell".entities AS v
     WHERE v.tenant_id = asking AND v.entity_id = subject
       AND v.tx_to = 9223372036854775807
       AND v.valid_time_start < valid_end AND v.valid_time_end > valid_start;
    SELECT t.tx, t.at INTO ending FROM "llmspell".tick_once(asking, latest) AS t;
    UPDATE "llmspell".entities AS v
       SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND v.entity_id = subject
       AND v.tx_to = 9223372036854775807
       AND v.valid_time_start < valid_end AND v.valid_time_end > valid_start;
    GET DIAGNOSTICS closed = ROW_COUNT;
    tx := ending.tx;
    at := ending.at;
END
$function$;
COMMENT ON FUNCTION llmspell.close_entity_versions(subject uuid, valid_start timestamp with time zone, valid_end timestamp with time zone, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint) IS 'Ends the current versions of an entity that overlap a range of valid time.';

CREATE OR REPLACE FUNCTION llmspell.close_relationship_versions(subject uuid, valid_start timestamp with time zone, valid_end timestamp with time zone, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".writing_tenant();
    latest bigint;
    ending record;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    -- The clock is locked before any version is read.
    PERFORM "llmspell".tick_once(asking, 0);
    SELECT coalesce(max(v.tx_from), 0) INTO latest
      FROM "llmspell".relationships AS v
     WHERE v.tenant_id = asking AND v.relationship_id = subject
       AND v.tx_to = 9223372036854775807
       AND v.valid_time_start < valid_end AND v.valid_time_end > valid_start;
    SELECT t.tx, t.at INTO ending FROM "llmspell".tick_once(asking, latest) AS t;
    UPDATE "llmspell".relationships AS v
       SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND v.relationship_id = subject
       AND v.tx_to = 9223372036854775807
       AND v.valid_time_start < valid_end AND v.valid_time_end > valid_start;
    GET DIAGNOSTICS closed = ROW_COUNT;
    tx := ending.tx;
    at := ending.at;
END
$function$;
COMMENT ON FUNCTION llmspell.close_relationship_versions(subject uuid, valid_start timestamp with time zone, valid_end timestamp with time zone, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint) IS 'Ends the current versions of a relationship that overlap a range of valid time.';

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.count_artifact_reference()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE "llmspell".artifact_content AS c SET reference_count = c.reference_count - 1
         WHERE c.tenant_id = OLD.tenant_id AND c.content_hash = OLD.content_hash;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE "llmspell".artifact_content AS c SET reference_count = c.reference_count + 1
         WHERE c.tenant_id = NEW.tenant_id AND c.content_hash = NEW.content_hash;
    END IF;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION llmspell.count_artifact_reference() IS 'Keeps the reference counts of content.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

CREATE OR REPLACE FUNCTION llmspell.create_event_partition(from_time timestamp with time zone, to_time timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    parent constant text := format('%I.event_log', 'llmspell');
    leaf_name constant text := CASE
        WHEN from_time = date_trunc('month', from_time) AND to_time = from_time + interval '1 month'
            THEN to_char(from_time, '"event_log_"YYYY_MM')
        WHEN from_time = date_trunc('week', from_time) AND to_time = from_time + interval '7 days'
            THEN to_char(from_time, '"event_log_"IYYY"w"IW')
        WHEN from_time = date_trunc('day', from_time) AND to_time = from_time + interval '1 day'
            THEN to_char(from_time, '"event_log_"YYYY_MM_DD')
        END;
    leaf constant text := format('%I.%I', 'llmspell', leaf_name);
BEGIN
    IF leaf_name IS NULL THEN
        RAISE EXCEPTION 'an event partition is one UTC month, ISO week or day, not % to %', from_time, to_time
            USING ERRCODE = '22023';
    END IF;
    IF EXISTS (SELECT FROM "llmspell".event_partitions() AS p
                WHERE p.from_time = create_event_partition.from_time AND p.to_time = create_event_partition.to_time) THEN
        RETURN leaf_name;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL) WITH (autovacuum_vacuum_scale_factor = 0.05,'
        ' autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 10,'
        ' autovacuum_vacuum_cost_limit = 1000)', leaf, parent);
    PERFORM "llmspell".protect_table(leaf, true);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, leaf, from_time, to_time);
    RETURN leaf_name;
END
$function$;
COMMENT ON FUNCTION llmspell.create_event_partition(from_time timestamp with time zone, to_time timestamp with time zone) IS 'Makes the partition of one UTC month, ISO week or day.';

CREATE OR REPLACE FUNCTION llmspell.create_vector_table(dimension integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    leaves constant integer := 32;
    table_name constant text := format('vector_embeddings_%s', dimension);
    parent constant text := format('%I.%I', 'llmspell', table_name);
    vector_type constant text := format('%I.vector(%s)', 'public', dimension);
    half_type constant text := format('%I.halfvec(%s)', 'public', dimension);
    -- A row holds at most 8,160 bytes; the last few dimensions leave too little for the keys, and
    -- MAIN keeps the vector in the row unless that row is impossible.
    vector_storage constant text := CASE
        WHEN dimension <= 1990 THEN 'PLAIN' WHEN dimension <= 2000 THEN 'MAIN' ELSE 'EXTERNAL' END;
    half_storage constant text := CASE WHEN dimension <= 3980 THEN 'PLAIN' ELSE 'MAIN' END;
    half_column constant text := CASE WHEN dimension BETWEEN 2001 AND 4000 THEN format(
        'embedding_half %s STORAGE %s GENERATED ALWAYS AS (embedding::%s) STORED,', half_type, half_storage, half_type)
        ELSE '' END;
    row_vector_bytes constant integer := CASE
        WHEN dimension <= 2000 THEN 4 * dimension WHEN dimension <= 4000 THEN 2 * dimension ELSE 0 END;
    leaf text;
BEGIN
    IF dimension IS NULL OR dimension NOT BETWEEN 1 AND 16000 THEN
        RAISE EXCEPTION 'dimension must be from 1 to 16000, not %', dimension USING ERRCODE = '22023';
    END IF;
    IF to_regclass(parent) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format($ddl$
        CREATE TABLE %s (
            tenant_id text STORAGE MAIN COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
            id text STORAGE MAIN COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
            scope text STORAGE MAIN COLLATE "C" NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
            embedding %s STORAGE %s NOT NULL,
            %s
            content text,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, id)
        ) PARTITION BY HASH (tenant_id)$ddl$,
        parent, vector_type, vector_storage, half_column);
    EXECUTE format('CREATE INDEX %I ON %s (tenant_id, scope, created_at, id)', table_name || '_scope', parent);
    FOR remainder IN 0..leaves - 1 LOOP
        leaf := format('%I.%I', 'llmspell', table_name || format('_p%s', lpad(remainder::text, 2, '0')));
        EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
            leaf, parent, leaves, remainder);
        -- A vector in the row always crosses the limit that starts moving columns out; without
        -- this target the short ids would be moved out first and every scan would fetch them.
        EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = %s, autovacuum_vacuum_scale_factor = 0.05,'
            ' autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 10,'
            ' autovacuum_vacuum_cost_limit = 1000)', leaf, least(8160, row_vector_bytes + 1024));
    END LOOP;
    EXECUTE format('COMMENT ON TABLE %s IS %L', parent,
        format('Vectors of %s dimensions, 32 hash leaves by tenant.', dimension));
    EXECUTE format(
        'COMMENT ON COLUMN %1$s.tenant_id IS ''The tenant that owns the row; first in every key.'';'
        'COMMENT ON COLUMN %1$s.id IS ''Id of the vector, given by the caller.'';'
        'COMMENT ON COLUMN %1$s.scope IS ''Scope within the tenant.'';'
        'COMMENT ON COLUMN %1$s.embedding IS ''The vector, in single precision.'';'
        'COMMENT ON COLUMN %1$s.content IS ''The text it was made of, for hybrid search.'';'
        'COMMENT ON COLUMN %1$s.metadata IS ''Free metadata of the caller.'';'
        'COMMENT ON COLUMN %1$s.created_at IS ''When the row was first written.'';'
        'COMMENT ON COLUMN %1$s.updated_at IS ''When the row was last changed.''', parent);
    IF half_column <> '' THEN
        EXECUTE format('COMMENT ON COLUMN %s.embedding_half IS ''The vector in half precision, for scan and index.''',
            parent);
    END IF;
    PERFORM "llmspell".protect_table(parent);
END
$function$;
COMMENT ON FUNCTION llmspell.create_vector_table(dimension integer) IS 'Makes the table of one vector dimension.';

CREATE OR REPLACE FUNCTION llmspell.current_tenant()
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    resolved text;
    servable boolean;
    refused boolean;
    sealed text;
BEGIN
    -- Two lookups by key: a join of the two tables takes half as long again.
    SELECT l.tenant, l.retire_at IS NULL OR l.retire_at > statement_timestamp()
      INTO resolved, servable
      FROM "llmspell".tenant_logins AS l
     WHERE l.login = session_user::text COLLATE "C";
    IF FOUND THEN
        SELECT servable AND t.state = 'active' AND NOT t.suspended, t.over_quota AND t.quota_enforced
          INTO servable, refused
          FROM "llmspell".tenants AS t
         WHERE t.tenant = resolved;
    ELSE
        -- After SET LOCAL and COMMIT a setting is '', not NULL.
        sealed := current_setting('llmspell.context', true);
        IF sealed IS NULL OR length(sealed) < 66 THEN
            RETURN NULL;
        END IF;
        resolved := substr(sealed, 66);
        SELECT sha256(convert_to(left(sealed, 64), 'UTF8')) = sha256(convert_to(encode(
                   sha256(k.outer_pad || sha256(k.inner_pad || convert_to(concat_ws(chr(31),
                       'context', resolved, pg_backend_pid(), extract(epoch FROM now())), 'UTF8'))),
                   'hex'), 'UTF8'))
          INTO servable
          FROM "llmspell".sealing_key AS k;
    END IF;
    IF servable IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    RETURN resolved;
END
$function$;
COMMENT ON FUNCTION llmspell.current_tenant() IS 'The tenant this session or transaction acts for, or NULL: the policies ask it.';

CREATE OR REPLACE FUNCTION llmspell.ensure_event_partitions(unit text DEFAULT 'month'::text, ahead integer DEFAULT 3)
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    step constant interval := CASE unit
        WHEN 'day' THEN interval '1 day' WHEN 'week' THEN interval '7 days' WHEN 'month' THEN interval '1 month' END;
    lower_bound timestamptz := date_trunc(unit, now());
    horizon timestamptz;
    upper_bound timestamptz;
    covered timestamptz;
    next_start timestamptz;
    made text[] := '{}';
BEGIN
    IF step IS NULL OR ahead IS NULL OR ahead NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'unit must be day, week or month and ahead from 0 to 366, not % and %', unit, ahead
            USING ERRCODE = '22023';
    END IF;
    horizon := date_trunc(unit, now()) + (ahead + 1) * step;
    WHILE lower_bound < horizon LOOP
        SELECT p.to_time INTO covered FROM "llmspell".event_partitions() AS p
         WHERE p.from_time <= lower_bound AND p.to_time > lower_bound;
        IF FOUND THEN
            lower_bound := covered;
            CONTINUE;
        END IF;
        SELECT min(p.from_time) INTO next_start FROM "llmspell".event_partitions() AS p
         WHERE p.from_time > lower_bound;
        upper_bound := lower_bound + step;
        IF lower_bound <> date_trunc(unit, lower_bound) OR upper_bound > next_start THEN
            upper_bound := lower_bound + interval '1 day';
        END IF;
        made := made || "llmspell".create_event_partition(lower_bound, upper_bound);
        lower_bound := upper_bound;
    END LOOP;
    RETURN made;
END
$function$;
COMMENT ON FUNCTION llmspell.ensure_event_partitions(unit text, ahead integer) IS 'Keeps partitions ahead of now.';

CREATE OR REPLACE FUNCTION llmspell.enter(tenant text, capability text, store text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    row_of "llmspell".tenants%ROWTYPE;
    inner_key bytea;
    outer_key bytea;
    claimed integer := coalesce(substring(capability FROM '^v([0-9]{1,9})\.[0-9a-f]{64}$')::integer, 0);
    genuine boolean;
    mac text;
    applied text;
BEGIN
    SELECT t.* INTO row_of FROM "llmspell".tenants AS t WHERE t.tenant = enter.tenant;
    SELECT k.inner_pad, k.outer_pad INTO inner_key, outer_key FROM "llmspell".sealing_key AS k;
    mac := encode(sha256(outer_key || sha256(inner_key || convert_to(
        concat_ws(chr(31), 'capability', coalesce(tenant, ''), claimed), 'UTF8'))), 'hex');
    -- Digests are compared, not the values: how far a guess was right can not be timed.
    genuine := sha256(convert_to(coalesce(capability, ''), 'UTF8'))
        = sha256(convert_to(concat('v', claimed, '.', mac), 'UTF8'));
    IF genuine IS NOT TRUE OR row_of.tenant IS NULL OR row_of.isolation <> 'sealed'
       OR row_of.state <> 'active' OR row_of.suspended
       OR NOT (claimed = row_of.capability_version
               OR (claimed = row_of.previous_capability_version
                   AND row_of.previous_capability_expires_at > clock_timestamp()) IS TRUE) THEN
        RAISE EXCEPTION 'the tenant can not be entered' USING ERRCODE = '28000';
    END IF;
    PERFORM FROM "llmspell".components AS c WHERE c.store = enter.store AND c.enabled;
    IF NOT FOUND OR NOT store = ANY (row_of.stores) THEN
        RAISE EXCEPTION 'the tenant does not have this store' USING ERRCODE = '42501';
    END IF;
    mac := encode(sha256(outer_key || sha256(inner_key || convert_to(
        concat_ws(chr(31), 'context', row_of.tenant, pg_backend_pid(), extract(epoch FROM now())), 'UTF8'))), 'hex');
    applied := set_config('llmspell.context', mac || ':' || row_of.tenant, true);
    IF row_of.statement_timeout_ms IS NOT NULL THEN
        applied := set_config('statement_timeout', row_of.statement_timeout_ms::text, true);
    END IF;
    IF row_of.lock_timeout_ms IS NOT NULL THEN
        applied := set_config('lock_timeout', row_of.lock_timeout_ms::text, true);
    END IF;
    IF row_of.idle_in_transaction_timeout_ms IS NOT NULL THEN
        applied := set_config(
            'idle_in_transaction_session_timeout', row_of.idle_in_transaction_timeout_ms::text, true);
    END IF;
    IF row_of.work_mem_kb IS NOT NULL THEN
        applied := set_config('work_mem', row_of.work_mem_kb::text, true);
    END IF;
END
$function$;
COMMENT ON FUNCTION llmspell.enter(tenant text, capability text, store text) IS 'Enters a tenant on the shared login for the rest of the transaction.';

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.erase_entity(subject uuid, reason text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    entity_rows bigint;
    relationship_rows bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    DELETE FROM "llmspell".relationships AS r
     WHERE r.tenant_id = asking AND (r.from_entity = subject OR r.to_entity = subject);
    GET DIAGNOSTICS relationship_rows = ROW_COUNT;
    DELETE FROM "llmspell".entities AS e WHERE e.tenant_id = asking AND e.entity_id = subject;
    GET DIAGNOSTICS entity_rows = ROW_COUNT;
    INSERT INTO "llmspell".erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'entity', sha256(convert_to(subject::text, 'UTF8')), entity_rows + relationship_rows, reason);
    RETURN entity_rows + relationship_rows;
END
$function$;
COMMENT ON FUNCTION llmspell.erase_entity(subject uuid, reason text) IS 'Removes all versions of an entity and its relationships, and leaves a trace.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.erase_hook_executions(subject text, reason text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    erased bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    DELETE FROM "llmspell".hook_history AS h WHERE h.tenant_id = asking AND h.correlation_id = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    INSERT INTO "llmspell".erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'hooks', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;
COMMENT ON FUNCTION llmspell.erase_hook_executions(subject text, reason text) IS 'Removes the executions of one correlation id and leaves a trace.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.erase_stream(subject text, reason text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    erased bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    DELETE FROM "llmspell".event_log AS e WHERE e.tenant_id = asking AND e.stream = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    INSERT INTO "llmspell".erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'stream', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;
COMMENT ON FUNCTION llmspell.erase_stream(subject text, reason text) IS 'Removes the events of a stream and leaves a trace.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

CREATE OR REPLACE FUNCTION llmspell.event_partitions(OUT partition_name text, OUT from_time timestamp with time zone, OUT to_time timestamp with time zone)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
    SELECT c.relname::text, b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
      FROM pg_inherits AS i
      JOIN pg_class AS c ON c.oid = i.inhrelid
     CROSS JOIN LATERAL regexp_match(
           pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''([^'']+)''\) TO \(''([^'']+)''\)$') AS b (bounds)
     WHERE i.inhparent = to_regclass(format('%I.event_log', 'llmspell'))
     ORDER BY 2
$function$;
COMMENT ON FUNCTION llmspell.event_partitions(OUT partition_name text, OUT from_time timestamp with time zone, OUT to_time timestamp with time zone) IS 'The partitions of event_log and their bounds.';

CREATE OR REPLACE FUNCTION llmspell.pooler_login(login_name text)
 RETURNS TABLE(usename text, passwd text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT l.login, l.verifier
      FROM "llmspell".tenant_logins AS l
      JOIN "llmspell".tenants AS t ON t.tenant = l.tenant
     WHERE l.login = login_name COLLATE "C" AND l.verifier IS NOT NULL
       AND t.state = 'active' AND NOT t.suspended
       AND (l.retire_at IS NULL OR l.retire_at > statement_timestamp())
$function$;
COMMENT ON FUNCTION llmspell.pooler_login(login_name text) IS 'Name and SCRAM verifier of a live login, for the auth_query of a pooler.';

CREATE OR REPLACE FUNCTION llmspell.protect_table(target regclass, append_only boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation regclass;
    policy name;
    silenced text;
    index_name regclass;
    place integer;
    statistics_name text;
    reader constant text := format('(tenant_id = (SELECT %I.current_tenant()))', 'llmspell');
    writer constant text := format('(tenant_id = (SELECT %I.writing_tenant()))', 'llmspell');
    changers constant text := CASE WHEN append_only THEN quote_ident('llmspell_xxxxxxxx') ELSE 'PUBLIC' END;
BEGIN
    FOR relation IN
        SELECT target UNION SELECT t.relid FROM pg_partition_tree(target) AS t
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', relation);
        FOR policy IN SELECT p.polname FROM pg_policy AS p WHERE p.polrelid = relation LOOP
            EXECUTE format('DROP POLICY %I ON %s', policy, relation);
        END LOOP;
        EXECUTE format('CREATE POLICY tenant_isolation_select ON %s FOR SELECT USING %s', relation, reader);
        EXECUTE format('CREATE POLICY tenant_isolation_insert ON %s FOR INSERT WITH CHECK %s', relation, writer);
        EXECUTE format('CREATE POLICY tenant_isolation_update ON %s FOR UPDATE TO %s USING %s WITH CHECK %s',
            relation, changers, reader, writer);
        EXECUTE format('CREATE POLICY tenant_isolation_delete ON %s FOR DELETE TO %s USING %s',
            relation, changers, reader);
        EXECUTE format('CREATE POLICY maintenance_all ON %s TO %I USING (true) WITH CHECK (true)',
            relation, 'llmspell_xxxxxxxx_maintenance');
        SELECT string_agg(format('ALTER COLUMN %I SET STATISTICS 0', a.attname), ', ') INTO silenced
          FROM pg_attribute AS a
         WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'tenant_id'
           AND a.attgenerated <> 'v' AND a.attstattarget IS DISTINCT FROM 0;
        IF silenced IS NOT NULL THEN
            EXECUTE format('ALTER TABLE ONLY %s %s', relation, silenced);
        END IF;
        -- What an index computes has statistics of its own.
        FOR index_name, place IN
            SELECT i.indexrelid, a.attnum
              FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indexrelid
             WHERE i.indrelid = relation AND a.attnum <= i.indnkeyatts AND i.indkey[a.attnum - 1] = 0
               AND a.attstattarget IS DISTINCT FROM 0
        LOOP
            EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', index_name, place);
        END LOOP;
        FOR statistics_name IN
            SELECT format('%I.%I', n.nspname, e.stxname)
              FROM pg_statistic_ext AS e JOIN pg_namespace AS n ON n.oid = e.stxnamespace
             WHERE e.stxrelid = relation
               AND (pg_has_role(e.stxowner, 'USAGE') OR pg_has_role(n.nspowner, 'USAGE'))
        LOOP
            EXECUTE format('DROP STATISTICS %s', statistics_name);
        END LOOP;
        -- Analyzing with a target of 0 leaves what was gathered before. Only from 18 on may an owner remove it.
        IF current_setting('server_version_num')::integer >= 180000 THEN
            PERFORM pg_clear_attribute_stats(n.nspname::text, c.relname::text, a.attname::text, of_children)
               FROM pg_attribute AS a
               JOIN pg_class AS c ON c.oid = a.attrelid
               JOIN pg_namespace AS n ON n.oid = c.relnamespace
              CROSS JOIN (VALUES (false), (true)) AS s (of_children)
              WHERE NOT a.attisdropped
                AND (a.attrelid = relation AND a.attnum > 0 AND a.attname <> 'tenant_id'
                     OR a.attrelid IN (SELECT i.indexrelid FROM pg_index AS i
                                        WHERE i.indrelid = relation AND a.attnum <= i.indnkeyatts
                                          AND i.indkey[a.attnum - 1] = 0));
        END IF;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION llmspell.protect_table(target regclass, append_only boolean) IS 'Puts a table and its partitions under row-level security, and its columns'' statistics out of sight.';

CREATE OR REPLACE FUNCTION llmspell.refuse_second_entity_version()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM FROM "llmspell".tenant_clock AS c WHERE c.tenant_id = NEW.tenant_id FOR UPDATE;
    IF EXISTS (
        SELECT FROM "llmspell".entities AS v
         WHERE v.tenant_id = NEW.tenant_id
           AND v.entity_id = NEW.entity_id
           AND v.tx_to = 9223372036854775807
           AND v.valid_time_start < NEW.valid_time_end AND v.valid_time_end > NEW.valid_time_start) THEN
        RAISE EXCEPTION 'a current version of this entity overlaps in valid time'
            USING ERRCODE = '23P01';
    END IF;
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION llmspell.refuse_second_entity_version() IS 'Keeps one current version where btree_gist is not installed.';

CREATE OR REPLACE FUNCTION llmspell.refuse_second_relationship_version()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM FROM "llmspell".tenant_clock AS c WHERE c.tenant_id = NEW.tenant_id FOR UPDATE;
    IF EXISTS (
        SELECT FROM "llmspell".relationships AS v
         WHERE v.tenant_id = NEW.tenant_id
           AND v.relationship_id = NEW.relationship_id
           AND v.tx_to = 9223372036854775807
           AND v.valid_time_start < NEW.valid_time_end AND v.valid_time_end > NEW.valid_time_start) THEN
        RAISE EXCEPTION 'a current version of this relationship overlaps in valid time'
            USING ERRCODE = '23P01';
    END IF;
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION llmspell.refuse_second_relationship_version() IS 'Keeps one current version where btree_gist is not installed.';

CREATE OR REPLACE FUNCTION llmspell.retire_entity(subject uuid, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint, OUT relationships_closed bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".writing_tenant();
    latest bigint;
    ending record;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    PERFORM "llmspell".tick_once(asking, 0);
    SELECT greatest(
        (SELECT max(e.tx_from) FROM "llmspell".entities AS e
          WHERE e.tenant_id = asking AND e.entity_id = subject AND e.tx_to = 9223372036854775807),
        (SELECT max(r.tx_from) FROM "llmspell".relationships AS r
          WHERE r.tenant_id = asking AND r.from_entity = subject AND r.tx_to = 9223372036854775807),
        (SELECT max(r.tx_from) FROM "llmspell".relationships AS r
          WHERE r.tenant_id = asking AND r.to_entity = subject AND r.tx_to = 9223372036854775807),
        0) INTO latest;
    SELECT t.tx, t.at INTO ending FROM "llmspell".tick_once(asking, latest) AS t;
    UPDATE "llmspell".entities AS v SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND v.entity_id = subject AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS closed = ROW_COUNT;
    UPDATE "llmspell".relationships AS v SET tx_to = ending.tx, transaction_time_end = ending.at
     WHERE v.tenant_id = asking AND (v.from_entity = subject OR v.to_entity = subject)
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS relationships_closed = ROW_COUNT;
    tx := ending.tx;
    at := ending.at;
END
$function$;
COMMENT ON FUNCTION llmspell.retire_entity(subject uuid, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint, OUT relationships_closed bigint) IS 'Ends an entity and every relationship that touches it, in one tick.';

CREATE OR REPLACE FUNCTION llmspell.rotate_sealing_key()
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    key bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    padded bytea := key || decode(repeat('00', 32), 'hex');
    inner_bytes bytea := padded;
    outer_bytes bytea := padded;
    new_version integer;
BEGIN
    FOR position IN 0..63 LOOP
        inner_bytes := set_byte(inner_bytes, position, get_byte(padded, position) # 54);
        outer_bytes := set_byte(outer_bytes, position, get_byte(padded, position) # 92);
    END LOOP;
    INSERT INTO "llmspell".sealing_key AS k (version, inner_pad, outer_pad) VALUES (1, inner_bytes, outer_bytes)
    ON CONFLICT (singleton) DO UPDATE
        SET version = k.version + 1, inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad, created_at = now()
    RETURNING version INTO new_version;
    RETURN new_version;
END
$function$;
COMMENT ON FUNCTION llmspell.rotate_sealing_key() IS 'Draws a new sealing key; every capability and context dies.';

CREATE OR REPLACE FUNCTION llmspell.tick_once(for_tenant text, beyond bigint, OUT tx bigint, OUT at timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    INSERT INTO "llmspell".tenant_clock (tenant_id) VALUES (for_tenant) ON CONFLICT (tenant_id) DO NOTHING;
    SELECT c.n, c.at INTO tx, at FROM "llmspell".tenant_clock AS c
     WHERE c.tenant_id = for_tenant AND c.n > beyond AND c.xmin = pg_current_xact_id()::xid;
    IF NOT FOUND THEN
        UPDATE "llmspell".tenant_clock AS c
           SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
         WHERE c.tenant_id = for_tenant
        RETURNING c.n, c.at INTO tx, at;
    END IF;
END
$function$;
COMMENT ON FUNCTION llmspell.tick_once(for_tenant text, beyond bigint, OUT tx bigint, OUT at timestamp with time zone) IS 'Advances a tenant''s clock, once a transaction.';

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.verify_api_key(presented_hash bytea, OUT tenant_id text, OUT key_id text, OUT scopes text[], OUT expires_at timestamp with time zone)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH live AS (
        SELECT k.tenant_id, k.key_id, k.scopes, k.expires_at
          FROM "llmspell".api_keys AS k
          JOIN "llmspell".tenants AS t ON t.tenant = k.tenant_id
         WHERE k.key_hash = presented_hash AND k.revoked_at IS NULL
           AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
           AND t.state = 'active' AND NOT t.suspended
    ), used AS (
        UPDATE "llmspell".api_keys AS k SET last_used_at = clock_timestamp()
          FROM live
         WHERE k.tenant_id = live.tenant_id AND k.key_id = live.key_id
           AND (k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '1 minute')
    )
    SELECT live.tenant_id, live.key_id, live.scopes, live.expires_at FROM live
$function$;
COMMENT ON FUNCTION llmspell.verify_api_key(presented_hash bytea, OUT tenant_id text, OUT key_id text, OUT scopes text[], OUT expires_at timestamp with time zone) IS 'Finds the live key with this hash over all tenants, for a gateway.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

CREATE OR REPLACE FUNCTION llmspell.writing_tenant()
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    resolved text;
    servable boolean;
    refused boolean;
    sealed text;
BEGIN
    -- Two lookups by key: a join of the two tables takes half as long again.
    SELECT l.tenant, l.retire_at IS NULL OR l.retire_at > statement_timestamp()
      INTO resolved, servable
      FROM "llmspell".tenant_logins AS l
     WHERE l.login = session_user::text COLLATE "C";
    IF FOUND THEN
        SELECT servable AND t.state = 'active' AND NOT t.suspended, t.over_quota AND t.quota_enforced
          INTO servable, refused
          FROM "llmspell".tenants AS t
         WHERE t.tenant = resolved;
    ELSE
        -- After SET LOCAL and COMMIT a setting is '', not NULL.
        sealed := current_setting('llmspell.context', true);
        IF sealed IS NULL OR length(sealed) < 66 THEN
            RETURN NULL;
        END IF;
        resolved := substr(sealed, 66);
        SELECT sha256(convert_to(left(sealed, 64), 'UTF8')) = sha256(convert_to(encode(
                   sha256(k.outer_pad || sha256(k.inner_pad || convert_to(concat_ws(chr(31),
                       'context', resolved, pg_backend_pid(), extract(epoch FROM now())), 'UTF8'))),
                   'hex'), 'UTF8'))
          INTO servable
          FROM "llmspell".sealing_key AS k;
    END IF;
    IF servable IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    IF refused IS NULL THEN
        SELECT t.over_quota AND t.quota_enforced INTO refused FROM "llmspell".tenants AS t WHERE t.tenant = resolved;
    END IF;
    IF refused THEN
        RAISE EXCEPTION 'storage quota exceeded'
            USING ERRCODE = '53400',
                  DETAIL = (SELECT format('%s of %s bytes used.', t.used_bytes, t.quota_bytes)
                              FROM "llmspell".tenants AS t WHERE t.tenant = resolved),
                  HINT = 'DELETE still works; the quota is spec.quotas.storage of the Tenant.';
    END IF;
    RETURN resolved;
END
$function$;
COMMENT ON FUNCTION llmspell.writing_tenant() IS 'As current_tenant, but raises when the tenant is over an enforced quota.';

CREATE TRIGGER count_reference AFTER INSERT OR DELETE OR UPDATE OF tenant_id, content_hash ON llmspell.artifacts FOR EACH ROW EXECUTE FUNCTION llmspell.count_artifact_reference();

SELECT llmspell.protect_table('llmspell.agent_states', false);
SELECT llmspell.protect_table('llmspell.api_keys', false);
SELECT llmspell.protect_table('llmspell.artifact_chunks', false);
SELECT llmspell.protect_table('llmspell.artifact_content', false);
SELECT llmspell.protect_table('llmspell.artifacts', false);
SELECT llmspell.protect_table('llmspell.entities', true);
SELECT llmspell.protect_table('llmspell.erasures', true);
SELECT llmspell.protect_table('llmspell.event_log', true);
SELECT llmspell.ensure_event_partitions('month', 3);
SELECT llmspell.protect_table('llmspell.event_streams', false);
SELECT llmspell.protect_table('llmspell.hook_history', true);
SELECT llmspell.protect_table('llmspell.kv_store', false);
SELECT llmspell.protect_table('llmspell.procedural_patterns', false);
SELECT llmspell.protect_table('llmspell.relationships', true);
SELECT llmspell.protect_table('llmspell.sessions', false);
SELECT llmspell.protect_table('llmspell.tenant_clock', false);
SELECT llmspell.protect_table('llmspell.test_table', false);
SELECT llmspell.create_vector_table(128);
SELECT llmspell.create_vector_table(1536);
SELECT llmspell.create_vector_table(3072);
SELECT llmspell.create_vector_table(384);
SELECT llmspell.create_vector_table(768);
SELECT llmspell.protect_table('llmspell.workflow_states', false);
