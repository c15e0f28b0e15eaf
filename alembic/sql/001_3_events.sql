-- Events: one dense order of everything that happened, with versions per aggregate.

-- The end of the log: a counter row, so that positions are dense and visible in order.
CREATE TABLE event_log_head (
    log_id SMALLINT NOT NULL,
    epoch UUID DEFAULT gen_random_uuid() NOT NULL,
    last_position BIGINT DEFAULT 0 NOT NULL,
    chain BYTEA NOT NULL,
    CONSTRAINT pk_event_log_head PRIMARY KEY (log_id)
) WITH (fillfactor = 10);

-- The version of each aggregate: updating it is the optimistic check.
CREATE TABLE event_stream (
    aggregate_type VARCHAR(100) NOT NULL,
    aggregate_id VARCHAR(200) NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT pk_event_stream PRIMARY KEY (aggregate_type, aggregate_id)
) WITH (fillfactor = 70);

-- The events themselves.
CREATE TABLE event_log (
    log_id SMALLINT NOT NULL,
    position BIGINT NOT NULL,
    event_id UUID NOT NULL,
    aggregate_type VARCHAR(100) NOT NULL,
    aggregate_id VARCHAR(200) NOT NULL,
    version BIGINT NOT NULL,
    event_type VARCHAR(100) NOT NULL,
    schema_version SMALLINT DEFAULT 1 NOT NULL,
    data JSONB NOT NULL,
    metadata JSONB DEFAULT '{}'::jsonb NOT NULL,
    user_id BIGINT,
    subject_id UUID,
    correlation_id VARCHAR(200),
    causation_id UUID,
    occurred_at TIMESTAMPTZ NOT NULL,
    recorded_at TIMESTAMPTZ DEFAULT clock_timestamp() NOT NULL,
    row_hash BYTEA NOT NULL,
    CONSTRAINT pk_event_log PRIMARY KEY (log_id, position),
    CONSTRAINT uq_event_log_aggregate_type_aggregate_id_version UNIQUE (aggregate_type, aggregate_id, version),
    CONSTRAINT ck_event_log_version_positive CHECK (version > 0),
    CONSTRAINT ck_event_log_row_hash_length CHECK (octet_length(row_hash) = 32),
    CONSTRAINT uq_event_log_event_id UNIQUE (event_id)
);
CREATE INDEX ix_event_log_user_id_position ON event_log (user_id, position) WHERE user_id IS NOT NULL;

-- The hash chain from append to append.
CREATE TABLE event_commit (
    log_id SMALLINT NOT NULL,
    last_position BIGINT NOT NULL,
    events INTEGER NOT NULL,
    chain BYTEA NOT NULL,
    recorded_at TIMESTAMPTZ DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_event_commit PRIMARY KEY (log_id, last_position)
);

-- Shortcuts for replay.
CREATE TABLE snapshots (
    aggregate_type VARCHAR(100) NOT NULL,
    aggregate_id VARCHAR(200) NOT NULL,
    version BIGINT NOT NULL,
    state JSONB NOT NULL,
    state_schema SMALLINT DEFAULT 1 NOT NULL,
    checksum BYTEA NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT pk_snapshots PRIMARY KEY (aggregate_type, aggregate_id, version)
);

-- How far each projection has read.
CREATE TABLE projection_checkpoints (
    name VARCHAR(100) NOT NULL,
    log_id SMALLINT NOT NULL,
    epoch UUID NOT NULL,
    last_position BIGINT DEFAULT 0 NOT NULL,
    owner VARCHAR(200),
    lease_until TIMESTAMPTZ,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT pk_projection_checkpoints PRIMARY KEY (name, log_id)
);
