-- The log is written once: nothing in it changes or goes, and its end moves forward only.

-- Refuses, unless the transaction says that it is maintenance (SET LOCAL rootstream.maintenance =
-- 'on') and the role may delete from the table. Without the second condition any role could say it;
-- with it, REVOKE DELETE makes the refusal final for the application's role.
CREATE FUNCTION refuse_event_change() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('rootstream.maintenance', true) = 'on'
        AND has_table_privilege(TG_RELID, 'DELETE')
    THEN
        -- Statement triggers ignore what is returned; the row trigger lets the new row through.
        RETURN coalesce(NEW, OLD);
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'RS003',
        MESSAGE = TG_OP || ' on ' || TG_TABLE_NAME || ' is refused: the event log is append-only',
        TABLE = TG_TABLE_NAME,
        HINT = 'Maintenance by a role with the right to delete begins with '
            'SET LOCAL rootstream.maintenance = ''on''.';
END
$$;

CREATE TRIGGER event_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TRIGGER event_commit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_commit
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TRIGGER event_log_head_kept BEFORE DELETE OR TRUNCATE ON event_log_head
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

-- The condition is tested without calling the function: an append does not pay for it.
CREATE TRIGGER event_log_head_forward BEFORE UPDATE ON event_log_head FOR EACH ROW
WHEN (
    NEW.last_position <= OLD.last_position
    OR NEW.log_id <> OLD.log_id
    OR NEW.epoch <> OLD.epoch
) EXECUTE FUNCTION refuse_event_change();

-- Also for sessions that switched triggers off with session_replication_role.
ALTER TABLE event_log ENABLE ALWAYS TRIGGER event_log_append_only;
ALTER TABLE event_commit ENABLE ALWAYS TRIGGER event_commit_append_only;
ALTER TABLE event_log_head ENABLE ALWAYS TRIGGER event_log_head_kept;
ALTER TABLE event_log_head ENABLE ALWAYS TRIGGER event_log_head_forward;
