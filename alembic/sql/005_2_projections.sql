-- Projections: how each one stands, and the two read models that come with the package.

ALTER TABLE projection_checkpoints
    ADD COLUMN rebuild_to BIGINT,
    ADD COLUMN attempts INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN failed_position BIGINT,
    ADD COLUMN last_error TEXT,
    ADD COLUMN retry_at TIMESTAMPTZ,
    ADD CONSTRAINT ck_projection_checkpoints_owner_has_lease
        CHECK ((owner IS NULL) = (lease_until IS NULL));

-- What ended broadcasts add up to. No foreign key: the figures outlive their stream.
CREATE TABLE stream_stats_day (
    stream_id BIGINT NOT NULL,
    day DATE NOT NULL,
    broadcasts BIGINT NOT NULL,
    live_seconds NUMERIC(20, 6) NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    views BIGINT NOT NULL,
    watch_seconds BIGINT NOT NULL,
    peak_viewers BIGINT NOT NULL,
    CONSTRAINT pk_stream_stats_day PRIMARY KEY (stream_id, day)
);

-- What each user did. No foreign key: an account's deletion reaches it as an event.
CREATE TABLE activity_feed (
    user_id BIGINT NOT NULL,
    position BIGINT NOT NULL,
    event_type VARCHAR(100) NOT NULL,
    subject TEXT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_activity_feed PRIMARY KEY (user_id, position)
);
