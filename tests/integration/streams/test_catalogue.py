from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from rootstream_db.errors import NotFoundError, ValidationError
from rootstream_db.models import EndReason, RecordPolicy, Visibility
from rootstream_db.security.tokens import TokenKind, read_form
from rootstream_db.testing import EPOCH
from tests.factories import MINT


def keys_of(work, stream):
    return work.stream_keys.list_by_stream(stream.id)


class TestCreate:
    def test_a_stream_comes_with_a_key_a_live_row_and_totals(self, work, streams, owner):
        stream, key = streams.create(
            work,
            owner=owner,
            name="  Speedrun ",
            description="All bosses\nNo glitches",
            visibility="unlisted",
            record_policy=RecordPolicy.EPHEMERAL,
            record_keep_days=3,
            max_viewers=100,
            reconnect_grace_seconds=60,
            metadata={"tags": ["retro"]},
        )

        assert ("Speedrun", owner.id) == (stream.name, stream.owner_id)
        assert Visibility.UNLISTED is stream.visibility
        assert (RecordPolicy.EPHEMERAL, 3) == (stream.record_policy, stream.record_keep_days)
        assert {"tags": ["retro"]} == stream.metadata_
        assert stream is work.streams.get_by_public_id(stream.public_id)
        assert not work.stream_live.get_one(stream.id).is_live
        assert 0 == work.stream_totals.get_one(stream.id).views
        assert TokenKind.STREAM_KEY is read_form(key).kind

    def test_a_stream_of_nothing_but_a_name_has_the_defaults(self, work, streams, owner):
        stream, _ = streams.create(work, owner=owner, name="x")

        assert (Visibility.PUBLIC, RecordPolicy.KEEP) == (stream.visibility, stream.record_policy)
        assert {} == stream.metadata_

    @pytest.mark.parametrize(
        ("config", "field"),
        [
            ({"name": ""}, "name"),
            ({"name": " \t "}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"name": "x" * 2**20}, "name"),
            ({"name": "a\0b"}, "name"),
            ({"name": "a\nb"}, "name"),
            ({"name": "\ud800"}, "name"),
            ({"name": None}, "name"),
            ({"description": "x" * 5001}, "description"),
            ({"description": "\0"}, "description"),
            ({"visibility": "secret"}, "visibility"),
            ({"record_policy": None}, "record_policy"),
            ({"record_keep_days": 0}, "record_keep_days"),
            ({"max_viewers": -1}, "max_viewers"),
            ({"max_viewers": True}, "max_viewers"),
            ({"reconnect_grace_seconds": 3601}, "reconnect_grace_seconds"),
            ({"metadata": [1]}, "metadata"),
            ({"metadata": {"a": object()}}, "metadata"),
            ({"metadata": {"a": "\0"}}, "metadata"),
            ({"metadata": {"a": "x" * 20_000}}, "metadata"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_a_setting_that_breaks_a_rule_is_refused_by_name(
        self, work, streams, owner, config, field
    ):
        with pytest.raises(ValidationError) as refused:
            streams.create(work, owner=owner, **{"name": "x", **config})
        assert field == refused.value.field
        assert 300 > len(str(refused.value))
        assert [] == work.streams.list_by_owner(owner.id)


class TestUpdate:
    def test_changes_are_stored_and_recorded(self, database, streams, stream, history):
        with database.transaction() as work:
            streams.update(
                work, work.streams.get_one(stream.id), name="Marathon", metadata={"a": 1}
            )

        with database.read() as work:
            assert "Marathon" == work.streams.get_one(stream.id).name
        changed = history(stream)[-1]
        assert "StreamUpdated" == changed.event_type
        assert {"name": "Marathon", "metadata": {"a": 1}} == changed.data

    def test_what_is_as_it_was_is_no_change(self, database, streams, stream, history):
        before = len(history(stream))
        with database.transaction() as work:
            streams.update(work, work.streams.get_one(stream.id), name="Speedrun")

        assert before == len(history(stream))

    def test_what_may_be_empty_can_be_emptied(self, work, streams, owner):
        stream, _ = streams.create(
            work, owner=owner, name="x", description="y", record_keep_days=1, max_viewers=5
        )
        streams.update(work, stream, description=None, record_keep_days=None, max_viewers=None)

        assert (None, None, None) == (
            stream.description,
            stream.record_keep_days,
            stream.max_viewers,
        )

    def test_the_owner_cannot_be_changed(self, work, streams, stream):
        with pytest.raises(ValidationError, match="no setting 'owner_id'"):
            streams.update(work, work.streams.get_one(stream.id), owner_id=1)


class TestKeys:
    def test_only_the_digest_and_a_visible_prefix_are_stored(self, work, streams, stream, key):
        (stored,) = keys_of(work, stream)

        assert MINT.digest(key, TokenKind.STREAM_KEY) == stored.key_hash
        assert key[:9] == stored.prefix
        assert stored is work.stream_keys.get_by_hash(MINT.digest(key, TokenKind.STREAM_KEY))

    def test_a_stream_may_have_many_keys(self, work, streams, stream):
        row, key = streams.issue_key(
            work, stream, label=" Studio B ", expires_at=EPOCH + timedelta(days=1)
        )

        assert ["", "Studio B"] == [stored.label for stored in keys_of(work, stream)]
        assert row.key_hash == MINT.digest(key, TokenKind.STREAM_KEY)

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"label": "x" * 101}, "label"),
            ({"label": "a\nb"}, "label"),
            ({"expires_at": EPOCH}, "expires_at"),
            (
                {"expires_at": EPOCH + timedelta(1), "not_before": EPOCH + timedelta(1)},
                "expires_at",
            ),
            ({"not_before": datetime(2026, 1, 1)}, "not_before"),  # noqa: DTZ001 - the mistake
            ({"expires_at": datetime(2027, 1, 1)}, "expires_at"),  # noqa: DTZ001 - the mistake
        ],
    )
    def test_a_key_that_could_never_be_used_is_refused(
        self, work, streams, stream, arguments, field
    ):
        with pytest.raises(ValidationError) as refused:
            streams.issue_key(work, stream, **arguments)
        assert field == refused.value.field

    def test_revoking_the_key_that_publishes_ends_the_session_at_once(
        self, database, streams, stream, key, clock, session_of, live_row, history
    ):
        lease = streams.start(key, node="a")
        clock.advance(5)
        with database.transaction() as work:
            streams.revoke_key(work, keys_of(work, stream)[0])

        session = session_of(lease)
        assert (EndReason.KEY_REVOKED, clock()) == (session.end_reason, session.ended_at)
        assert not live_row(stream).is_live
        assert ["StreamKeyRevoked", "StreamEnded"] == [
            event.event_type for event in history(stream)[-2:]
        ]

    def test_revoking_another_key_leaves_the_session_alone(
        self, database, streams, stream, key, session_of
    ):
        lease = streams.start(key, node="a")
        with database.transaction() as work:
            row, _ = streams.issue_key(work, stream)
            streams.revoke_key(work, row)

        assert session_of(lease).ended_at is None
        streams.heartbeat(lease)

    def test_a_session_belongs_to_the_key_that_resumed_it_last(
        self, database, streams, stream, key, session_of
    ):
        with database.transaction() as work:
            row, other = streams.issue_key(work, stream)
        streams.disconnect(streams.start(key, node="a"))
        lease = streams.start(other, node="a")
        with database.transaction() as work:
            streams.revoke_key(work, keys_of(work, stream)[0])
        assert session_of(lease).ended_at is None

        with database.transaction() as work:
            streams.revoke_key(work, work.stream_keys.get_one(row.id))
        assert session_of(lease).ended_at is not None

    def test_revoking_twice_keeps_the_first_time(self, database, streams, stream, clock, history):
        for _ in range(2):
            with database.transaction() as work:
                streams.revoke_key(work, keys_of(work, stream)[0])
            clock.advance(60)

        with database.read() as work:
            assert EPOCH == keys_of(work, stream)[0].revoked_at
        assert 1 == [event.event_type for event in history(stream)].count("StreamKeyRevoked")

    def test_no_secret_is_in_any_event(self, database, streams, stream, key, history):
        streams.start(key, node="a", ip_address="::1")

        for event in history(stream):
            assert key[9:] not in f"{event.data}{event.metadata}"


class TestEnd:
    def test_an_operator_ends_a_broadcast_and_voids_its_lease(self, database, streams, stream, key):
        lease = streams.start(key, node="a")
        with database.transaction() as work:
            ended = streams.end(work, stream)

        assert (lease.stream_session_id, EndReason.STOPPED) == (ended.id, ended.end_reason)
        assert ended.ended_at == streams.stop(lease).ended_at

    def test_there_is_nothing_to_end_on_an_offline_stream(self, work, streams, stream):
        assert streams.end(work, stream) is None


class TestDelete:
    def test_a_live_stream_ends_and_goes_with_all_its_rows(
        self, database, streams, stream, key, history
    ):
        lease = streams.start(key, node="a")
        with database.transaction() as work:
            streams.delete(work, work.streams.get_one(stream.id))

        with database.read() as work:
            assert work.streams.get(stream.id) is None
            assert work.stream_live.get(stream.id) is None
            assert [] == keys_of(work, stream)
            with pytest.raises(NotFoundError):
                work.stream_sessions.get_one(lease.stream_session_id)
        assert ["StreamEnded", "StreamDeleted"] == [
            event.event_type for event in history(stream)[-2:]
        ]
        assert streams.live_status(stream.id) is None


class TestQueries:
    def test_streams_are_listed_page_by_page(self, work, streams, owner):
        made = [streams.create(work, owner=owner, name=f"s{n}")[0] for n in range(3)]

        page = work.streams.list_by_owner(owner.id, limit=2)
        assert made[:2] == page
        assert made[2:] == work.streams.list_by_owner(owner.id, after_id=page[-1].id)
        assert made[:1] == work.streams.list_by_ids([made[0].id, 10**12])

    def test_sessions_are_listed_latest_first(self, database, streams, stream, key, clock):
        ids = []
        for _ in range(3):
            ids.append(streams.stop(streams.start(key, node="a")).id)
            clock.advance(60)

        with database.read() as work:
            rows = work.stream_sessions.list_by_stream(stream.id, limit=2)
            assert ids[:0:-1] == [row.id for row in rows]
            rest = work.stream_sessions.list_by_stream(stream.id, before=rows[-1].started_at)
            assert ids[:1] == [row.id for row in rest]
            latest = work.stream_sessions.get_latest(stream.id)
            assert latest is not None
            assert ids[-1] == latest.id
            assert work.stream_sessions.get_open(stream.id) is None
            assert work.stream_sessions.get_latest(0) is None

    def test_totals_are_made_once(self, work, streams, stream, owner):
        work.stream_totals.ensure([stream.id, stream.id])
        work.stream_totals.ensure([])

        assert [stream.id] == [
            row.stream_id for row in work.stream_totals.list_by_streams([stream.id])
        ]
