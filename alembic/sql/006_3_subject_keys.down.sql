DROP INDEX ix_event_log_subject_id_position;
DROP TABLE subject_keys;
