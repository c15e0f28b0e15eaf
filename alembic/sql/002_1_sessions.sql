-- Login sessions.

-- Raised by whatever ends all sessions of an account, so that a login that began before it and
-- commits after it is refused.
ALTER TABLE users ADD COLUMN auth_epoch BIGINT NOT NULL DEFAULT 0;

-- One row: the generation of all sessions. Sessions of an older generation are dead, which is how an
-- older database, brought back by a restore, is kept from bringing dead sessions back with it.
CREATE TABLE auth_state (
    id SMALLINT DEFAULT 1 NOT NULL,
    generation BIGINT DEFAULT 1 NOT NULL,
    reason VARCHAR(200),
    changed_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT pk_auth_state PRIMARY KEY (id),
    CONSTRAINT ck_auth_state_one_row CHECK (id = 1)
);
INSERT INTO auth_state DEFAULT VALUES;

-- The digests in these rows are of an older form; no token that is still accepted has one.
DELETE FROM sessions;

-- A touch changes last_seen_at, idle_expires_at and last_ip_address alone. None of them is in an
-- index and every page keeps room, so that a touch is a HOT update.
ALTER TABLE sessions SET (fillfactor = 80);
DROP INDEX ix_sessions_user_id_open;
CREATE INDEX ix_sessions_user_id_open ON sessions (user_id) WHERE revoked_at IS NULL;
ALTER TABLE sessions
    ADD COLUMN token_version SMALLINT NOT NULL,
    ADD COLUMN generation BIGINT NOT NULL,
    ADD COLUMN auth_epoch BIGINT NOT NULL,
    ADD COLUMN level SMALLINT NOT NULL,
    ADD COLUMN mfa_method VARCHAR(50),
    ADD COLUMN authenticated_at TIMESTAMPTZ NOT NULL,
    ADD COLUMN mfa_at TIMESTAMPTZ,
    ADD COLUMN idle_expires_at TIMESTAMPTZ NOT NULL,
    ADD COLUMN revoke_reason VARCHAR(50),
    ADD COLUMN rotated_from BIGINT,
    ADD COLUMN family_id BIGINT,
    ADD COLUMN device_fingerprint BYTEA,
    ADD COLUMN device_label VARCHAR(120),
    ADD COLUMN ip_address INET,
    ADD COLUMN last_ip_address INET,
    ADD COLUMN location VARCHAR(200),
    ADD CONSTRAINT ck_sessions_level CHECK (level BETWEEN 0 AND 3),
    ADD CONSTRAINT ck_sessions_level_needs_mfa CHECK (level < 2 OR mfa_at IS NOT NULL),
    ADD CONSTRAINT ck_sessions_mfa_is_whole CHECK ((mfa_at IS NULL) = (mfa_method IS NULL)),
    ADD CONSTRAINT ck_sessions_mfa_method
        CHECK (mfa_method IN ('otp', 'kba', 'hwk', 'device')),
    ADD CONSTRAINT ck_sessions_idle_within_absolute CHECK (idle_expires_at <= expires_at),
    ADD CONSTRAINT ck_sessions_revoked_for_a_reason
        CHECK ((revoked_at IS NULL) = (revoke_reason IS NULL)),
    ADD CONSTRAINT ck_sessions_revoke_reason CHECK (revoke_reason IN (
        'logout', 'user', 'admin', 'limit', 'password', 'mfa', 'access', 'account', 'device',
        'rotated', 'reuse'
    )),
    ADD CONSTRAINT ck_sessions_device_fingerprint_length
        CHECK (octet_length(device_fingerprint) = 16);

-- Opens a session: checks the account, ends the session that this one replaces or those beyond the
-- limit, and says what was ended; one round trip.
--
-- Each statement of a VOLATILE function has a snapshot of its own, taken after the lock on the
-- account was granted; that is what makes the limit exact. In one statement with a CTE, the snapshot
-- would be older than the wait.
--
-- outcome: 'opened'; 'account' when the account is closed or its epoch is another one; 'replaced'
-- when the session to be replaced is no longer open.
CREATE FUNCTION open_session(
    p_user_id BIGINT,
    p_auth_epoch BIGINT,
    p_token_hash BYTEA,
    p_token_version SMALLINT,
    p_now TIMESTAMPTZ,
    p_idle_expires_at TIMESTAMPTZ,
    p_expires_at TIMESTAMPTZ,
    p_level SMALLINT,
    p_mfa_method TEXT,
    p_authenticated_at TIMESTAMPTZ,
    p_mfa_at TIMESTAMPTZ,
    p_device_fingerprint BYTEA,
    p_device_label TEXT,
    p_ip_address INET,
    p_user_agent TEXT,
    p_location TEXT,
    p_limit INTEGER,
    p_replaces BIGINT,
    p_family_id BIGINT
) RETURNS TABLE (
    outcome TEXT, session_id BIGINT, session_generation BIGINT, ended_ids BIGINT[], ended BYTEA[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_generation BIGINT;
BEGIN
    PERFORM 1 FROM users
    WHERE users.id = p_user_id AND users.is_active AND users.auth_epoch = p_auth_epoch
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'account', NULL::bigint, NULL::bigint, NULL::bigint[], NULL::bytea[];
        RETURN;
    END IF;

    SELECT auth_state.generation INTO STRICT v_generation FROM auth_state;
    IF p_replaces IS NOT NULL THEN
        UPDATE sessions SET revoked_at = p_now, revoke_reason = 'rotated'
        WHERE sessions.id = p_replaces AND sessions.user_id = p_user_id
            AND sessions.revoked_at IS NULL AND sessions.generation = v_generation
            AND sessions.expires_at > p_now AND sessions.idle_expires_at > p_now
        RETURNING ARRAY[sessions.id], ARRAY[sessions.token_hash] INTO ended_ids, ended;
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'replaced', NULL::bigint, NULL::bigint, NULL::bigint[], NULL::bytea[];
            RETURN;
        END IF;
    END IF;

    INSERT INTO sessions (
        user_id, token_hash, token_version, generation, auth_epoch, level, mfa_method,
        authenticated_at, mfa_at, created_at, last_seen_at, idle_expires_at, expires_at,
        rotated_from, family_id, device_fingerprint, device_label, ip_address, last_ip_address,
        user_agent, location
    ) VALUES (
        p_user_id, p_token_hash, p_token_version, v_generation, p_auth_epoch, p_level, p_mfa_method,
        p_authenticated_at, p_mfa_at, p_now, p_now, p_idle_expires_at, p_expires_at,
        p_replaces, p_family_id, p_device_fingerprint, p_device_label, p_ip_address, p_ip_address,
        p_user_agent, p_location
    ) RETURNING sessions.id INTO session_id;

    IF p_replaces IS NULL THEN
        WITH beyond AS (
            UPDATE sessions SET revoked_at = p_now, revoke_reason = 'limit'
            WHERE sessions.id IN (
                SELECT open.id FROM sessions AS open
                WHERE open.user_id = p_user_id AND open.revoked_at IS NULL
                    AND open.generation = v_generation AND open.auth_epoch = p_auth_epoch
                    AND open.expires_at > p_now AND open.idle_expires_at > p_now
                -- The new one first, whatever the clocks of other processes wrote.
                ORDER BY open.id = session_id DESC, open.last_seen_at DESC, open.id DESC
                OFFSET p_limit
            ) RETURNING sessions.id, sessions.token_hash
        )
        SELECT array_agg(beyond.id), array_agg(beyond.token_hash) INTO ended_ids, ended FROM beyond;
    END IF;
    RETURN QUERY SELECT 'opened', session_id, v_generation,
        coalesce(ended_ids, '{}'), coalesce(ended, '{}');
END
$$;

-- Writes down that a session was used, and lets it live on: at most once every p_interval, and not
-- at all while somebody else holds the row. No row: nothing was written.
--
-- Nobody waits for the disk: what a crash loses is a little of an idle time-out.
CREATE FUNCTION touch_session(
    p_id BIGINT,
    p_now TIMESTAMPTZ,
    p_interval INTERVAL,
    p_idle INTERVAL,
    p_ip_address INET
) RETURNS TABLE (touched_idle_expires_at TIMESTAMPTZ) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY UPDATE sessions SET
        last_seen_at = p_now,
        idle_expires_at = least(p_now + p_idle, sessions.expires_at),
        last_ip_address = coalesce(p_ip_address, sessions.last_ip_address)
    WHERE sessions.id = (
        SELECT open.id FROM sessions AS open
        WHERE open.id = p_id AND open.revoked_at IS NULL
            AND open.expires_at > p_now AND open.idle_expires_at > p_now
            AND open.last_seen_at <= p_now - p_interval
        FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING sessions.idle_expires_at;
END
$$;

-- Sessions that ended while Redis could not be told: whoever finds Redis again tells it.
CREATE TABLE session_invalidations (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY,
    token_hash BYTEA NOT NULL,
    rotated BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    CONSTRAINT pk_session_invalidations PRIMARY KEY (id),
    CONSTRAINT ck_session_invalidations_token_hash_length CHECK (octet_length(token_hash) = 32)
);
