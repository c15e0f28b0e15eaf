-- What happened that bears on security, and what rules made of it; by month. No foreign key: events
-- are written in transactions of their own, which must neither wait for nor fail with their caller.
CREATE TABLE security_events (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    kind VARCHAR(50) NOT NULL,
    risk VARCHAR(50) NOT NULL,
    user_id BIGINT,
    login_hash BYTEA,
    ip_address INET,
    network CIDR,
    user_agent_hash BYTEA,
    details JSONB DEFAULT '{}' NOT NULL,
    CONSTRAINT pk_security_events PRIMARY KEY (occurred_at, id),
    CONSTRAINT ck_security_events_kind CHECK (kind IN ('login_succeeded', 'login_failed', 'login_locked', 'address_blocked', 'password_changed', 'password_reset', 'account_closed', 'mfa_failed', 'mfa_locked', 'factor_added', 'factor_removed', 'token_reused', 'sessions_revoked', 'key_issued', 'key_revoked', 'access_changed', 'password_spraying', 'credential_stuffing', 'impossible_travel', 'new_device')),
    CONSTRAINT ck_security_events_risk CHECK (risk IN ('low', 'medium', 'high', 'critical'))
) PARTITION BY RANGE (occurred_at);
CREATE INDEX ix_security_events_user_id_occurred_at ON security_events (user_id, occurred_at) WHERE user_id IS NOT NULL;
CREATE INDEX ix_security_events_network_occurred_at ON security_events (network, occurred_at) WHERE network IS NOT NULL;
CREATE TABLE security_events_default PARTITION OF security_events DEFAULT;

-- An account that is deleted leaves behind that something happened, not to whom and from where.
CREATE FUNCTION forget_security_events() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE security_events
    SET user_id = NULL, login_hash = NULL, ip_address = NULL, network = NULL,
        user_agent_hash = NULL, details = '{}'
    WHERE user_id = OLD.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER users_forget_security_events AFTER DELETE ON users
FOR EACH ROW EXECUTE FUNCTION forget_security_events();
