-- Personal data in the event log is sealed with a key of the person it is about. Destroying the key
-- erases the data wherever a copy of the log is: the events, and the chain over them, stay as they
-- are.

-- One key for each person, itself sealed by the key ring. Erasing empties the row and keeps it: it is
-- the proof, and what is applied again after a restore that brought the key back.
CREATE TABLE subject_keys (
    subject_id UUID NOT NULL,
    wrapped BYTEA,
    wrapped_key_id SMALLINT,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    erased_at TIMESTAMPTZ,
    CONSTRAINT pk_subject_keys PRIMARY KEY (subject_id),
    CONSTRAINT ck_subject_keys_erased_is_empty CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL)),
    CONSTRAINT ck_subject_keys_wrapped_has_key_id CHECK ((wrapped IS NULL) = (wrapped_key_id IS NULL))
);
CREATE INDEX ix_subject_keys_erased_at_subject_id ON subject_keys (erased_at, subject_id) WHERE erased_at IS NOT NULL;

-- Whose events are these: for the copy a person may ask for, and for what is dropped at an erasure.
CREATE INDEX ix_event_log_subject_id_position ON event_log (subject_id, position) WHERE subject_id IS NOT NULL;
