DROP TABLE session_invalidations;
DROP FUNCTION touch_session(BIGINT, TIMESTAMPTZ, INTERVAL, INTERVAL, INET);
DROP FUNCTION open_session(
    BIGINT, BIGINT, BYTEA, SMALLINT, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, SMALLINT, TEXT,
    TIMESTAMPTZ, TIMESTAMPTZ, BYTEA, TEXT, INET, TEXT, TEXT, INTEGER, BIGINT, BIGINT
);
-- Their tokens are of a form that the older release does not know.
DELETE FROM sessions;
DROP INDEX ix_sessions_user_id_open;
ALTER TABLE sessions
    DROP COLUMN token_version,
    DROP COLUMN generation,
    DROP COLUMN auth_epoch,
    DROP COLUMN level,
    DROP COLUMN mfa_method,
    DROP COLUMN authenticated_at,
    DROP COLUMN mfa_at,
    DROP COLUMN idle_expires_at,
    DROP COLUMN revoke_reason,
    DROP COLUMN rotated_from,
    DROP COLUMN family_id,
    DROP COLUMN device_fingerprint,
    DROP COLUMN device_label,
    DROP COLUMN ip_address,
    DROP COLUMN last_ip_address,
    DROP COLUMN location;
ALTER TABLE sessions RESET (fillfactor);
CREATE INDEX ix_sessions_user_id_open ON sessions (user_id, last_seen_at) WHERE revoked_at IS NULL;
DROP TABLE auth_state;
ALTER TABLE users DROP COLUMN auth_epoch;
