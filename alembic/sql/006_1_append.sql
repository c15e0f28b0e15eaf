-- Appending events by columns: one array for each column of event_log instead of one JSON object for
-- each event. What all events of a batch have in common is sent, parsed and checked once.

-- An array of one element speaks for all rows.
CREATE FUNCTION for_all_rows(p_values ANYARRAY, p_rows INTEGER) RETURNS ANYARRAY
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN cardinality(p_values) = 1 AND p_rows > 1 THEN array_fill(p_values[1], ARRAY[p_rows])
        ELSE p_values
    END
$$;

-- A JSON object speaks for all rows, an array has an element for each.
CREATE FUNCTION json_for_all_rows(p_values JSON, p_rows INTEGER) RETURNS JSONB[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE json_typeof(p_values)
        WHEN 'array' THEN ARRAY(SELECT value::jsonb FROM json_array_elements(p_values))
        ELSE array_fill(p_values::jsonb, ARRAY[p_rows])
    END
$$;

-- Judges a batch of which ids may be taken, or which found its aggregates moved on. A batch that is
-- here already, as it is, comes back with a row for each event; nothing comes back of a new one.
CREATE FUNCTION find_appended_events(
    p_event_ids UUID[],
    p_types TEXT[],
    p_ids TEXT[],
    p_event_types TEXT[],
    p_schema_versions SMALLINT[],
    p_data JSONB[],
    p_metadata JSONB[],
    p_user_ids BIGINT[],
    p_subject_ids UUID[],
    p_causation_ids UUID[],
    p_conflict JSONB
) RETURNS TABLE (
    events INTEGER, "position" BIGINT, version BIGINT, recorded_at TIMESTAMPTZ, duplicate BOOLEAN
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_total BIGINT := cardinality(p_event_ids);
    v_different BIGINT;
    v_taken BIGINT;
    v_same BIGINT;
BEGIN
    -- One statement looks into table and archive: an event on its way is in one of them at least.
    SELECT
        count(DISTINCT event.event_id),
        count(coalesce(stored.event_id, archived.event_id)),
        count(*) FILTER (WHERE CASE
            WHEN stored.event_id IS NULL THEN archived.content_hash = event_content_hash(
                type, id, event.event_type, event.schema_version, event.data, event.metadata,
                event.user_id, event.subject_id, event.causation_id
            )
            ELSE stored.aggregate_type = type
                AND stored.aggregate_id = id
                AND stored.event_type = event.event_type
                AND stored.schema_version = event.schema_version
                AND stored.data = event.data
                AND (stored.metadata - 'audit') = (event.metadata - 'audit')
                AND stored.user_id IS NOT DISTINCT FROM event.user_id
                AND stored.subject_id IS NOT DISTINCT FROM event.subject_id
                AND stored.causation_id IS NOT DISTINCT FROM event.causation_id
        END)
    INTO v_different, v_taken, v_same
    FROM unnest(
        p_event_ids, p_types, p_ids, p_event_types, p_schema_versions, p_data, p_metadata,
        p_user_ids, p_subject_ids, p_causation_ids
    ) AS event (
        event_id, type, id, event_type, schema_version, data, metadata, user_id, subject_id,
        causation_id
    )
    LEFT JOIN event_log AS stored ON stored.event_id = event.event_id
    LEFT JOIN event_archived_id AS archived ON archived.event_id = event.event_id;

    IF v_different < v_total OR v_same < v_taken OR v_taken BETWEEN 1 AND v_total - 1 THEN
        RAISE EXCEPTION 'event ids of this append are taken by other events' USING
            ERRCODE = 'RS002',
            DETAIL = jsonb_build_object(
                'events', v_total, 'taken', v_taken, 'same', v_same
            )::text,
            HINT = 'An event id names one event for ever: repeat an append whole and unchanged, or '
                'give new events new ids.';
    ELSIF v_taken = 0 AND p_conflict IS NOT NULL THEN
        RAISE EXCEPTION 'the aggregate is not at the expected version' USING
            ERRCODE = 'RS001', DETAIL = p_conflict::text;
    ELSIF v_taken = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT
        1, coalesce(stored.position, archived.position), coalesce(stored.version, archived.version),
        coalesce(stored.recorded_at, archived.recorded_at), true
    FROM unnest(p_event_ids) WITH ORDINALITY AS event (event_id, number)
    LEFT JOIN event_log AS stored USING (event_id)
    LEFT JOIN event_archived_id AS archived USING (event_id)
    ORDER BY number;
END
$$;

-- Appends a batch to a log and tells where it stands.
--
-- p_types, p_ids, p_expected and p_counts have one element for each entry: so many consecutive events
-- of the batch belong to that aggregate, which may come in several entries. "Expected" is the version
-- of the aggregate at that point: a number, 0 for none yet, -1 for any but none, null for whatever.
--
-- The other arrays have one element for each event, or one that counts for all; p_event_ids always
-- has one for each. p_data and p_metadata are JSON arrays likewise, or one JSON object for all.
--
-- Of a new batch a row comes back for each entry: its first "events" events stand from that position
-- and version on. A batch that is stored already, each event id with the same content, changes
-- nothing: a row for each event comes back, as it stands, with duplicate = true. occurred_at,
-- correlation_id and what metadata says under "audit" do not count as content: a retry says the same
-- thing later, in another request and from another address. Rows come in the order of the batch.
--
-- RS001: an aggregate is not at the expected version. RS002: event ids of the batch are taken.
--
-- Everybody takes locks in one order: aggregates by type and id, then the head of the log. Whoever
-- holds the head waits for nobody, so appends cannot deadlock one another.
CREATE FUNCTION append_events(
    p_log_id SMALLINT,
    p_types TEXT[],
    p_ids TEXT[],
    p_expected BIGINT[],
    p_counts INTEGER[],
    p_event_ids UUID[],
    p_event_types TEXT[],
    p_schema_versions SMALLINT[],
    p_data JSON,
    p_metadata JSON,
    p_user_ids BIGINT[],
    p_subject_ids UUID[],
    p_correlation_ids TEXT[],
    p_causation_ids UUID[],
    p_occurred_at TIMESTAMPTZ[]
) RETURNS TABLE (
    events INTEGER, "position" BIGINT, version BIGINT, recorded_at TIMESTAMPTZ, duplicate BOOLEAN
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_entries INTEGER := cardinality(p_types);
    v_total INTEGER := cardinality(p_event_ids);
    v_before BIGINT[];          -- the version at which each entry finds its aggregate
    v_conflict JSONB;           -- the entry that is not where it was expected
    v_types TEXT[];             -- the aggregate of each event, and its version in it
    v_ids TEXT[];
    v_versions BIGINT[];
    v_data JSONB[];
    v_metadata JSONB[];
    v_first_id UUID := p_event_ids[1];
    v_last_id UUID := p_event_ids[1];
    v_suspect BOOLEAN := false; -- ids may be taken, or come twice
    v_last BIGINT;
    v_chain BYTEA;
    v_now TIMESTAMPTZ;
    v_hashes BYTEA;             -- of the rows written, in order
BEGIN
    -- 1. Take the aggregates and move them on; RETURNING tells where they were.
    IF v_entries = 1 THEN
        INSERT INTO event_stream AS stream (aggregate_type, aggregate_id, version)
        VALUES (p_types[1], p_ids[1], v_total)
        ON CONFLICT (aggregate_type, aggregate_id)
        DO UPDATE SET version = stream.version + excluded.version
        RETURNING ARRAY[stream.version - v_total] INTO v_before;
    ELSE
        WITH entry AS (
            SELECT * FROM unnest(p_types, p_ids, p_counts)
                WITH ORDINALITY AS entry (type, id, events, number)
        ), moved AS (
            INSERT INTO event_stream AS stream (aggregate_type, aggregate_id, version)
            SELECT type, id, sum(events) FROM entry
            GROUP BY type, id ORDER BY type COLLATE "C", id COLLATE "C"
            ON CONFLICT (aggregate_type, aggregate_id)
            DO UPDATE SET version = stream.version + excluded.version
            RETURNING aggregate_type AS type, aggregate_id AS id, version
        ), found AS (
            -- Where the aggregate is now, less this entry and those that follow.
            SELECT number, version - sum(events) OVER (
                PARTITION BY type, id ORDER BY number DESC
            )::bigint AS before
            FROM entry JOIN moved USING (type, id)
        )
        SELECT coalesce(array_agg(before ORDER BY number), '{}') INTO v_before FROM found;
    END IF;
    IF v_entries > 1 OR p_expected[1] IS NOT NULL THEN
        SELECT jsonb_build_object(
            'aggregate', type || '/' || id,
            'expected', CASE expected
                WHEN -1 THEN to_jsonb('exists'::text) ELSE to_jsonb(expected) END,
            'actual', before
        ) INTO v_conflict
        FROM unnest(p_types, p_ids, p_expected, v_before)
            WITH ORDINALITY AS entry (type, id, expected, before, number)
        WHERE (expected = -1 AND before = 0) OR (expected <> -1 AND expected <> before)
        ORDER BY number LIMIT 1;
    END IF;

    -- 2. Take the end of the log: until this transaction ends, nobody else appends. Ids begin with the
    -- time, so that nearly always none of the log or the archive lies between those of a new batch, and
    -- a look into each index answers for all of them. Who appended the same before us held its
    -- aggregates, so that this statement sees it.
    IF v_total > 1 THEN
        SELECT (array_agg(id ORDER BY id))[1], (array_agg(id ORDER BY id DESC))[1],
            count(DISTINCT id) < v_total
        INTO v_first_id, v_last_id, v_suspect
        FROM unnest(p_event_ids) AS id;
    END IF;
    SELECT
        last_position, chain,
        v_suspect
            OR EXISTS (SELECT FROM event_log WHERE event_id BETWEEN v_first_id AND v_last_id)
            OR EXISTS (SELECT FROM event_archived_id WHERE event_id BETWEEN v_first_id AND v_last_id)
    INTO v_last, v_chain, v_suspect
    FROM event_log_head WHERE log_id = p_log_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'no_data_found', MESSAGE = 'there is no event log ' || p_log_id;
    ELSIF v_total = 0 THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();

    -- 3. Write, unless the aggregates moved or ids are taken.
    IF v_total = 1 AND v_conflict IS NULL AND NOT v_suspect
        AND json_typeof(p_data) = 'object' AND json_typeof(p_metadata) = 'object'
    THEN
        -- What is written below for many, without the price of a plan for many: a third of the call.
        INSERT INTO event_log (
            log_id, position, event_id, aggregate_type, aggregate_id, version, event_type,
            schema_version, data, metadata, user_id, subject_id, correlation_id, causation_id,
            occurred_at, recorded_at, row_hash
        ) VALUES (
            p_log_id, v_last + 1, p_event_ids[1], p_types[1], p_ids[1], v_before[1] + 1,
            p_event_types[1], p_schema_versions[1], p_data::jsonb, p_metadata::jsonb,
            p_user_ids[1], p_subject_ids[1], p_correlation_ids[1], p_causation_ids[1],
            p_occurred_at[1], v_now, event_row_hash(
                p_log_id, v_last + 1, p_event_ids[1], p_types[1], p_ids[1], v_before[1] + 1,
                p_event_types[1], p_schema_versions[1], p_data::jsonb, p_metadata::jsonb,
                p_user_ids[1], p_subject_ids[1], p_correlation_ids[1], p_causation_ids[1],
                p_occurred_at[1], v_now
            )
        ) RETURNING row_hash INTO v_hashes;
    ELSE
        IF v_entries = 1 THEN
            v_types := for_all_rows(p_types, v_total);
            v_ids := for_all_rows(p_ids, v_total);
            v_versions := ARRAY(SELECT generate_series(v_before[1] + 1, v_before[1] + v_total));
        ELSE
            SELECT array_agg(type), array_agg(id), array_agg(before + step)
            INTO v_types, v_ids, v_versions
            FROM (
                SELECT type, id, before, step
                FROM unnest(p_types, p_ids, p_counts, v_before)
                    WITH ORDINALITY AS entry (type, id, events, before, number),
                    generate_series(1, events) AS step
                ORDER BY number, step
            ) AS event;
        END IF;
        p_event_types := for_all_rows(p_event_types, v_total);
        p_schema_versions := for_all_rows(p_schema_versions, v_total);
        v_data := json_for_all_rows(p_data, v_total);
        v_metadata := json_for_all_rows(p_metadata, v_total);
        p_user_ids := for_all_rows(p_user_ids, v_total);
        p_subject_ids := for_all_rows(p_subject_ids, v_total);
        p_causation_ids := for_all_rows(p_causation_ids, v_total);

        IF v_conflict IS NOT NULL OR v_suspect THEN
            RETURN QUERY SELECT * FROM find_appended_events(
                p_event_ids, v_types, v_ids, p_event_types, p_schema_versions, v_data, v_metadata,
                p_user_ids, p_subject_ids, p_causation_ids, v_conflict
            );
            IF FOUND THEN
                -- All of it is here already, as it is: the aggregates were there before.
                UPDATE event_stream AS stream SET version = stream.version - batch.events
                FROM (
                    SELECT type, id, sum(events) AS events
                    FROM unnest(p_types, p_ids, p_counts) AS entry (type, id, events)
                    GROUP BY type, id
                ) AS batch
                WHERE stream.aggregate_type = batch.type AND stream.aggregate_id = batch.id;
                RETURN;
            END IF;
        END IF;

        WITH written AS (
            INSERT INTO event_log (
                log_id, position, event_id, aggregate_type, aggregate_id, version, event_type,
                schema_version, data, metadata, user_id, subject_id, correlation_id, causation_id,
                occurred_at, recorded_at, row_hash
            )
            SELECT
                p_log_id, v_last + number, event_id, type, id, version, event_type,
                schema_version, data, metadata, user_id, subject_id, correlation_id, causation_id,
                occurred_at, v_now, event_row_hash(
                    p_log_id, v_last + number, event_id, type, id, version, event_type,
                    schema_version, data, metadata, user_id, subject_id, correlation_id,
                    causation_id, occurred_at, v_now
                )
            FROM unnest(
                p_event_ids, v_types, v_ids, v_versions, p_event_types, p_schema_versions,
                v_data, v_metadata, p_user_ids, p_subject_ids,
                for_all_rows(p_correlation_ids, v_total), p_causation_ids,
                for_all_rows(p_occurred_at, v_total)
            ) WITH ORDINALITY AS event (
                event_id, type, id, version, event_type, schema_version, data, metadata, user_id,
                subject_id, correlation_id, causation_id, occurred_at, number
            )
            RETURNING position, row_hash
        )
        SELECT string_agg(row_hash, ''::bytea ORDER BY position) INTO v_hashes FROM written;
    END IF;

    -- 4. Link what was written to all before it, and move the end of the log on.
    v_chain := sha256(v_chain || v_hashes);
    INSERT INTO event_commit (log_id, last_position, events, chain, recorded_at)
    VALUES (p_log_id, v_last + v_total, v_total, v_chain, v_now);
    UPDATE event_log_head SET last_position = v_last + v_total, chain = v_chain
    WHERE log_id = p_log_id;

    recorded_at := v_now;
    duplicate := false;
    position := v_last + 1;
    FOR v_number IN 1..v_entries LOOP
        events := p_counts[v_number];
        version := v_before[v_number] + 1;
        RETURN NEXT;
        position := position + events;
    END LOOP;
END
$$;

-- The same from one JSON array of {type, id, expected, events: [{event_id, event_type, schema_version,
-- data, metadata, user_id, subject_id, correlation_id, causation_id, occurred_at}, ...]}, with a row
-- for each event: for tools, and for processes that do not know the other form yet.
CREATE OR REPLACE FUNCTION append_events(p_log_id SMALLINT, p_batch JSONB)
RETURNS TABLE (
    event_id UUID, "position" BIGINT, version BIGINT, recorded_at TIMESTAMPTZ, duplicate BOOLEAN
) LANGUAGE sql AS $$
    WITH entries AS (
        SELECT
            coalesce(array_agg(value->>'type' ORDER BY number), '{}') AS types,
            coalesce(array_agg(value->>'id' ORDER BY number), '{}') AS ids,
            coalesce(array_agg((value->>'expected')::bigint ORDER BY number), '{}') AS expected,
            coalesce(array_agg(jsonb_array_length(value->'events') ORDER BY number), '{}') AS counts
        FROM jsonb_array_elements(p_batch) WITH ORDINALITY AS entry (value, number)
    ), event AS (
        SELECT event.*
        FROM
            jsonb_array_elements(p_batch) WITH ORDINALITY AS entry (value, number),
            jsonb_array_elements(entry.value->'events') WITH ORDINALITY AS item (value, number),
            jsonb_to_record(item.value) AS event (
                event_id UUID, event_type TEXT, schema_version SMALLINT, data JSONB,
                metadata JSONB, user_id BIGINT, subject_id UUID, correlation_id TEXT,
                causation_id UUID, occurred_at TIMESTAMPTZ
            )
        ORDER BY entry.number, item.number
    ), columns AS (
        SELECT
            coalesce(array_agg(event_id), '{}') AS event_ids, array_agg(event_type) AS event_types,
            array_agg(schema_version) AS schema_versions, json_agg(data) AS data,
            json_agg(metadata) AS metadata, array_agg(user_id) AS user_ids,
            array_agg(subject_id) AS subject_ids, array_agg(correlation_id) AS correlation_ids,
            array_agg(causation_id) AS causation_ids, array_agg(occurred_at) AS occurred_at
        FROM event
    ), place AS (
        SELECT event_ids, row_number() OVER (ORDER BY placed.number, step) AS number,
            placed.position + step AS position, placed.version + step AS version,
            placed.recorded_at, placed.duplicate
        FROM
            entries, columns,
            append_events(
                p_log_id, types, ids, expected, counts, event_ids, event_types, schema_versions,
                data, metadata, user_ids, subject_ids, correlation_ids, causation_ids, occurred_at
            ) WITH ORDINALITY AS placed (events, position, version, recorded_at, duplicate, number),
            generate_series(0, placed.events - 1) AS step
    )
    SELECT event_ids[number], position, version, recorded_at, duplicate FROM place ORDER BY number
$$;
