-- What the database does by itself: keeps updated_at, starts the log, catches stray partitions.

CREATE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE TRIGGER users_set_updated_at BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER streams_set_updated_at BEFORE UPDATE ON streams
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER billing_accounts_set_updated_at BEFORE UPDATE ON billing_accounts
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- Log 0 starts with an all-zero chain value.
INSERT INTO event_log_head (log_id, last_position, chain)
VALUES (0, 0, decode(repeat('00', 32), 'hex'));

-- Rows whose partition was not made in time land here; PartitionManager.status() reports them.
CREATE TABLE viewer_sessions_default PARTITION OF viewer_sessions DEFAULT;
CREATE TABLE usage_logs_default PARTITION OF usage_logs DEFAULT;
