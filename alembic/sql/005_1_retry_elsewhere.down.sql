DO $do$
BEGIN
    EXECUTE replace(
        pg_get_functiondef('append_events(smallint, jsonb)'::regprocedure),
        '(stored.metadata - ''audit'') = (event.metadata - ''audit'')',
        'stored.metadata = event.metadata'
    );
END
$do$;
