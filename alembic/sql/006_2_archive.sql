-- The archive: old events live on in files. What is written here says where, and what the log must
-- go on knowing about them: their ids, and which aggregates, users and persons they are about.

-- What an event says, as one digest: the parts that count when an append is repeated, see
-- append_events. As in event_row_hash the input is made of stored values.
CREATE FUNCTION event_content_hash(
    p_aggregate_type TEXT,
    p_aggregate_id TEXT,
    p_event_type TEXT,
    p_schema_version SMALLINT,
    p_data JSONB,
    p_metadata JSONB,
    p_user_id BIGINT,
    p_subject_id UUID,
    p_causation_id UUID
) RETURNS BYTEA LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(convert_to(json_build_array(
        p_aggregate_type, p_aggregate_id, p_event_type, p_schema_version, p_data,
        p_metadata - 'audit', p_user_id, p_subject_id, p_causation_id
    )::text, 'UTF8'))
$$;

-- One row for each file: the manifest. Files follow one another without a hole from position 1 on,
-- and each ends where a commit ended. "chain" is that commit's.
CREATE TABLE event_archive (
    log_id SMALLINT NOT NULL,
    first_position BIGINT NOT NULL,
    last_position BIGINT NOT NULL,
    file_name VARCHAR(200) NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    index_sha256 BYTEA NOT NULL,
    chain BYTEA NOT NULL,
    epoch UUID NOT NULL,
    recorded_from TIMESTAMPTZ NOT NULL,
    recorded_until TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT pk_event_archive PRIMARY KEY (log_id, last_position),
    CONSTRAINT ck_event_archive_positions CHECK (first_position BETWEEN 1 AND last_position),
    CONSTRAINT ck_event_archive_digest_lengths CHECK (
        octet_length(sha256) = 32 AND octet_length(index_sha256) = 32 AND octet_length(chain) = 32
    )
);

-- An event id names one event for ever, in the table or in a file. Rows are committed before those
-- of event_log go: whoever looks into both in one statement finds an id in at least one of them.
CREATE TABLE event_archived_id (
    event_id UUID NOT NULL,
    position BIGINT NOT NULL,
    version BIGINT NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL,
    content_hash BYTEA NOT NULL,
    CONSTRAINT pk_event_archived_id PRIMARY KEY (event_id),
    CONSTRAINT ck_event_archived_id_content_hash_length CHECK (octet_length(content_hash) = 32)
);

-- Which blocks of which file hold events of an aggregate: its history is read without the rest.
CREATE TABLE event_archive_aggregate (
    aggregate_type VARCHAR(100) NOT NULL,
    aggregate_id VARCHAR(200) NOT NULL,
    last_version BIGINT NOT NULL,
    log_id SMALLINT NOT NULL,
    last_position BIGINT NOT NULL,
    blocks INTEGER[] NOT NULL,
    CONSTRAINT pk_event_archive_aggregate PRIMARY KEY (aggregate_type, aggregate_id, last_version)
);

-- The same by who did it, for audit trails.
CREATE TABLE event_archive_user (
    user_id BIGINT NOT NULL,
    log_id SMALLINT NOT NULL,
    last_position BIGINT NOT NULL,
    blocks INTEGER[] NOT NULL,
    CONSTRAINT pk_event_archive_user PRIMARY KEY (user_id, log_id, last_position)
);

-- The same by whose personal data they hold: for the copy a person may ask for, and for what is
-- dropped at an erasure.
CREATE TABLE event_archive_subject (
    subject_id UUID NOT NULL,
    log_id SMALLINT NOT NULL,
    last_position BIGINT NOT NULL,
    blocks INTEGER[] NOT NULL,
    CONSTRAINT pk_event_archive_subject PRIMARY KEY (subject_id, log_id, last_position)
);

-- Only maintenance writes here. Inserting is refused too: a row of event_archive makes readers look
-- into a file instead of the log, and an id in event_archived_id keeps an event out of it.
CREATE TRIGGER event_archive_protected BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
ON event_archive FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TRIGGER event_archived_id_protected BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
ON event_archived_id FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TRIGGER event_archive_aggregate_protected BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
ON event_archive_aggregate FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TRIGGER event_archive_user_protected BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
ON event_archive_user FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TRIGGER event_archive_subject_protected BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
ON event_archive_subject FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

ALTER TABLE event_archive ENABLE ALWAYS TRIGGER event_archive_protected;
ALTER TABLE event_archived_id ENABLE ALWAYS TRIGGER event_archived_id_protected;
ALTER TABLE event_archive_aggregate ENABLE ALWAYS TRIGGER event_archive_aggregate_protected;
ALTER TABLE event_archive_user ENABLE ALWAYS TRIGGER event_archive_user_protected;
ALTER TABLE event_archive_subject ENABLE ALWAYS TRIGGER event_archive_subject_protected;
