-- A retry may come from another address and in another request: like the time and the correlation
-- id, what metadata says about that, under its key "audit", does not count as content. The function
-- stands in 001_append_events.sql; this one comparison of it changes.
DO $do$
BEGIN
    EXECUTE replace(
        pg_get_functiondef('append_events(smallint, jsonb)'::regprocedure),
        'stored.metadata = event.metadata',
        '(stored.metadata - ''audit'') = (event.metadata - ''audit'')'
    );
END
$do$;
