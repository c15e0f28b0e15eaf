-- Without the manifest the events in the files would be lost to every reader.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM event_archive) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'events are archived in files, which the revision before cannot read',
            HINT = 'Stay at this revision, or restore a backup made before the first archive.';
    END IF;
END
$do$;

DROP TABLE event_archive_subject;
DROP TABLE event_archive_user;
DROP TABLE event_archive_aggregate;
DROP TABLE event_archived_id;
DROP TABLE event_archive;
DROP FUNCTION event_content_hash(
    TEXT, TEXT, TEXT, SMALLINT, JSONB, JSONB, BIGINT, UUID, UUID
);
