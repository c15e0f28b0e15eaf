-- append_events as 001_append_events.sql and 005_1_retry_elsewhere.sql left it.
CREATE OR REPLACE FUNCTION append_events(p_log_id SMALLINT, p_batch JSONB)
RETURNS TABLE (
    event_id UUID, "position" BIGINT, version BIGINT, recorded_at TIMESTAMPTZ, duplicate BOOLEAN
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_entry RECORD;
    v_total BIGINT := 0;        -- events in the batch
    v_offsets BIGINT[];         -- events of the batch before each entry
    v_before BIGINT;
    v_versions BIGINT[];        -- the version at which each entry finds its aggregate
    v_conflict JSONB;           -- the entry that is not where it was expected
    v_last BIGINT;
    v_chain BYTEA;
    v_now TIMESTAMPTZ;
    v_written BIGINT := 0;
    v_taken BIGINT;
    v_same BIGINT;
BEGIN
    FOR v_number IN 1..jsonb_array_length(p_batch) LOOP
        v_offsets[v_number] := v_total;
        v_total := v_total + jsonb_array_length(p_batch->(v_number - 1)->'events');
    END LOOP;

    -- 1. Take the aggregates and move them on; RETURNING tells where they were.
    FOR v_entry IN
        SELECT
            number, value->>'type' AS type, value->>'id' AS id,
            (value->>'expected')::bigint AS expected, jsonb_array_length(value->'events') AS events
        FROM jsonb_array_elements(p_batch) WITH ORDINALITY AS entry (value, number)
        ORDER BY value->>'type' COLLATE "C", value->>'id' COLLATE "C", number
    LOOP
        INSERT INTO event_stream AS stream (aggregate_type, aggregate_id, version)
        VALUES (v_entry.type, v_entry.id, v_entry.events)
        ON CONFLICT (aggregate_type, aggregate_id)
        DO UPDATE SET version = stream.version + excluded.version
        RETURNING stream.version - v_entry.events INTO v_before;
        v_versions[v_entry.number] := v_before;
        IF (v_entry.expected = -1 AND v_before = 0)
            OR (v_entry.expected <> -1 AND v_entry.expected <> v_before)
        THEN
            v_conflict := coalesce(v_conflict, jsonb_build_object(
                'aggregate', v_entry.type || '/' || v_entry.id,
                'expected', CASE v_entry.expected
                    WHEN -1 THEN to_jsonb('exists'::text) ELSE to_jsonb(v_entry.expected) END,
                'actual', v_before
            ));
        END IF;
    END LOOP;

    -- 2. Take the end of the log: until this transaction ends, nobody else appends.
    SELECT last_position, chain INTO v_last, v_chain
    FROM event_log_head WHERE log_id = p_log_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'no_data_found', MESSAGE = 'there is no event log ' || p_log_id;
    END IF;
    v_now := clock_timestamp();

    -- 3. Write. A taken event id is left out here and judged below: nothing is lost unnoticed.
    IF v_conflict IS NULL THEN
        RETURN QUERY
        WITH incoming AS (
            SELECT
                entry.value->>'type' AS type,
                entry.value->>'id' AS id,
                v_last + v_offsets[entry.number] + item.number AS place,
                v_versions[entry.number] + item.number AS version,
                event.*
            FROM
                jsonb_array_elements(p_batch) WITH ORDINALITY AS entry (value, number),
                jsonb_array_elements(entry.value->'events') WITH ORDINALITY AS item (value, number),
                jsonb_to_record(item.value) AS event (
                    event_id UUID, event_type TEXT, schema_version SMALLINT, data JSONB,
                    metadata JSONB, user_id BIGINT, subject_id UUID, correlation_id TEXT,
                    causation_id UUID, occurred_at TIMESTAMPTZ
                )
        ), written AS (
            INSERT INTO event_log (
                log_id, position, event_id, aggregate_type, aggregate_id, version, event_type,
                schema_version, data, metadata, user_id, subject_id, correlation_id, causation_id,
                occurred_at, recorded_at, row_hash
            )
            SELECT
                p_log_id, place, event_id, type, id, version, event_type,
                schema_version, data, metadata, user_id, subject_id, correlation_id, causation_id,
                occurred_at, v_now, event_row_hash(
                    p_log_id, place, event_id, type, id, version, event_type,
                    schema_version, data, metadata, user_id, subject_id, correlation_id,
                    causation_id, occurred_at, v_now
                )
            FROM incoming
            ON CONFLICT (event_id) DO NOTHING
            RETURNING event_id, position, version, row_hash
        ), committed AS (
            INSERT INTO event_commit (log_id, last_position, events, chain, recorded_at)
            SELECT
                p_log_id, v_last + v_total, v_total,
                sha256(v_chain || string_agg(row_hash, ''::bytea ORDER BY position)), v_now
            FROM written HAVING count(*) = v_total AND v_total > 0
            RETURNING last_position, chain
        ), moved AS (
            UPDATE event_log_head AS head
            SET last_position = committed.last_position, chain = committed.chain
            FROM committed WHERE head.log_id = p_log_id
        )
        SELECT event_id, position, version, v_now, false FROM written;
        GET DIAGNOSTICS v_written = ROW_COUNT;
        IF v_written = v_total THEN
            RETURN;
        END IF;
    END IF;

    -- 4. Something was in the way: is all of the batch here already, as it is?
    SELECT
        count(stored.event_id),
        count(*) FILTER (WHERE
            stored.aggregate_type = entry.value->>'type'
            AND stored.aggregate_id = entry.value->>'id'
            AND stored.event_type = event.event_type
            AND stored.schema_version = event.schema_version
            AND stored.data = event.data
            AND (stored.metadata - 'audit') = (event.metadata - 'audit')
            AND stored.user_id IS NOT DISTINCT FROM event.user_id
            AND stored.subject_id IS NOT DISTINCT FROM event.subject_id
            AND stored.causation_id IS NOT DISTINCT FROM event.causation_id
        )
    INTO v_taken, v_same
    FROM
        jsonb_array_elements(p_batch) AS entry (value),
        jsonb_to_recordset(entry.value->'events') AS event (
            event_id UUID, event_type TEXT, schema_version SMALLINT, data JSONB,
            metadata JSONB, user_id BIGINT, subject_id UUID, causation_id UUID
        )
        LEFT JOIN event_log AS stored USING (event_id);

    IF v_written > 0 OR v_same < v_taken OR v_taken BETWEEN 1 AND v_total - 1 THEN
        RAISE EXCEPTION 'event ids of this append are taken by other events' USING
            ERRCODE = 'RS002',
            DETAIL = jsonb_build_object(
                'events', v_total, 'taken', v_taken - v_written, 'same', v_same - v_written
            )::text,
            HINT = 'An event id names one event for ever: repeat an append whole and unchanged, or '
                'give new events new ids.';
    ELSIF v_taken = 0 THEN
        RAISE EXCEPTION 'the aggregate is not at the expected version' USING
            ERRCODE = 'RS001', DETAIL = v_conflict::text;
    END IF;

    UPDATE event_stream AS stream SET version = stream.version - batch.events
    FROM (
        SELECT
            value->>'type' AS type, value->>'id' AS id,
            sum(jsonb_array_length(value->'events')) AS events
        FROM jsonb_array_elements(p_batch) AS entry (value)
        GROUP BY value->>'type', value->>'id'
    ) AS batch
    WHERE stream.aggregate_type = batch.type AND stream.aggregate_id = batch.id;
    RETURN QUERY
    SELECT event_id, position, version, recorded_at, true
    FROM event_log
    WHERE event_id IN (
        SELECT (event.value->>'event_id')::uuid
        FROM
            jsonb_array_elements(p_batch) AS entry (value),
            jsonb_array_elements(entry.value->'events') AS event (value)
    );
END
$$;

DROP FUNCTION append_events(
    SMALLINT, TEXT[], TEXT[], BIGINT[], INTEGER[], UUID[], TEXT[], SMALLINT[], JSON, JSON, BIGINT[],
    UUID[], TEXT[], UUID[], TIMESTAMPTZ[]
);
DROP FUNCTION find_appended_events(
    UUID[], TEXT[], TEXT[], TEXT[], SMALLINT[], JSONB[], JSONB[], BIGINT[], UUID[], UUID[], JSONB
);
DROP FUNCTION json_for_all_rows(JSON, INTEGER);
DROP FUNCTION for_all_rows(ANYARRAY, INTEGER);
