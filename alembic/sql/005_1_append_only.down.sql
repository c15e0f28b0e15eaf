DROP TRIGGER event_log_head_forward ON event_log_head;
DROP TRIGGER event_log_head_kept ON event_log_head;
DROP TRIGGER event_commit_append_only ON event_commit;
DROP TRIGGER event_log_append_only ON event_log;
DROP FUNCTION refuse_event_change();
