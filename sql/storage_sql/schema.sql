-- Generated from the catalog of a migrated database; not edited by hand. Run as the owner, in one
-- transaction, after bootstrap; xxxxxxxx stands for the installation's id.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO "llmspell_xxxxxxxx" WITH GRANT OPTION;
SET LOCAL ROLE "llmspell_xxxxxxxx";

CREATE TABLE llmspell.agent_state_checkpoints (
    tenant_id text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    label text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    saved_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    schema_version bigint NOT NULL,
    agent_type text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    phase text COLLATE "C",
    checksum bytea NOT NULL,
    content bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    CONSTRAINT agent_state_checkpoints_pkey PRIMARY KEY (tenant_id, agent_id, label),
    CONSTRAINT agent_state_checkpoints_agent_id_check CHECK (((length(agent_id) >= 1) AND (length(agent_id) <= 255))),
    CONSTRAINT agent_state_checkpoints_agent_type_check CHECK (((length(agent_type) >= 1) AND (length(agent_type) <= 100))),
    CONSTRAINT agent_state_checkpoints_checksum_check CHECK ((length(checksum) = 32)),
    CONSTRAINT agent_state_checkpoints_label_check CHECK (((length(label) >= 1) AND (length(label) <= 255))),
    CONSTRAINT agent_state_checkpoints_phase_check CHECK (((length(phase) >= 1) AND (length(phase) <= 100))),
    CONSTRAINT agent_state_checkpoints_schema_version_check CHECK ((schema_version > 0)),
    CONSTRAINT agent_state_checkpoints_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT agent_state_checkpoints_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT agent_state_checkpoints_version_check CHECK ((version > 0))
);
COMMENT ON TABLE llmspell.agent_state_checkpoints IS 'Versions that have a label and are kept whatever is pruned.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.agent_id IS 'Id of the agent.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.label IS 'What the caller calls it.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.version IS 'The version.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.saved_at IS 'When the version was saved.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.created_at IS 'When the checkpoint was made.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.schema_version IS 'Version of the state''s own schema.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.session_id IS 'The session that the agent worked in.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.phase IS 'Where the agent stood in its transitions.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.checksum IS 'SHA-256 of the state as JSON with sorted keys.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.content IS 'The state: JSON text, or one zstd frame of it.';
COMMENT ON COLUMN llmspell.agent_state_checkpoints.metadata IS 'What the caller keeps beside it.';

CREATE TABLE llmspell.agent_state_history (
    tenant_id text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    saved_at timestamp with time zone NOT NULL,
    schema_version bigint NOT NULL,
    is_delta boolean NOT NULL,
    agent_type text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    phase text COLLATE "C",
    checksum bytea NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT agent_state_history_pkey PRIMARY KEY (tenant_id, agent_id, version),
    CONSTRAINT agent_state_history_agent_id_check CHECK (((length(agent_id) >= 1) AND (length(agent_id) <= 255))),
    CONSTRAINT agent_state_history_agent_type_check CHECK (((length(agent_type) >= 1) AND (length(agent_type) <= 100))),
    CONSTRAINT agent_state_history_checksum_check CHECK ((length(checksum) = 32)),
    CONSTRAINT agent_state_history_phase_check CHECK (((length(phase) >= 1) AND (length(phase) <= 100))),
    CONSTRAINT agent_state_history_schema_version_check CHECK ((schema_version > 0)),
    CONSTRAINT agent_state_history_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT agent_state_history_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT agent_state_history_version_check CHECK ((version > 0))
);
COMMENT ON TABLE llmspell.agent_state_history IS 'What leads back to each older version of an agent''s state.';
COMMENT ON COLUMN llmspell.agent_state_history.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_state_history.agent_id IS 'Id of the agent.';
COMMENT ON COLUMN llmspell.agent_state_history.version IS 'The version.';
COMMENT ON COLUMN llmspell.agent_state_history.saved_at IS 'When the version was saved.';
COMMENT ON COLUMN llmspell.agent_state_history.schema_version IS 'Version of the state''s own schema.';
COMMENT ON COLUMN llmspell.agent_state_history.is_delta IS 'Whether the content is a delta from the next version back to this one.';
COMMENT ON COLUMN llmspell.agent_state_history.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN llmspell.agent_state_history.session_id IS 'The session that the agent worked in.';
COMMENT ON COLUMN llmspell.agent_state_history.phase IS 'Where the agent stood in its transitions.';
COMMENT ON COLUMN llmspell.agent_state_history.checksum IS 'SHA-256 of the state as JSON with sorted keys.';
COMMENT ON COLUMN llmspell.agent_state_history.content IS 'JSON text, or one zstd frame of it: the state or the delta.';

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
    session_id text COLLATE "C",
    phase text COLLATE "C",
    CONSTRAINT agent_states_pkey PRIMARY KEY (tenant_id, agent_id),
    CONSTRAINT agent_states_agent_id_check CHECK (((length(agent_id) >= 1) AND (length(agent_id) <= 255))),
    CONSTRAINT agent_states_agent_type_check CHECK (((length(agent_type) >= 1) AND (length(agent_type) <= 100))),
    CONSTRAINT agent_states_checksum_check CHECK ((checksum ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT agent_states_data_version_check CHECK ((data_version > 0)),
    CONSTRAINT agent_states_schema_version_check CHECK ((schema_version > 0)),
    CONSTRAINT agent_states_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT phase_length CHECK (((length(phase) >= 1) AND (length(phase) <= 100))),
    CONSTRAINT session_id_length CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255)))
) WITH (fillfactor=70);
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
COMMENT ON COLUMN llmspell.agent_states.session_id IS 'The session that the agent works in.';
COMMENT ON COLUMN llmspell.agent_states.phase IS 'Where the agent stands in the declared transitions of its type.';

CREATE TABLE llmspell.agent_thread_checkpoints (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C",
    run_id text COLLATE "C",
    document_base uuid,
    parts uuid[] NOT NULL,
    document bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    CONSTRAINT agent_thread_checkpoints_pkey PRIMARY KEY (tenant_id, thread_id, namespace, checkpoint_id),
    CONSTRAINT agent_thread_checkpoints_checkpoint_id_check CHECK (((octet_length(checkpoint_id) >= 1) AND (octet_length(checkpoint_id) <= 128))),
    CONSTRAINT agent_thread_checkpoints_namespace_check CHECK ((octet_length(namespace) <= 800)),
    CONSTRAINT agent_thread_checkpoints_parent_id_check CHECK (((octet_length(parent_id) >= 1) AND (octet_length(parent_id) <= 128))),
    CONSTRAINT agent_thread_checkpoints_run_id_check CHECK (((length(run_id) >= 1) AND (length(run_id) <= 255))),
    CONSTRAINT agent_thread_checkpoints_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT agent_thread_checkpoints_thread_id_check CHECK (((length(thread_id) >= 1) AND (length(thread_id) <= 255)))
);
COMMENT ON TABLE llmspell.agent_thread_checkpoints IS 'Checkpoints of agents that step through a graph.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.thread_id IS 'The thread of checkpoints.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.namespace IS 'The graph within the thread; empty for the outermost.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.checkpoint_id IS 'Id of the checkpoint; later ones are greater.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.parent_id IS 'The checkpoint that this one follows.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.run_id IS 'The run that made it.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.document_base IS 'The part that the document was compressed against.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.parts IS 'Every part that is needed to read the checkpoint.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.document IS 'One zstd frame: the checkpoint, its small values, and where its large ones are.';
COMMENT ON COLUMN llmspell.agent_thread_checkpoints.metadata IS 'What listings are filtered by.';

CREATE TABLE llmspell.agent_thread_parts (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id text COLLATE "C" NOT NULL,
    part_id uuid NOT NULL,
    base_id uuid,
    content bytea STORAGE EXTERNAL NOT NULL,
    CONSTRAINT agent_thread_parts_pkey PRIMARY KEY (tenant_id, thread_id, part_id),
    CONSTRAINT agent_thread_parts_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT agent_thread_parts_thread_id_check CHECK (((length(thread_id) >= 1) AND (length(thread_id) <= 255)))
);
COMMENT ON TABLE llmspell.agent_thread_parts IS 'Large values of checkpoints, each once or as what it has beyond an earlier one.';
COMMENT ON COLUMN llmspell.agent_thread_parts.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_thread_parts.thread_id IS 'The thread of checkpoints.';
COMMENT ON COLUMN llmspell.agent_thread_parts.part_id IS 'Hash of the checkpoint that brought it and of its content.';
COMMENT ON COLUMN llmspell.agent_thread_parts.base_id IS 'The part that it was compressed against.';
COMMENT ON COLUMN llmspell.agent_thread_parts.content IS 'One zstd frame.';

CREATE TABLE llmspell.agent_thread_writes (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    "position" bigint NOT NULL,
    task_path text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT agent_thread_writes_pkey PRIMARY KEY (tenant_id, thread_id, namespace, checkpoint_id, task_id, "position"),
    CONSTRAINT agent_thread_writes_checkpoint_id_check CHECK (((octet_length(checkpoint_id) >= 1) AND (octet_length(checkpoint_id) <= 128))),
    CONSTRAINT agent_thread_writes_kind_check CHECK ((length(kind) <= 100)),
    CONSTRAINT agent_thread_writes_namespace_check CHECK ((octet_length(namespace) <= 800)),
    CONSTRAINT agent_thread_writes_task_id_check CHECK (((octet_length(task_id) >= 1) AND (octet_length(task_id) <= 128))),
    CONSTRAINT agent_thread_writes_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT agent_thread_writes_thread_id_check CHECK (((length(thread_id) >= 1) AND (length(thread_id) <= 255)))
);
COMMENT ON TABLE llmspell.agent_thread_writes IS 'What tasks wrote after a checkpoint, before the next one.';
COMMENT ON COLUMN llmspell.agent_thread_writes.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_thread_writes.thread_id IS 'The thread of checkpoints.';
COMMENT ON COLUMN llmspell.agent_thread_writes.namespace IS 'The graph within the thread; empty for the outermost.';
COMMENT ON COLUMN llmspell.agent_thread_writes.checkpoint_id IS 'The checkpoint that the task began from.';
COMMENT ON COLUMN llmspell.agent_thread_writes.task_id IS 'The task.';
COMMENT ON COLUMN llmspell.agent_thread_writes."position" IS 'Place among the task''s writes; special writes have places below 0.';
COMMENT ON COLUMN llmspell.agent_thread_writes.task_path IS 'Where the task stands in its step; orders the writes of parallel tasks.';
COMMENT ON COLUMN llmspell.agent_thread_writes.channel IS 'What was written to.';
COMMENT ON COLUMN llmspell.agent_thread_writes.kind IS 'How the value was serialised.';
COMMENT ON COLUMN llmspell.agent_thread_writes.content IS 'The value, with one byte before it that says whether it is compressed.';

CREATE TABLE llmspell.agent_transitions (
    tenant_id text COLLATE "C" NOT NULL,
    agent_type text COLLATE "C" NOT NULL,
    from_phase text COLLATE "C" NOT NULL,
    to_phase text COLLATE "C" NOT NULL,
    CONSTRAINT agent_transitions_pkey PRIMARY KEY (tenant_id, agent_type, from_phase, to_phase),
    CONSTRAINT agent_transitions_agent_type_check CHECK (((length(agent_type) >= 1) AND (length(agent_type) <= 100))),
    CONSTRAINT agent_transitions_from_phase_check CHECK ((length(from_phase) <= 100)),
    CONSTRAINT agent_transitions_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT agent_transitions_to_phase_check CHECK (((length(to_phase) >= 1) AND (length(to_phase) <= 100)))
);
COMMENT ON TABLE llmspell.agent_transitions IS 'Between which phases agents of a type may go; a type without rows may do anything.';
COMMENT ON COLUMN llmspell.agent_transitions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.agent_transitions.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN llmspell.agent_transitions.from_phase IS 'The phase that is left; empty for an agent that has none yet.';
COMMENT ON COLUMN llmspell.agent_transitions.to_phase IS 'The phase that is entered.';

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
    prefix text COLLATE "C",
    CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, key_id),
    CONSTRAINT api_keys_key_hash_check CHECK ((length(key_hash) = 32)),
    CONSTRAINT api_keys_key_id_check CHECK (((length(key_id) >= 1) AND (length(key_id) <= 255))),
    CONSTRAINT api_keys_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255))),
    CONSTRAINT api_keys_prefix_length CHECK (((length(prefix) >= 1) AND (length(prefix) <= 50))),
    CONSTRAINT api_keys_rotated_from_check CHECK (((length(rotated_from) >= 1) AND (length(rotated_from) <= 255))),
    CONSTRAINT api_keys_sealing_key_id_check CHECK (((length(sealing_key_id) >= 1) AND (length(sealing_key_id) <= 255))),
    CONSTRAINT api_keys_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT hashed_or_sealed CHECK ((((key_hash IS NULL) <> (sealed_value IS NULL)) AND ((sealed_value IS NULL) = (sealing_key_id IS NULL))))
);
COMMENT ON TABLE llmspell.api_keys IS 'Keys: issued ones as hashes, foreign ones sealed by the application.';
COMMENT ON COLUMN llmspell.api_keys.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.api_keys.key_id IS 'Public id of the key, part of the key itself.';
COMMENT ON COLUMN llmspell.api_keys.name IS 'Name of the key.';
COMMENT ON COLUMN llmspell.api_keys.key_hash IS 'SHA-256 of an issued key, of its whole text from the prefix to the checksum.';
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
COMMENT ON COLUMN llmspell.api_keys.prefix IS 'First part of an issued key, by which people and scanners know it.';

CREATE TABLE llmspell.artifact_chunks (
    tenant_id text COLLATE "C" NOT NULL,
    content_hash text COLLATE "C" NOT NULL,
    chunk bigint NOT NULL,
    data bytea STORAGE EXTERNAL NOT NULL,
    chunk_hash bytea,
    is_compressed boolean NOT NULL DEFAULT false,
    CONSTRAINT artifact_chunks_pkey PRIMARY KEY (tenant_id, content_hash, chunk),
    CONSTRAINT artifact_chunks_chunk_check CHECK ((chunk >= 0)),
    CONSTRAINT artifact_chunks_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT chunk_hash_is_blake3 CHECK ((length(chunk_hash) = 32))
);
COMMENT ON TABLE llmspell.artifact_chunks IS 'Chunks of content that is too large for one row.';
COMMENT ON COLUMN llmspell.artifact_chunks.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.artifact_chunks.content_hash IS 'The content that it is part of, or its upload.';
COMMENT ON COLUMN llmspell.artifact_chunks.chunk IS 'Index of the chunk, from 0.';
COMMENT ON COLUMN llmspell.artifact_chunks.data IS 'Its stored bytes.';
COMMENT ON COLUMN llmspell.artifact_chunks.chunk_hash IS 'BLAKE3 of its uncompressed bytes.';
COMMENT ON COLUMN llmspell.artifact_chunks.is_compressed IS 'Whether its stored bytes are zstd.';

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
    uploading_until timestamp with time zone,
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
COMMENT ON COLUMN llmspell.artifact_content.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits; 64 random ones while it is uploaded.';
COMMENT ON COLUMN llmspell.artifact_content.storage_type IS 'inline or chunked.';
COMMENT ON COLUMN llmspell.artifact_content.data IS 'The stored bytes of inline content.';
COMMENT ON COLUMN llmspell.artifact_content.chunk_size IS 'Uncompressed bytes a chunk, the last one excepted.';
COMMENT ON COLUMN llmspell.artifact_content.size_bytes IS 'Stored bytes, after compression.';
COMMENT ON COLUMN llmspell.artifact_content.is_compressed IS 'Whether the stored bytes, or some of the chunks, are zstd.';
COMMENT ON COLUMN llmspell.artifact_content.original_size_bytes IS 'Bytes before compression.';
COMMENT ON COLUMN llmspell.artifact_content.reference_count IS 'Artifacts that point here; kept by a trigger.';
COMMENT ON COLUMN llmspell.artifact_content.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.artifact_content.last_accessed_at IS 'When it last gained or lost a reference.';
COMMENT ON COLUMN llmspell.artifact_content.uploading_until IS 'While it is uploaded: when the upload counts as abandoned unless another chunk comes.';

CREATE TABLE llmspell.artifact_counters (
    tenant_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    head bigint NOT NULL,
    CONSTRAINT artifact_counters_pkey PRIMARY KEY (tenant_id, session_id, name),
    CONSTRAINT artifact_counters_head_check CHECK ((head > 0)),
    CONSTRAINT artifact_counters_name_check CHECK ((length(name) <= 255)),
    CONSTRAINT artifact_counters_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT artifact_counters_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.artifact_counters IS 'The last version of each name of a session.';
COMMENT ON COLUMN llmspell.artifact_counters.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.artifact_counters.session_id IS 'The session.';
COMMENT ON COLUMN llmspell.artifact_counters.name IS 'Name of the artifact; empty for the order within the session.';
COMMENT ON COLUMN llmspell.artifact_counters.head IS 'The last number given.';

CREATE TABLE llmspell.artifact_tags (
    tenant_id text COLLATE "C" NOT NULL,
    artifact_id text COLLATE "C" NOT NULL,
    tag text COLLATE "C" NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT artifact_tags_pkey PRIMARY KEY (tenant_id, artifact_id, tag),
    CONSTRAINT artifact_tags_tag_check CHECK (((length(tag) >= 1) AND (length(tag) <= 255))),
    CONSTRAINT artifact_tags_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.artifact_tags IS 'Artifacts by tag.';
COMMENT ON COLUMN llmspell.artifact_tags.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.artifact_tags.artifact_id IS 'The artifact.';
COMMENT ON COLUMN llmspell.artifact_tags.tag IS 'One of its tags.';
COMMENT ON COLUMN llmspell.artifact_tags.created_at IS 'When the artifact was written.';

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
    keep boolean NOT NULL DEFAULT false,
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
COMMENT ON COLUMN llmspell.artifacts.version IS 'Version of its name within the session, from 1.';
COMMENT ON COLUMN llmspell.artifacts.tags IS 'Tags.';
COMMENT ON COLUMN llmspell.artifacts.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.artifacts.keep IS 'Whether it stays when its session is deleted.';

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
    embedding_hash bytea,
    CONSTRAINT entities_pkey PRIMARY KEY (tenant_id, entity_id, tx_from, valid_time_start),
    CONSTRAINT entities_one_current_version EXCLUDE USING gist (tenant_id WITH =, entity_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&) WHERE (((tx_to + 0) = '9223372036854775807'::bigint)),
    CONSTRAINT entities_entity_type_check CHECK (((length(entity_type) >= 1) AND (length(entity_type) <= 255))),
    CONSTRAINT entities_name_check CHECK (((length(name) >= 1) AND (length(name) <= 500))),
    CONSTRAINT entities_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT entities_tx_from_check CHECK ((tx_from > 0)),
    CONSTRAINT tx_range CHECK ((tx_from < tx_to)),
    CONSTRAINT tx_time_range CHECK ((transaction_time_start < transaction_time_end)),
    CONSTRAINT valid_time_range CHECK ((valid_time_start < valid_time_end))
);
ALTER TABLE llmspell.entities ALTER COLUMN tenant_id SET (n_distinct=200);
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
COMMENT ON COLUMN llmspell.entities.embedding_hash IS 'Names the embedding of this version; NULL for none.';

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

CREATE TABLE llmspell.event_consumers (
    tenant_id text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    "position" bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT event_consumers_pkey PRIMARY KEY (tenant_id, consumer),
    CONSTRAINT event_consumers_consumer_check CHECK (((length(consumer) >= 1) AND (length(consumer) <= 255))),
    CONSTRAINT event_consumers_position_check CHECK (("position" >= 0)),
    CONSTRAINT event_consumers_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
) WITH (fillfactor=50);
COMMENT ON TABLE llmspell.event_consumers IS 'How far the readers of the event log have come.';
COMMENT ON COLUMN llmspell.event_consumers.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.event_consumers.consumer IS 'Name of the reader.';
COMMENT ON COLUMN llmspell.event_consumers."position" IS 'The last position it has dealt with.';
COMMENT ON COLUMN llmspell.event_consumers.updated_at IS 'When it last said so.';

CREATE TABLE llmspell.event_ids (
    tenant_id text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    stream text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    "position" bigint NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    CONSTRAINT event_ids_pkey PRIMARY KEY (tenant_id, event_id),
    CONSTRAINT event_ids_position_check CHECK (("position" > 0)),
    CONSTRAINT event_ids_sequence_check CHECK ((sequence > 0)),
    CONSTRAINT event_ids_stream_check CHECK (((length(stream) >= 1) AND (length(stream) <= 255))),
    CONSTRAINT event_ids_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.event_ids IS 'Ids that callers gave to events, and where those went.';
COMMENT ON COLUMN llmspell.event_ids.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.event_ids.event_id IS 'The id.';
COMMENT ON COLUMN llmspell.event_ids.stream IS 'Stream of the event.';
COMMENT ON COLUMN llmspell.event_ids.sequence IS 'Version of the stream that it made.';
COMMENT ON COLUMN llmspell.event_ids."position" IS 'Tick of the tenant''s clock that it was recorded in.';
COMMENT ON COLUMN llmspell.event_ids."timestamp" IS 'When it was recorded.';

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

CREATE TABLE llmspell.graph_embeddings (
    tenant_id text STORAGE MAIN COLLATE "C" NOT NULL,
    entity_id uuid NOT NULL,
    embedding_hash bytea NOT NULL,
    dimension bigint NOT NULL,
    embedding public.vector STORAGE MAIN NOT NULL,
    CONSTRAINT graph_embeddings_pkey PRIMARY KEY (tenant_id, entity_id, embedding_hash),
    CONSTRAINT graph_embeddings_dimension_check CHECK (((dimension >= 1) AND (dimension <= 16000))),
    CONSTRAINT graph_embeddings_embedding_hash_check CHECK ((length(embedding_hash) = 32)),
    CONSTRAINT graph_embeddings_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255)))
);
COMMENT ON TABLE llmspell.graph_embeddings IS 'Embeddings of entities, each kept once, whatever number of versions carry it.';
COMMENT ON COLUMN llmspell.graph_embeddings.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.graph_embeddings.entity_id IS 'The entity that it describes.';
COMMENT ON COLUMN llmspell.graph_embeddings.embedding_hash IS 'SHA-256 of the embedding as little-endian float32.';
COMMENT ON COLUMN llmspell.graph_embeddings.dimension IS 'Number of its components.';
COMMENT ON COLUMN llmspell.graph_embeddings.embedding IS 'The embedding.';

CREATE TABLE llmspell.graph_transactions (
    tenant_id text COLLATE "C" NOT NULL,
    tx bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text COLLATE "C",
    reason text COLLATE "C",
    sources jsonb NOT NULL DEFAULT '[]'::jsonb,
    erased_hash bytea,
    CONSTRAINT graph_transactions_pkey PRIMARY KEY (tenant_id, tx),
    CONSTRAINT graph_transactions_actor_check CHECK (((length(actor) >= 1) AND (length(actor) <= 255))),
    CONSTRAINT graph_transactions_erased_hash_check CHECK ((length(erased_hash) = 32)),
    CONSTRAINT graph_transactions_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 500))),
    CONSTRAINT graph_transactions_sources_check CHECK ((jsonb_typeof(sources) = 'array'::text)),
    CONSTRAINT graph_transactions_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT graph_transactions_tx_check CHECK ((tx > 0))
);
COMMENT ON TABLE llmspell.graph_transactions IS 'Who wrote to the graph, why, and from what; a row for each tick of which something was said.';
COMMENT ON COLUMN llmspell.graph_transactions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.graph_transactions.tx IS 'Number of the transaction on the tenant''s clock.';
COMMENT ON COLUMN llmspell.graph_transactions.at IS 'Time of the transaction on the tenant''s clock.';
COMMENT ON COLUMN llmspell.graph_transactions.actor IS 'Who wrote, as the writer says.';
COMMENT ON COLUMN llmspell.graph_transactions.reason IS 'Why, as the writer says.';
COMMENT ON COLUMN llmspell.graph_transactions.sources IS 'Ids of what it was learned from.';
COMMENT ON COLUMN llmspell.graph_transactions.erased_hash IS 'SHA-256 of the id of the entity that this transaction erased.';

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
    duration_us bigint,
    failed boolean NOT NULL DEFAULT false,
    CONSTRAINT hook_history_pkey PRIMARY KEY (tenant_id, execution_id),
    CONSTRAINT hook_history_correlation_id_check CHECK (((length(correlation_id) >= 1) AND (length(correlation_id) <= 255))),
    CONSTRAINT hook_history_duration_ms_check CHECK ((duration_ms >= 0)),
    CONSTRAINT hook_history_duration_us CHECK ((duration_us >= 0)),
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
COMMENT ON COLUMN llmspell.hook_history.duration_us IS 'How long it ran, in microseconds; NULL in rows that only have duration_ms.';
COMMENT ON COLUMN llmspell.hook_history.failed IS 'Whether the hook ended with an error.';

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

CREATE TABLE llmspell.procedure_versions (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    scope text COLLATE "C" NOT NULL,
    steps jsonb NOT NULL,
    trigger_filter jsonb,
    provenance jsonb NOT NULL DEFAULT '[]'::jsonb,
    embedding bytea,
    prior double precision NOT NULL DEFAULT 0.5,
    successes bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    last_outcome_at timestamp with time zone,
    saved_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT procedure_versions_pkey PRIMARY KEY (tenant_id, name, version),
    CONSTRAINT procedure_versions_embedding_check CHECK (((octet_length(embedding) >= 4) AND (octet_length(embedding) <= 64000))),
    CONSTRAINT procedure_versions_embedding_check1 CHECK (((octet_length(embedding) % 4) = 0)),
    CONSTRAINT procedure_versions_failures_check CHECK ((failures >= 0)),
    CONSTRAINT procedure_versions_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255))),
    CONSTRAINT procedure_versions_prior_check CHECK (((prior >= (0)::double precision) AND (prior <= (1)::double precision))),
    CONSTRAINT procedure_versions_scope_check CHECK ((length(scope) <= 500)),
    CONSTRAINT procedure_versions_successes_check CHECK ((successes >= 0)),
    CONSTRAINT procedure_versions_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT procedure_versions_version_check CHECK ((version > 0))
);
COMMENT ON TABLE llmspell.procedure_versions IS 'The versions of procedures that were replaced.';
COMMENT ON COLUMN llmspell.procedure_versions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.procedure_versions.name IS 'Name of the procedure.';
COMMENT ON COLUMN llmspell.procedure_versions.version IS 'The version.';
COMMENT ON COLUMN llmspell.procedure_versions.scope IS 'Where it held.';
COMMENT ON COLUMN llmspell.procedure_versions.steps IS 'What to do.';
COMMENT ON COLUMN llmspell.procedure_versions.trigger_filter IS 'The filter that a context had to match.';
COMMENT ON COLUMN llmspell.procedure_versions.provenance IS 'Texts that say where it came from.';
COMMENT ON COLUMN llmspell.procedure_versions.embedding IS 'Its meaning, as little-endian float32.';
COMMENT ON COLUMN llmspell.procedure_versions.prior IS 'The confidence before any outcome.';
COMMENT ON COLUMN llmspell.procedure_versions.successes IS 'How often the version succeeded.';
COMMENT ON COLUMN llmspell.procedure_versions.failures IS 'How often the version failed.';
COMMENT ON COLUMN llmspell.procedure_versions.last_outcome_at IS 'When the version last did either.';
COMMENT ON COLUMN llmspell.procedure_versions.saved_at IS 'When the version was saved.';

CREATE TABLE llmspell.procedures (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    revision bigint NOT NULL DEFAULT 1,
    scope text COLLATE "C" NOT NULL,
    steps jsonb NOT NULL,
    trigger_filter jsonb,
    provenance jsonb NOT NULL DEFAULT '[]'::jsonb,
    embedding bytea,
    prior double precision NOT NULL DEFAULT 0.5,
    successes bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    last_outcome_at timestamp with time zone,
    superseded_by text COLLATE "C",
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT procedures_pkey PRIMARY KEY (tenant_id, name),
    CONSTRAINT procedures_embedding_check CHECK (((octet_length(embedding) >= 4) AND (octet_length(embedding) <= 64000))),
    CONSTRAINT procedures_embedding_check1 CHECK (((octet_length(embedding) % 4) = 0)),
    CONSTRAINT procedures_failures_check CHECK ((failures >= 0)),
    CONSTRAINT procedures_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255))),
    CONSTRAINT procedures_prior_check CHECK (((prior >= (0)::double precision) AND (prior <= (1)::double precision))),
    CONSTRAINT procedures_revision_check CHECK ((revision > 0)),
    CONSTRAINT procedures_scope_check CHECK ((length(scope) <= 500)),
    CONSTRAINT procedures_successes_check CHECK ((successes >= 0)),
    CONSTRAINT procedures_superseded_by_check CHECK (((length(superseded_by) >= 1) AND (length(superseded_by) <= 255))),
    CONSTRAINT procedures_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT procedures_version_check CHECK ((version > 0))
) WITH (fillfactor=80);
COMMENT ON TABLE llmspell.procedures IS 'What to do when, in its current version, and how it has done.';
COMMENT ON COLUMN llmspell.procedures.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.procedures.name IS 'Name of the procedure.';
COMMENT ON COLUMN llmspell.procedures.version IS 'Counts the versions of the name from 1.';
COMMENT ON COLUMN llmspell.procedures.revision IS 'Grows with every change of the row.';
COMMENT ON COLUMN llmspell.procedures.scope IS 'Where it holds; empty for everywhere.';
COMMENT ON COLUMN llmspell.procedures.steps IS 'What to do.';
COMMENT ON COLUMN llmspell.procedures.trigger_filter IS 'The filter that a context must match; NULL when none triggers it.';
COMMENT ON COLUMN llmspell.procedures.provenance IS 'Texts that say where it comes from.';
COMMENT ON COLUMN llmspell.procedures.embedding IS 'Its meaning, as little-endian float32.';
COMMENT ON COLUMN llmspell.procedures.prior IS 'The confidence before any outcome.';
COMMENT ON COLUMN llmspell.procedures.successes IS 'How often the version succeeded.';
COMMENT ON COLUMN llmspell.procedures.failures IS 'How often the version failed.';
COMMENT ON COLUMN llmspell.procedures.last_outcome_at IS 'When the version last did either.';
COMMENT ON COLUMN llmspell.procedures.superseded_by IS 'Name of the procedure that took its place.';
COMMENT ON COLUMN llmspell.procedures.created_at IS 'When the name was first saved.';
COMMENT ON COLUMN llmspell.procedures.updated_at IS 'When the version was saved.';

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
    CONSTRAINT relationships_one_current_version EXCLUDE USING gist (tenant_id WITH =, relationship_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&) WHERE (((tx_to + 0) = '9223372036854775807'::bigint)),
    CONSTRAINT relationships_relationship_type_check CHECK (((length(relationship_type) >= 1) AND (length(relationship_type) <= 255))),
    CONSTRAINT relationships_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT relationships_tx_from_check CHECK ((tx_from > 0)),
    CONSTRAINT tx_range CHECK ((tx_from < tx_to)),
    CONSTRAINT tx_time_range CHECK ((transaction_time_start < transaction_time_end)),
    CONSTRAINT valid_time_range CHECK ((valid_time_start < valid_time_end))
);
ALTER TABLE llmspell.relationships ALTER COLUMN tenant_id SET (n_distinct=200);
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

CREATE TABLE llmspell.session_ancestry (
    tenant_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    through bigint NOT NULL,
    CONSTRAINT session_ancestry_pkey PRIMARY KEY (tenant_id, session_id, thread_id),
    CONSTRAINT session_ancestry_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT session_ancestry_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT session_ancestry_through_check CHECK ((through >= 0))
);
ALTER TABLE llmspell.session_ancestry ALTER COLUMN tenant_id SET (n_distinct=2);
COMMENT ON TABLE llmspell.session_ancestry IS 'The threads that a session sees the beginnings of, because it was branched from there.';
COMMENT ON COLUMN llmspell.session_ancestry.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.session_ancestry.session_id IS 'The session that sees.';
COMMENT ON COLUMN llmspell.session_ancestry.thread_id IS 'The thread that is seen.';
COMMENT ON COLUMN llmspell.session_ancestry.through IS 'Number of the last message that is seen of it.';

CREATE TABLE llmspell.session_messages (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    sequence bigint NOT NULL,
    "position" bigint NOT NULL,
    role text COLLATE "C" NOT NULL,
    content jsonb NOT NULL,
    tokens bigint,
    weight bigint NOT NULL,
    idempotency_key text COLLATE "C",
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT session_messages_pkey PRIMARY KEY (tenant_id, thread_id, sequence),
    CONSTRAINT session_messages_idempotency_key_check CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 255))),
    CONSTRAINT session_messages_position_check CHECK (("position" > 0)),
    CONSTRAINT session_messages_role_check CHECK (((length(role) >= 1) AND (length(role) <= 255))),
    CONSTRAINT session_messages_sequence_check CHECK ((sequence > 0)),
    CONSTRAINT session_messages_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT session_messages_tokens_check CHECK ((tokens >= 0)),
    CONSTRAINT session_messages_weight_check CHECK ((weight >= 0))
);
COMMENT ON TABLE llmspell.session_messages IS 'Messages, by thread.';
COMMENT ON COLUMN llmspell.session_messages.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.session_messages.thread_id IS 'The thread it was appended to.';
COMMENT ON COLUMN llmspell.session_messages.sequence IS 'Number within the session, counted from 1 through its ancestry; never given twice.';
COMMENT ON COLUMN llmspell.session_messages."position" IS 'How many messages the session had with this one.';
COMMENT ON COLUMN llmspell.session_messages.role IS 'Who speaks.';
COMMENT ON COLUMN llmspell.session_messages.content IS 'What is said.';
COMMENT ON COLUMN llmspell.session_messages.tokens IS 'How many tokens it has, when the caller says so.';
COMMENT ON COLUMN llmspell.session_messages.weight IS 'The tokens, or an estimate of them, for reading a window.';
COMMENT ON COLUMN llmspell.session_messages.idempotency_key IS 'What makes a repeated append give this message instead of a second one.';
COMMENT ON COLUMN llmspell.session_messages.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN llmspell.session_messages.created_at IS 'When it was appended.';

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
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    thread_id uuid,
    last_sequence bigint NOT NULL DEFAULT 0,
    message_count bigint NOT NULL DEFAULT 0,
    parent_id text COLLATE "C",
    branched_at bigint,
    CONSTRAINT sessions_pkey PRIMARY KEY (tenant_id, session_id),
    CONSTRAINT sessions_artifact_count_check CHECK ((artifact_count >= 0)),
    CONSTRAINT sessions_branched_at_check CHECK ((branched_at >= 0)),
    CONSTRAINT sessions_data_version_check CHECK ((data_version > 0)),
    CONSTRAINT sessions_last_sequence_check CHECK ((last_sequence >= 0)),
    CONSTRAINT sessions_message_count_check CHECK ((message_count >= 0)),
    CONSTRAINT sessions_parent_id_check CHECK (((length(parent_id) >= 1) AND (length(parent_id) <= 255))),
    CONSTRAINT sessions_session_id_check CHECK (((length(session_id) >= 1) AND (length(session_id) <= 255))),
    CONSTRAINT sessions_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT valid_session_status CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text, 'expired'::text])))
) WITH (fillfactor=80);
COMMENT ON TABLE llmspell.sessions IS 'Snapshots of sessions.';
COMMENT ON COLUMN llmspell.sessions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.sessions.session_id IS 'Id of the session.';
COMMENT ON COLUMN llmspell.sessions.session_data IS 'The snapshot.';
COMMENT ON COLUMN llmspell.sessions.status IS 'active, archived or expired.';
COMMENT ON COLUMN llmspell.sessions.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN llmspell.sessions.artifact_count IS 'Artifacts of the session, kept by the writer.';
COMMENT ON COLUMN llmspell.sessions.expires_at IS 'When it expires.';
COMMENT ON COLUMN llmspell.sessions.last_accessed_at IS 'When it was last written or touched; reading writes nothing.';
COMMENT ON COLUMN llmspell.sessions.created_at IS 'When the row was first written.';
COMMENT ON COLUMN llmspell.sessions.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN llmspell.sessions.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN llmspell.sessions.thread_id IS 'The thread that the session appends to; NULL until it does.';
COMMENT ON COLUMN llmspell.sessions.last_sequence IS 'Number of the message that was appended last; never goes back.';
COMMENT ON COLUMN llmspell.sessions.message_count IS 'How many messages the session has.';
COMMENT ON COLUMN llmspell.sessions.parent_id IS 'The session it was branched from.';
COMMENT ON COLUMN llmspell.sessions.branched_at IS 'Number of the last message that it took over from there.';

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
    tenant_open boolean NOT NULL DEFAULT false,
    tenant_full boolean NOT NULL DEFAULT false,
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
COMMENT ON COLUMN llmspell.tenant_logins.tenant_open IS 'Whether its tenant is active and not suspended; follows tenants.';
COMMENT ON COLUMN llmspell.tenant_logins.tenant_full IS 'Whether its tenant is over an enforced quota; follows tenants.';

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
    steps_completed bigint NOT NULL DEFAULT 0,
    last_step text COLLATE "C",
    error jsonb,
    attempts bigint NOT NULL DEFAULT 0,
    fencing_token bigint NOT NULL DEFAULT 0,
    lease_owner text COLLATE "C",
    lease_seconds double precision,
    lease_expires_at timestamp with time zone,
    CONSTRAINT workflow_states_pkey PRIMARY KEY (tenant_id, workflow_id),
    CONSTRAINT valid_workflow_status CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT workflow_states_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT workflow_states_current_step_check CHECK ((current_step >= 0)),
    CONSTRAINT workflow_states_data_version_check CHECK ((data_version > 0)),
    CONSTRAINT workflow_states_fencing_token_check CHECK ((fencing_token >= 0)),
    CONSTRAINT workflow_states_last_step_check CHECK (((length(last_step) >= 1) AND (length(last_step) <= 255))),
    CONSTRAINT workflow_states_lease_owner_check CHECK (((length(lease_owner) >= 1) AND (length(lease_owner) <= 255))),
    CONSTRAINT workflow_states_lease_seconds_check CHECK ((lease_seconds > (0)::double precision)),
    CONSTRAINT workflow_states_steps_completed_check CHECK ((steps_completed >= 0)),
    CONSTRAINT workflow_states_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT workflow_states_workflow_id_check CHECK (((length(workflow_id) >= 1) AND (length(workflow_id) <= 255))),
    CONSTRAINT workflow_states_workflow_name_check CHECK ((length(workflow_name) <= 500))
) WITH (fillfactor=80);
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
COMMENT ON COLUMN llmspell.workflow_states.steps_completed IS 'How many steps are completed; the position of the last one.';
COMMENT ON COLUMN llmspell.workflow_states.last_step IS 'The step that was completed last.';
COMMENT ON COLUMN llmspell.workflow_states.error IS 'Why it failed last; kept when it runs again.';
COMMENT ON COLUMN llmspell.workflow_states.attempts IS 'How often it began to run, or was taken over from a holder who fell silent.';
COMMENT ON COLUMN llmspell.workflow_states.fencing_token IS 'Grows with each lease that is given or given back; a write with an older one is refused.';
COMMENT ON COLUMN llmspell.workflow_states.lease_owner IS 'Who holds the lease, or held it when it ran out.';
COMMENT ON COLUMN llmspell.workflow_states.lease_seconds IS 'How long a heartbeat lets the lease live.';
COMMENT ON COLUMN llmspell.workflow_states.lease_expires_at IS 'When the lease runs out; NULL when nobody has one.';

CREATE TABLE llmspell.workflow_steps (
    tenant_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    step text COLLATE "C" NOT NULL,
    "position" bigint NOT NULL,
    output jsonb NOT NULL,
    completed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT workflow_steps_pkey PRIMARY KEY (tenant_id, workflow_id, step),
    CONSTRAINT workflow_steps_tenant_id_workflow_id_position_key UNIQUE (tenant_id, workflow_id, "position"),
    CONSTRAINT workflow_steps_position_check CHECK (("position" > 0)),
    CONSTRAINT workflow_steps_step_check CHECK (((length(step) >= 1) AND (length(step) <= 255))),
    CONSTRAINT workflow_steps_tenant_id_check CHECK (((length(tenant_id) >= 3) AND (length(tenant_id) <= 255))),
    CONSTRAINT workflow_steps_workflow_id_check CHECK (((length(workflow_id) >= 1) AND (length(workflow_id) <= 255)))
);
COMMENT ON TABLE llmspell.workflow_steps IS 'The completed steps of each workflow.';
COMMENT ON COLUMN llmspell.workflow_steps.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN llmspell.workflow_steps.workflow_id IS 'Id of the workflow.';
COMMENT ON COLUMN llmspell.workflow_steps.step IS 'Name of the step; completed once.';
COMMENT ON COLUMN llmspell.workflow_steps."position" IS 'Counts the completed steps of the workflow from 1.';
COMMENT ON COLUMN llmspell.workflow_steps.output IS 'What the step gave.';
COMMENT ON COLUMN llmspell.workflow_steps.completed_at IS 'When it was completed.';

CREATE INDEX agent_state_checkpoints_version ON llmspell.agent_state_checkpoints USING btree (tenant_id, agent_id, version);
CREATE INDEX agent_states_session ON llmspell.agent_states USING btree (tenant_id, session_id, agent_id) WHERE (session_id IS NOT NULL);
CREATE INDEX agent_states_type ON llmspell.agent_states USING btree (tenant_id, agent_type, agent_id);
CREATE INDEX agent_thread_checkpoints_run ON llmspell.agent_thread_checkpoints USING btree (tenant_id, run_id) WHERE (run_id IS NOT NULL);
CREATE UNIQUE INDEX api_keys_hash ON llmspell.api_keys USING btree (key_hash) WHERE (key_hash IS NOT NULL);
CREATE INDEX api_keys_name ON llmspell.api_keys USING btree (tenant_id, name, created_at);
CREATE UNIQUE INDEX api_keys_successor ON llmspell.api_keys USING btree (tenant_id, rotated_from) WHERE (rotated_from IS NOT NULL);
CREATE INDEX artifact_content_unreferenced ON llmspell.artifact_content USING btree (tenant_id, last_accessed_at) WHERE (reference_count = 0);
CREATE INDEX artifact_tags_listing ON llmspell.artifact_tags USING btree (tenant_id, tag, created_at, artifact_id);
CREATE INDEX artifacts_content ON llmspell.artifacts USING btree (tenant_id, content_hash);
CREATE INDEX artifacts_created ON llmspell.artifacts USING btree (tenant_id, created_at, artifact_id);
CREATE INDEX artifacts_session ON llmspell.artifacts USING btree (tenant_id, session_id, sequence);
CREATE INDEX artifacts_type ON llmspell.artifacts USING btree (tenant_id, artifact_type, created_at, artifact_id);
CREATE UNIQUE INDEX artifacts_versions ON llmspell.artifacts USING btree (tenant_id, session_id, name, version);
CREATE INDEX entities_changes ON llmspell.entities USING btree (tenant_id, tx_from, entity_id);
CREATE INDEX entities_closed ON llmspell.entities USING btree (tenant_id, tx_to, entity_id) WHERE (tx_to < '9223372036854775807'::bigint);
CREATE INDEX entities_current ON llmspell.entities USING btree (tenant_id, entity_id, valid_time_start) WHERE ((tx_to = '9223372036854775807'::bigint) AND (entity_id IS NOT NULL));
CREATE INDEX entities_current_name ON llmspell.entities USING btree (tenant_id, name, entity_id) WHERE ((tx_to = '9223372036854775807'::bigint) AND (name IS NOT NULL));
CREATE INDEX entities_current_type ON llmspell.entities USING btree (tenant_id, entity_type, entity_id) WHERE ((tx_to = '9223372036854775807'::bigint) AND (entity_type IS NOT NULL));
CREATE INDEX event_log_correlation ON ONLY llmspell.event_log USING btree (tenant_id, correlation_id, "timestamp");
CREATE INDEX event_log_position ON ONLY llmspell.event_log USING btree (tenant_id, "position");
CREATE INDEX event_log_stream ON ONLY llmspell.event_log USING btree (tenant_id, stream, sequence);
CREATE INDEX event_log_type ON ONLY llmspell.event_log USING btree (tenant_id, event_type, "timestamp");
CREATE INDEX hook_history_component ON llmspell.hook_history USING btree (tenant_id, triggering_component, "timestamp");
CREATE INDEX hook_history_correlation ON llmspell.hook_history USING btree (tenant_id, correlation_id, "timestamp");
CREATE INDEX hook_history_hook ON llmspell.hook_history USING btree (tenant_id, hook_id, "timestamp");
CREATE INDEX hook_history_retention ON llmspell.hook_history USING btree (tenant_id, retention_priority, "timestamp");
CREATE INDEX hook_history_time ON llmspell.hook_history USING btree (tenant_id, "timestamp");
CREATE INDEX hook_history_type ON llmspell.hook_history USING btree (tenant_id, hook_type, "timestamp");
CREATE INDEX kv_store_expiry ON llmspell.kv_store USING btree (tenant_id, expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX procedural_patterns_learned ON llmspell.procedural_patterns USING btree (tenant_id, identity, frequency) WHERE (frequency >= 3);
CREATE INDEX procedures_scope ON llmspell.procedures USING btree (tenant_id, scope, name);
CREATE INDEX relationships_changes ON llmspell.relationships USING btree (tenant_id, tx_from, relationship_id);
CREATE INDEX relationships_closed ON llmspell.relationships USING btree (tenant_id, tx_to, relationship_id) WHERE (tx_to < '9223372036854775807'::bigint);
CREATE INDEX relationships_current ON llmspell.relationships USING btree (tenant_id, relationship_id, valid_time_start) WHERE ((tx_to = '9223372036854775807'::bigint) AND (relationship_id IS NOT NULL));
CREATE INDEX relationships_current_from ON llmspell.relationships USING btree (tenant_id, from_entity, relationship_type, valid_time_start) INCLUDE (to_entity, valid_time_end) WHERE ((tx_to = '9223372036854775807'::bigint) AND (from_entity IS NOT NULL));
CREATE INDEX relationships_current_to ON llmspell.relationships USING btree (tenant_id, to_entity, relationship_type, valid_time_start) INCLUDE (from_entity, valid_time_end) WHERE ((tx_to = '9223372036854775807'::bigint) AND (to_entity IS NOT NULL));
CREATE INDEX relationships_from ON llmspell.relationships USING btree (tenant_id, from_entity, tx_from);
CREATE INDEX relationships_to ON llmspell.relationships USING btree (tenant_id, to_entity, tx_from);
CREATE INDEX session_ancestry_thread ON llmspell.session_ancestry USING btree (tenant_id, thread_id, through);
CREATE UNIQUE INDEX session_messages_key ON llmspell.session_messages USING btree (tenant_id, thread_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX session_messages_role ON llmspell.session_messages USING btree (tenant_id, thread_id, role, sequence);
CREATE INDEX sessions_created ON llmspell.sessions USING btree (tenant_id, created_at, session_id);
CREATE INDEX sessions_expiry ON llmspell.sessions USING btree (tenant_id, expires_at, session_id) WHERE ((status = 'active'::text) AND (expires_at IS NOT NULL));
CREATE INDEX sessions_status ON llmspell.sessions USING btree (tenant_id, status, created_at, session_id);
CREATE UNIQUE INDEX sessions_thread ON llmspell.sessions USING btree (tenant_id, thread_id) WHERE (thread_id IS NOT NULL);
CREATE INDEX workflow_states_created ON llmspell.workflow_states USING btree (tenant_id, created_at, workflow_id);
CREATE INDEX workflow_states_lease ON llmspell.workflow_states USING btree (tenant_id, lease_expires_at, workflow_id) WHERE ((status = 'running'::text) AND (lease_expires_at IS NOT NULL));
CREATE INDEX workflow_states_name ON llmspell.workflow_states USING btree (tenant_id, workflow_name, created_at, workflow_id);
CREATE INDEX workflow_states_pending ON llmspell.workflow_states USING btree (tenant_id, workflow_name, created_at, workflow_id) WHERE (status = 'pending'::text);
CREATE INDEX workflow_states_status ON llmspell.workflow_states USING btree (tenant_id, status, created_at, workflow_id);
COMMENT ON INDEX llmspell.api_keys_hash IS 'global key: a gateway finds the tenant by the hash; 256 random bits leave nothing to probe for';
COMMENT ON INDEX llmspell.api_keys_successor IS 'One successor a key.';
ALTER TABLE llmspell.artifact_chunks ADD CONSTRAINT artifact_chunks_tenant_id_content_hash_fkey FOREIGN KEY (tenant_id, content_hash) REFERENCES llmspell.artifact_content(tenant_id, content_hash) ON DELETE CASCADE;
ALTER TABLE llmspell.artifact_tags ADD CONSTRAINT artifact_tags_tenant_id_artifact_id_fkey FOREIGN KEY (tenant_id, artifact_id) REFERENCES llmspell.artifacts(tenant_id, artifact_id) ON DELETE CASCADE;
ALTER TABLE llmspell.artifacts ADD CONSTRAINT artifacts_tenant_id_content_hash_fkey FOREIGN KEY (tenant_id, content_hash) REFERENCES llmspell.artifact_content(tenant_id, content_hash) ON DELETE RESTRICT;
ALTER TABLE llmspell.procedure_versions ADD CONSTRAINT procedure_versions_tenant_id_name_fkey FOREIGN KEY (tenant_id, name) REFERENCES llmspell.procedures(tenant_id, name) ON DELETE CASCADE;
ALTER TABLE llmspell.session_ancestry ADD CONSTRAINT session_ancestry_tenant_id_session_id_fkey FOREIGN KEY (tenant_id, session_id) REFERENCES llmspell.sessions(tenant_id, session_id) ON DELETE CASCADE;
ALTER TABLE llmspell.tenant_logins ADD CONSTRAINT tenant_logins_tenant_fkey FOREIGN KEY (tenant) REFERENCES llmspell.tenants(tenant);
ALTER TABLE llmspell.workflow_steps ADD CONSTRAINT workflow_steps_tenant_id_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES llmspell.workflow_states(tenant_id, workflow_id) ON DELETE CASCADE;

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.append_event(new_id uuid, kind text, into_stream text, correlation text, happened_at timestamp with time zone, script_language text, content jsonb, expected bigint, keyed boolean, OUT made_sequence bigint, OUT made_position bigint, OUT made_at timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".writing_tenant();
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    IF expected IS NULL THEN
        UPDATE "llmspell".tenant_clock AS c
           SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
         WHERE c.tenant_id = asking
        RETURNING c.n, c.at INTO made_position, made_at;
        IF NOT FOUND THEN
            INSERT INTO "llmspell".tenant_clock AS c (tenant_id, n, at) VALUES (asking, 1, clock_timestamp())
            ON CONFLICT (tenant_id) DO UPDATE
                SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
            RETURNING c.n, c.at INTO made_position, made_at;
        END IF;
        UPDATE "llmspell".event_streams AS s SET head = s.head + 1
         WHERE s.tenant_id = asking AND s.stream = into_stream
        RETURNING s.head INTO made_sequence;
        IF NOT FOUND THEN
            INSERT INTO "llmspell".event_streams AS s (tenant_id, stream, head, created_at)
            VALUES (asking, into_stream, 1, made_at)
            ON CONFLICT (tenant_id, stream) DO UPDATE SET head = s.head + 1
            RETURNING s.head INTO made_sequence;
        END IF;
    ELSE
        -- Only locked until it is known that there is something to append, so that a refusal leaves no gap.
        SELECT c.n + 1, greatest(clock_timestamp(), c.at + interval '1 microsecond') INTO made_position, made_at
          FROM "llmspell".tenant_clock AS c WHERE c.tenant_id = asking FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO "llmspell".tenant_clock AS c (tenant_id) VALUES (asking)
            ON CONFLICT (tenant_id) DO UPDATE SET n = c.n
            RETURNING c.n + 1, greatest(clock_timestamp(), c.at + interval '1 microsecond')
                 INTO made_position, made_at;
        END IF;
        IF expected = 0 THEN
            INSERT INTO "llmspell".event_streams AS s (tenant_id, stream, head, created_at)
            VALUES (asking, into_stream, 1, made_at)
            ON CONFLICT (tenant_id, stream) DO UPDATE SET head = 1 WHERE s.head = 0
            RETURNING s.head INTO made_sequence;
        ELSE
            UPDATE "llmspell".event_streams AS s SET head = s.head + 1
             WHERE s.tenant_id = asking AND s.stream = into_stream AND s.head = expected
            RETURNING s.head INTO made_sequence;
        END IF;
        IF NOT FOUND THEN
            made_position := NULL;
            made_at := NULL;
            RETURN;
        END IF;
        UPDATE "llmspell".tenant_clock AS c SET n = made_position, at = made_at WHERE c.tenant_id = asking;
    END IF;
    IF keyed THEN
        INSERT INTO "llmspell".event_ids (tenant_id, event_id, stream, sequence, position, timestamp)
        VALUES (asking, new_id, into_stream, made_sequence, made_position, made_at);
    END IF;
    INSERT INTO "llmspell".event_log
        (tenant_id, event_id, event_type, correlation_id, stream, sequence, position, timestamp, occurred_at, language,
         payload)
    VALUES (asking, new_id, kind, correlation, into_stream, made_sequence, made_position, made_at,
            coalesce(happened_at, made_at), script_language, content);
END
$function$;
COMMENT ON FUNCTION llmspell.append_event(new_id uuid, kind text, into_stream text, correlation text, happened_at timestamp with time zone, script_language text, content jsonb, expected bigint, keyed boolean, OUT made_sequence bigint, OUT made_position bigint, OUT made_at timestamp with time zone) IS 'Appends one event to a stream, at the version that is expected if one is; empty when the stream is elsewhere.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

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
        UPDATE "llmspell".artifact_content AS c
           SET reference_count = c.reference_count - 1, last_accessed_at = clock_timestamp()
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
        WHEN dimension <= 1970 THEN 'PLAIN' WHEN dimension <= 2000 THEN 'MAIN' ELSE 'EXTERNAL' END;
    half_storage constant text := CASE WHEN dimension <= 3940 THEN 'PLAIN' ELSE 'MAIN' END;
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
    IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass(parent) AND a.attname = 'document_id') THEN
        RETURN;
    END IF;
    IF to_regclass(parent) IS NULL THEN
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
    ELSIF vector_storage = 'MAIN' THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN embedding SET STORAGE MAIN', parent);
    ELSIF half_column <> '' AND half_storage = 'MAIN' THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN embedding_half SET STORAGE MAIN', parent);
    END IF;
    EXECUTE format($ddl$
        ALTER TABLE %s
            ADD COLUMN document_id text STORAGE MAIN COLLATE "C" CHECK (length(document_id) BETWEEN 1 AND 255),
            ADD COLUMN position bigint CHECK (position >= 0),
            ADD COLUMN terms tsvector$ddl$, parent);
    EXECUTE format('CREATE INDEX %I ON %s (tenant_id, document_id, position) WHERE document_id IS NOT NULL',
        table_name || '_document', parent);
    EXECUTE format(
        'COMMENT ON COLUMN %1$s.document_id IS ''The document that the content is a part of.'';'
        'COMMENT ON COLUMN %1$s.position IS ''Its place in the document.'';'
        'COMMENT ON COLUMN %1$s.terms IS ''The different words of the content, as the library found them.''', parent);
    PERFORM "llmspell".protect_table(parent);
END
$function$;
COMMENT ON FUNCTION llmspell.create_vector_table(dimension integer) IS 'Makes the table of one vector dimension, or brings it up.';

CREATE OR REPLACE FUNCTION llmspell.current_tenant()
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    resolved text;
    servable boolean;
    sealed text;
    proof text;
    inner_key bytea;
    outer_key bytea;
    blind bigint;
BEGIN
    SELECT l.tenant, l.tenant_open AND (l.retire_at IS NULL OR l.retire_at > statement_timestamp())
      INTO resolved, servable
      FROM "llmspell".tenant_logins AS l
     WHERE l.login = session_user::text COLLATE "C";
    IF NOT FOUND THEN
        -- After SET LOCAL and COMMIT a setting is '', not NULL.
        sealed := current_setting('llmspell.context', true);
        IF sealed IS NULL OR length(sealed) < 66 THEN
            RETURN NULL;
        END IF;
        SELECT k.inner_pad, k.outer_pad INTO inner_key, outer_key FROM "llmspell".sealing_key AS k;
        proof := encode(sha256(inner_key || int4send(pg_backend_pid()) || timestamptz_send(now())
            || convert_to(substr(sealed, 65), 'UTF8') || outer_key), 'hex');
        -- A hash with a secret seed is compared first: how far a guess was right can not be timed.
        blind := hashtextextended(encode(outer_key, 'hex'), 0);
        servable := hashtextextended(left(sealed, 64), blind) = hashtextextended(proof, blind)
            AND left(sealed, 64) = proof;
        resolved := substr(sealed, 66);
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
    claimed constant text := substr(split_part(capability, '.', 1), 2);
    inner_key bytea;
    outer_key bytea;
    blind bigint;
    due text;
    live boolean;
    has_store boolean;
    context text;
    statement_timeout_ms bigint;
    lock_timeout_ms bigint;
    idle_in_transaction_timeout_ms bigint;
    work_mem_kb bigint;
    applied text;
BEGIN
    SELECT k.inner_pad, k.outer_pad,
           t.isolation = 'sealed' AND t.state = 'active' AND NOT t.suspended
           AND (claimed = t.capability_version::text
                OR (claimed = t.previous_capability_version::text
                    AND t.previous_capability_expires_at > clock_timestamp()) IS TRUE),
           enter.store = ANY (t.stores),
           CASE WHEN t.over_quota AND t.quota_enforced THEN '!' ELSE ':' END || t.tenant,
           t.statement_timeout_ms, t.lock_timeout_ms, t.idle_in_transaction_timeout_ms, t.work_mem_kb
      INTO inner_key, outer_key, live, has_store, context,
           statement_timeout_ms, lock_timeout_ms, idle_in_transaction_timeout_ms, work_mem_kb
      FROM "llmspell".sealing_key AS k LEFT JOIN "llmspell".tenants AS t ON t.tenant = enter.tenant;
    due := concat('v', claimed, '.', encode(sha256(outer_key || sha256(inner_key || convert_to(
        concat_ws(chr(31), 'capability', tenant, claimed), 'UTF8'))), 'hex'));
    blind := hashtextextended(encode(outer_key, 'hex'), 0);
    IF (live AND hashtextextended(capability, blind) = hashtextextended(due, blind) AND capability = due) IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant can not be entered' USING ERRCODE = '28000';
    END IF;
    PERFORM FROM "llmspell".components AS c WHERE c.store = enter.store AND c.enabled;
    IF NOT FOUND OR has_store IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant does not have this store' USING ERRCODE = '42501';
    END IF;
    applied := set_config('llmspell.context', encode(sha256(inner_key || int4send(pg_backend_pid())
        || timestamptz_send(now()) || convert_to(context, 'UTF8') || outer_key), 'hex') || context, true);
    IF statement_timeout_ms IS NOT NULL THEN
        applied := set_config('statement_timeout', statement_timeout_ms::text, true);
    END IF;
    IF lock_timeout_ms IS NOT NULL THEN
        applied := set_config('lock_timeout', lock_timeout_ms::text, true);
    END IF;
    IF idle_in_transaction_timeout_ms IS NOT NULL THEN
        applied := set_config(
            'idle_in_transaction_session_timeout', idle_in_transaction_timeout_ms::text, true);
    END IF;
    IF work_mem_kb IS NOT NULL THEN
        applied := set_config('work_mem', work_mem_kb::text, true);
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
    rows_gone bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    SELECT e.erased INTO rows_gone FROM "llmspell".erase_entity_as(subject, reason, NULL) AS e;
    IF rows_gone = 0 THEN
        BEGIN
            PERFORM "llmspell".writing_tenant();
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN 0;
        END;
        INSERT INTO "llmspell".erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'entity', sha256(convert_to(subject::text, 'UTF8')), 0, reason);
    END IF;
    RETURN rows_gone;
END
$function$;
COMMENT ON FUNCTION llmspell.erase_entity(subject uuid, reason text) IS 'Removes all versions of an entity and its relationships, and leaves a trace.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.erase_entity_as(subject uuid, reason text, actor text, OUT tx bigint, OUT at timestamp with time zone, OUT erased bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    hash constant bytea := sha256(convert_to(subject::text, 'UTF8'));
    removed bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    INSERT INTO "llmspell".tenant_clock AS c (tenant_id) VALUES (asking)
    ON CONFLICT (tenant_id) DO UPDATE SET n = c.n WHERE false;
    DELETE FROM "llmspell".relationships AS r
     WHERE r.tenant_id = asking AND (r.from_entity = subject OR r.to_entity = subject);
    GET DIAGNOSTICS erased = ROW_COUNT;
    DELETE FROM "llmspell".entities AS e WHERE e.tenant_id = asking AND e.entity_id = subject;
    GET DIAGNOSTICS removed = ROW_COUNT;
    erased := erased + removed;
    DELETE FROM "llmspell".graph_embeddings AS g WHERE g.tenant_id = asking AND g.entity_id = subject;
    IF erased > 0 THEN
        SELECT t.tx, t.at INTO tx, at FROM "llmspell".tick_once(asking, 0) AS t;
        INSERT INTO "llmspell".erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'entity', hash, erased, reason);
        -- Two erasures in one transaction are one tick, whose row names the last of them.
        INSERT INTO "llmspell".graph_transactions AS g (tenant_id, tx, at, actor, reason, erased_hash)
        VALUES (asking, tx, at, actor, reason, hash)
        ON CONFLICT ON CONSTRAINT graph_transactions_pkey DO UPDATE SET erased_hash = excluded.erased_hash;
    END IF;
END
$function$;
COMMENT ON FUNCTION llmspell.erase_entity_as(subject uuid, reason text, actor text, OUT tx bigint, OUT at timestamp with time zone, OUT erased bigint) IS 'Removes all versions of an entity, its relationships and embeddings in one tick, and leaves a trace.';
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
    IF erased = 0 THEN
        BEGIN
            PERFORM "llmspell".writing_tenant();
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN 0;
        END;
    END IF;
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
    WITH gone AS (
        DELETE FROM "llmspell".event_log AS e WHERE e.tenant_id = asking AND e.stream = subject RETURNING true
    ), forgotten AS (
        DELETE FROM "llmspell".event_ids AS i WHERE i.tenant_id = asking AND i.stream = subject
    )
    SELECT count(*) INTO erased FROM gone;
    IF erased = 0 THEN
        BEGIN
            PERFORM "llmspell".writing_tenant();
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN 0;
        END;
    END IF;
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

CREATE OR REPLACE FUNCTION llmspell.know_tenant_of_login()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    SELECT t.state = 'active' AND NOT t.suspended, t.over_quota AND t.quota_enforced
      INTO NEW.tenant_open, NEW.tenant_full
      FROM "llmspell".tenants AS t
     WHERE t.tenant = NEW.tenant
       FOR SHARE;
    -- Without its tenant the foreign key refuses the row.
    NEW.tenant_open := coalesce(NEW.tenant_open, false);
    NEW.tenant_full := coalesce(NEW.tenant_full, false);
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION llmspell.know_tenant_of_login() IS 'Writes into a login what its tenant is.';

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.note_api_key_use(used_key text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
BEGIN
    PERFORM FROM "llmspell".api_keys AS k
      WHERE k.tenant_id = asking AND k.key_id = used_key
        AND (k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '1 minute')
        FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE "llmspell".api_keys AS k SET last_used_at = clock_timestamp()
     WHERE k.tenant_id = asking AND k.key_id = used_key;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION llmspell.note_api_key_use(used_key text) IS 'Marks the use of one of the tenant''s keys, once a minute.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

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

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.retain_hook_executions(protected_from bigint, ended_before timestamp with time zone, keep bigint, keep_bytes bigint, most bigint, reason text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    removed bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    IF keep IS NULL AND keep_bytes IS NULL THEN
        DELETE FROM "llmspell".hook_history AS h
         WHERE h.tenant_id = asking AND h.execution_id IN (
            SELECT o.execution_id FROM "llmspell".hook_history AS o
             WHERE o.tenant_id = asking AND o.timestamp < ended_before
               AND (protected_from IS NULL OR o.retention_priority < protected_from)
             ORDER BY o.retention_priority, o.timestamp, o.execution_id LIMIT most);
    ELSE
        DELETE FROM "llmspell".hook_history AS h
         WHERE h.tenant_id = asking AND h.execution_id IN (
            SELECT r.execution_id
              FROM (SELECT o.execution_id, o.retention_priority, o.timestamp,
                           o.timestamp < ended_before
                               AND (protected_from IS NULL OR o.retention_priority < protected_from) AS aged,
                           count(*) OVER ranking AS place,
                           sum(length(o.hook_context)) OVER ranking AS bytes
                      FROM "llmspell".hook_history AS o
                     WHERE o.tenant_id = asking
                    WINDOW ranking AS (
                        ORDER BY o.timestamp < ended_before
                                     AND (protected_from IS NULL OR o.retention_priority < protected_from) IS TRUE,
                                 o.retention_priority DESC, o.timestamp DESC, o.execution_id DESC
                        ROWS UNBOUNDED PRECEDING)) AS r
             WHERE (protected_from IS NULL OR r.retention_priority < protected_from)
               AND (r.aged OR r.place > keep OR r.bytes > keep_bytes)
             ORDER BY r.retention_priority, r.timestamp, r.execution_id LIMIT most);
    END IF;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed > 0 THEN
        INSERT INTO "llmspell".erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'hooks', sha256(convert_to('retention', 'UTF8')), removed, reason);
    END IF;
    RETURN removed;
END
$function$;
COMMENT ON FUNCTION llmspell.retain_hook_executions(protected_from bigint, ended_before timestamp with time zone, keep bigint, keep_bytes bigint, most bigint, reason text) IS 'Removes executions of low priority, oldest first, and leaves a trace.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

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

CREATE OR REPLACE FUNCTION llmspell.tell_logins_of_tenant()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    UPDATE "llmspell".tenant_logins AS l SET tenant_open = l.tenant_open WHERE l.tenant = NEW.tenant;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION llmspell.tell_logins_of_tenant() IS 'Has the logins of a tenant follow a change of it.';

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

CREATE OR REPLACE FUNCTION llmspell.vector_settings(dimension bigint)
 RETURNS TABLE(ef_search bigint, exact_scan_threshold bigint)
 LANGUAGE sql
 STABLE PARALLEL SAFE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN jsonb_typeof(said.ef_search) = 'number'
                THEN least(greatest((said.ef_search #>> '{}')::numeric, 1), 1000)::bigint END,
           CASE WHEN jsonb_typeof(said.threshold) = 'number'
                THEN least(greatest((said.threshold #>> '{}')::numeric, 0), 100000000)::bigint END
      FROM (VALUES (1)) AS always (one)
      LEFT JOIN (
          SELECT c.parameters -> 'ef_search' AS ef_search,
                 c.parameters #> ARRAY['dimensions', vector_settings.dimension::text, 'exact_scan_threshold'] AS threshold
            FROM "llmspell".components AS c WHERE c.store = 'vectors'
      ) AS said ON true
$function$;
COMMENT ON FUNCTION llmspell.vector_settings(dimension bigint) IS 'What the cluster says of vectors of one dimension: candidates of an index search, and the threshold of an exact scan.';

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.verify_api_key(presented_hash bytea, OUT tenant_id text, OUT key_id text, OUT name text, OUT scopes text[], OUT expires_at timestamp with time zone)
 RETURNS SETOF record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    used timestamptz;
BEGIN
    SELECT k.tenant_id, k.key_id, k.name, k.scopes, k.expires_at, k.last_used_at
      INTO verify_api_key.tenant_id, verify_api_key.key_id, verify_api_key.name, verify_api_key.scopes,
           verify_api_key.expires_at, used
      FROM "llmspell".api_keys AS k
      JOIN "llmspell".tenants AS t ON t.tenant = k.tenant_id
     WHERE k.key_hash = presented_hash AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
       AND t.state = 'active' AND NOT t.suspended;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF used IS NULL OR used < clock_timestamp() - interval '1 minute' THEN
        PERFORM FROM "llmspell".api_keys AS k
          WHERE k.tenant_id = verify_api_key.tenant_id AND k.key_id = verify_api_key.key_id
            AND k.last_used_at IS NOT DISTINCT FROM used
            FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE "llmspell".api_keys AS k SET last_used_at = clock_timestamp()
             WHERE k.tenant_id = verify_api_key.tenant_id AND k.key_id = verify_api_key.key_id;
        END IF;
    END IF;
    RETURN NEXT;
END
$function$;
COMMENT ON FUNCTION llmspell.verify_api_key(presented_hash bytea, OUT tenant_id text, OUT key_id text, OUT name text, OUT scopes text[], OUT expires_at timestamp with time zone) IS 'Finds the live key with this hash over all tenants, for a gateway.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.withdraw_entity(subject uuid, expected bigint, actor text, reason text, sources jsonb, OUT latest bigint, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint, OUT relationships_closed bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    beyond bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    -- A hundred names of 500 characters, each escaped as six.
    IF jsonb_array_length(sources) > 100 OR octet_length(sources::text) > 310000 THEN
        RAISE EXCEPTION 'the sources are more than fit' USING ERRCODE = '22023';
    END IF;
    closed := 0;
    relationships_closed := 0;
    INSERT INTO "llmspell".tenant_clock AS c (tenant_id) VALUES (asking)
    ON CONFLICT (tenant_id) DO UPDATE SET n = c.n WHERE false;
    SELECT max(v.tx_from) INTO latest
      FROM "llmspell".entities AS v
     WHERE v.tenant_id = asking AND v.entity_id = subject
       AND v.tx_to = 9223372036854775807;
    IF latest IS NULL OR latest > expected THEN
        latest := coalesce(latest, 0);
        RETURN;
    END IF;
    beyond := latest;
    SELECT greatest(
        latest,
        (SELECT max(r.tx_from) FROM "llmspell".relationships AS r
          WHERE r.tenant_id = asking AND r.from_entity = subject AND r.tx_to = 9223372036854775807),
        (SELECT max(r.tx_from) FROM "llmspell".relationships AS r
          WHERE r.tenant_id = asking AND r.to_entity = subject AND r.tx_to = 9223372036854775807)) INTO beyond;
    SELECT t.tx, t.at INTO tx, at FROM "llmspell".tick_once(asking, beyond) AS t;
    UPDATE "llmspell".entities AS v
       SET tx_to = withdraw_entity.tx,
           transaction_time_end = withdraw_entity.at
     WHERE v.tenant_id = asking AND v.entity_id = subject
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS closed = ROW_COUNT;
    UPDATE "llmspell".relationships AS v SET tx_to = withdraw_entity.tx, transaction_time_end = withdraw_entity.at
     WHERE v.tenant_id = asking AND (v.from_entity = subject OR v.to_entity = subject)
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS relationships_closed = ROW_COUNT;
    IF actor IS NOT NULL OR reason IS NOT NULL OR sources <> '[]' THEN
        -- Two of them in one transaction are one tick, whose row keeps what was said first.
        INSERT INTO "llmspell".graph_transactions (tenant_id, tx, at, actor, reason, sources)
        VALUES (asking, tx, at, actor, reason, sources)
        ON CONFLICT ON CONSTRAINT graph_transactions_pkey DO NOTHING;
    END IF;
END
$function$;
COMMENT ON FUNCTION llmspell.withdraw_entity(subject uuid, expected bigint, actor text, reason text, sources jsonb, OUT latest bigint, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint, OUT relationships_closed bigint) IS 'Ends the belief in an entity and every relationship that touches it, in one tick, over the quota too.';
SET LOCAL ROLE "llmspell_xxxxxxxx";

SET LOCAL ROLE "llmspell_xxxxxxxx_maintenance";
CREATE OR REPLACE FUNCTION llmspell.withdraw_relationship(subject uuid, expected bigint, actor text, reason text, sources jsonb, OUT latest bigint, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint, OUT relationships_closed bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    asking constant text := "llmspell".current_tenant();
    beyond bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    -- A hundred names of 500 characters, each escaped as six.
    IF jsonb_array_length(sources) > 100 OR octet_length(sources::text) > 310000 THEN
        RAISE EXCEPTION 'the sources are more than fit' USING ERRCODE = '22023';
    END IF;
    closed := 0;
    relationships_closed := 0;
    INSERT INTO "llmspell".tenant_clock AS c (tenant_id) VALUES (asking)
    ON CONFLICT (tenant_id) DO UPDATE SET n = c.n WHERE false;
    SELECT max(v.tx_from) INTO latest
      FROM "llmspell".relationships AS v
     WHERE v.tenant_id = asking AND v.relationship_id = subject
       AND v.tx_to = 9223372036854775807;
    IF latest IS NULL OR latest > expected THEN
        latest := coalesce(latest, 0);
        RETURN;
    END IF;
    beyond := latest;
    SELECT t.tx, t.at INTO tx, at FROM "llmspell".tick_once(asking, beyond) AS t;
    UPDATE "llmspell".relationships AS v
       SET tx_to = withdraw_relationship.tx,
           transaction_time_end = withdraw_relationship.at
     WHERE v.tenant_id = asking AND v.relationship_id = subject
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS closed = ROW_COUNT;
    IF actor IS NOT NULL OR reason IS NOT NULL OR sources <> '[]' THEN
        -- Two of them in one transaction are one tick, whose row keeps what was said first.
        INSERT INTO "llmspell".graph_transactions (tenant_id, tx, at, actor, reason, sources)
        VALUES (asking, tx, at, actor, reason, sources)
        ON CONFLICT ON CONSTRAINT graph_transactions_pkey DO NOTHING;
    END IF;
END
$function$;
COMMENT ON FUNCTION llmspell.withdraw_relationship(subject uuid, expected bigint, actor text, reason text, sources jsonb, OUT latest bigint, OUT tx bigint, OUT at timestamp with time zone, OUT closed bigint, OUT relationships_closed bigint) IS 'Ends the belief in a relationship, in one tick, over the quota too.';
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
    proof text;
    inner_key bytea;
    outer_key bytea;
    blind bigint;
BEGIN
    SELECT l.tenant, l.tenant_open AND (l.retire_at IS NULL OR l.retire_at > statement_timestamp()), l.tenant_full
      INTO resolved, servable, refused
      FROM "llmspell".tenant_logins AS l
     WHERE l.login = session_user::text COLLATE "C";
    IF NOT FOUND THEN
        -- After SET LOCAL and COMMIT a setting is '', not NULL.
        sealed := current_setting('llmspell.context', true);
        IF sealed IS NULL OR length(sealed) < 66 THEN
            RETURN NULL;
        END IF;
        SELECT k.inner_pad, k.outer_pad INTO inner_key, outer_key FROM "llmspell".sealing_key AS k;
        proof := encode(sha256(inner_key || int4send(pg_backend_pid()) || timestamptz_send(now())
            || convert_to(substr(sealed, 65), 'UTF8') || outer_key), 'hex');
        -- A hash with a secret seed is compared first: how far a guess was right can not be timed.
        blind := hashtextextended(encode(outer_key, 'hex'), 0);
        servable := hashtextextended(left(sealed, 64), blind) = hashtextextended(proof, blind)
            AND left(sealed, 64) = proof;
        resolved := substr(sealed, 66);
        refused := substr(sealed, 65, 1) = '!';
    END IF;
    IF servable IS NOT TRUE THEN
        RETURN NULL;
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
CREATE TRIGGER know_tenant BEFORE INSERT OR UPDATE OF tenant, tenant_open, tenant_full ON llmspell.tenant_logins FOR EACH ROW EXECUTE FUNCTION llmspell.know_tenant_of_login();
CREATE TRIGGER tell_logins AFTER UPDATE OF state, suspended, over_quota, quota_enforced ON llmspell.tenants FOR EACH ROW WHEN (((old.state IS DISTINCT FROM new.state) OR (old.suspended IS DISTINCT FROM new.suspended) OR ((old.over_quota AND old.quota_enforced) IS DISTINCT FROM (new.over_quota AND new.quota_enforced)))) EXECUTE FUNCTION llmspell.tell_logins_of_tenant();
ALTER TABLE llmspell.tenant_logins ENABLE ALWAYS TRIGGER know_tenant;
ALTER TABLE llmspell.tenants ENABLE ALWAYS TRIGGER tell_logins;

SELECT llmspell.protect_table('llmspell.agent_state_checkpoints', false);
SELECT llmspell.protect_table('llmspell.agent_state_history', false);
SELECT llmspell.protect_table('llmspell.agent_states', false);
SELECT llmspell.protect_table('llmspell.agent_thread_checkpoints', false);
SELECT llmspell.protect_table('llmspell.agent_thread_parts', false);
SELECT llmspell.protect_table('llmspell.agent_thread_writes', false);
SELECT llmspell.protect_table('llmspell.agent_transitions', false);
SELECT llmspell.protect_table('llmspell.api_keys', false);
SELECT llmspell.protect_table('llmspell.artifact_chunks', false);
SELECT llmspell.protect_table('llmspell.artifact_content', false);
SELECT llmspell.protect_table('llmspell.artifact_counters', false);
SELECT llmspell.protect_table('llmspell.artifact_tags', false);
SELECT llmspell.protect_table('llmspell.artifacts', false);
SELECT llmspell.protect_table('llmspell.entities', true);
SELECT llmspell.protect_table('llmspell.erasures', true);
SELECT llmspell.protect_table('llmspell.event_consumers', false);
SELECT llmspell.protect_table('llmspell.event_ids', false);
SELECT llmspell.protect_table('llmspell.event_log', true);
SELECT llmspell.ensure_event_partitions('month', 3);
SELECT llmspell.protect_table('llmspell.event_streams', false);
SELECT llmspell.protect_table('llmspell.graph_embeddings', true);
SELECT llmspell.protect_table('llmspell.graph_transactions', true);
SELECT llmspell.protect_table('llmspell.hook_history', true);
SELECT llmspell.protect_table('llmspell.kv_store', false);
SELECT llmspell.protect_table('llmspell.procedural_patterns', false);
SELECT llmspell.protect_table('llmspell.procedure_versions', false);
SELECT llmspell.protect_table('llmspell.procedures', false);
SELECT llmspell.protect_table('llmspell.relationships', true);
SELECT llmspell.protect_table('llmspell.session_ancestry', false);
SELECT llmspell.protect_table('llmspell.session_messages', false);
SELECT llmspell.protect_table('llmspell.sessions', false);
SELECT llmspell.protect_table('llmspell.tenant_clock', false);
SELECT llmspell.protect_table('llmspell.test_table', false);
SELECT llmspell.create_vector_table(128);
SELECT llmspell.create_vector_table(1536);
SELECT llmspell.create_vector_table(3072);
SELECT llmspell.create_vector_table(384);
SELECT llmspell.create_vector_table(768);
SELECT llmspell.protect_table('llmspell.workflow_states', false);
SELECT llmspell.protect_table('llmspell.workflow_steps', false);
