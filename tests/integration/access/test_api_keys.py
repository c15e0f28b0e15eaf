"""API keys: shown once, refused at once, rotated without a gap, never stronger than their owner."""

from __future__ import annotations

import threading
from datetime import timedelta
from unittest import mock

import pytest
import redis
from sqlalchemy import text

from rootstream_db.errors import (
    ConflictError,
    DatabaseUnavailableError,
    InvalidTokenError,
    PermissionDeniedError,
    SessionExpiredError,
    SessionRevokedError,
    ValidationError,
)
from rootstream_db.rootstream import RootStream
from rootstream_db.security.permissions import PermissionSet
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.access.fence import FencedCache
from rootstream_db.testing import EPOCH, settings_for
from tests.factories import make_stream

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def keys(access):
    return access.keys


@pytest.fixture
def issue(rootstream, user):
    """Issue a key of the user's in a transaction of its own."""

    def make(*scopes, **options):
        with rootstream.transaction() as work:
            return rootstream.access.keys.issue(work, user, scopes=scopes or ["chat.*"], **options)

    return make


@pytest.fixture
def revoke_key(rootstream):
    def take(key):
        with rootstream.transaction() as work:
            return rootstream.access.keys.revoke(work, key)

    return take


def test_a_key_stands_for_its_account(keys, issue, user):
    row, key = issue("chat.read", "stream.*", label="overlay", expires_at=EPOCH + HOUR)

    for _ in ("from PostgreSQL", "from Redis"):
        info = keys.authenticate(key)
        assert (row.id, user.id, "overlay") == (info.key_id, info.user_id, info.label)
        assert PermissionSet(["chat.read", "stream.*"]) == info.scopes
        assert EPOCH + HOUR == info.expires_at


def test_a_key_may_do_what_both_its_scopes_and_its_account_allow(
    rootstream, access, keys, issue, user, grant, revoke
):
    grant(user, "moderator")
    info = keys.authenticate(issue("chat.ban", "billing.read")[1])

    access.require(info, "chat.ban")
    for missing in ("billing.read", "chat.read"):
        with pytest.raises(PermissionDeniedError) as caught:
            access.require(info, missing)
        assert missing == caught.value.permission
    assert PermissionSet(["chat.ban"]) == access.permissions_of(info)

    revoke(user, "moderator")
    assert not access.can(info, "chat.ban")


def test_a_key_of_an_owner_acts_on_the_owners_streams_within_its_scopes(
    rootstream, access, keys, issue, user, stream
):
    with rootstream.transaction() as work:
        own = make_stream(work, user)
    info = keys.authenticate(issue("stream.update")[1])

    access.require(info, "stream.update", stream_id=own.id)
    assert not access.can(info, "stream.delete", stream_id=own.id)
    assert not access.can(info, "stream.update", stream_id=stream.id)
    assert PermissionSet(["stream.update"]) == access.permissions_of(info, stream_id=own.id)


def test_a_key_is_shown_once_and_stored_nowhere(rootstream, issue, keys, redis_url, caplog):
    row, key = issue(label="bot")
    keys.authenticate(key)

    assert row.prefix == str(key)[: len(row.prefix)] == f"rsa1_{str(key)[5:9]}"
    with rootstream.database.read() as work:
        stored = work.session.scalars(text("SELECT api_keys::text FROM api_keys")).one()
        logged = work.session.scalars(text("SELECT string_agg(data::text, '') FROM event_log"))
        assert str(key)[9:] not in stored + (logged.one() or "")
    with redis.Redis.from_url(redis_url) as raw:
        names = list(raw.scan_iter())
        assert names
        everything = b"".join([*names, *(raw.dump(name) or b"" for name in names)])
        assert str(key)[9:].encode() not in everything
    assert str(key) not in repr((row, key, keys.authenticate(key))) + caplog.text


@pytest.mark.parametrize(
    "token", [None, b"bytes", "", "rsa1_", "x" * 1_000_000, 7, "rsa1_" + "é" * 49]
)
def test_garbage_is_refused_before_anything_is_looked_up(clock, token):
    settings = settings_for("postgresql://nowhere.invalid/x", "redis://nowhere.invalid")
    with (
        RootStream(settings, clock=clock) as unconnected,
        pytest.raises(InvalidTokenError, match="not a valid token"),
    ):
        unconnected.access.keys.authenticate(token)


def test_other_tokens_and_changed_ones_are_refused(rootstream, keys, issue):
    _, key = issue()
    changed = key[:10] + ("a" if key[10] != "a" else "b") + key[11:]
    for token, reason in (
        (rootstream.tokens.issue(TokenKind.SESSION).text, "kind"),
        (changed, "checksum"),
        (rootstream.tokens.issue(TokenKind.API_KEY).text, "unknown"),
    ):
        with pytest.raises(InvalidTokenError) as caught:
            keys.authenticate(token)
        assert reason == caught.value.reason


def test_a_revoked_key_is_refused_in_every_process_with_the_commit(
    rootstream, keys, other, issue, revoke_key, clock
):
    row, key = issue()
    for reader in (keys, other.access.keys):
        reader.authenticate(key)

    change = revoke_key(row)

    assert (True, EPOCH) == (change.immediate, change.effective_by)
    for reader in (keys, other.access.keys):
        with pytest.raises(SessionRevokedError, match="was revoked"):
            reader.authenticate(key)
    clock.advance(1)
    revoke_key(row)
    with rootstream.transaction() as work:
        assert EPOCH == work.api_keys.get_one(row.id).revoked_at


def test_a_key_that_was_read_before_it_was_revoked_is_not_kept(other, issue, revoke_key):
    row, key = issue()
    fill = FencedCache.fill

    def slow(fence, name, entry):
        if "key" in name:
            revoke_key(row)
        return fill(fence, name, entry)

    with mock.patch.object(FencedCache, "fill", slow):
        other.access.keys.authenticate(key)

    with pytest.raises(SessionRevokedError):
        other.access.keys.authenticate(key)


def test_without_redis_a_key_is_refused_at_once_here_and_within_a_minute_elsewhere(
    clean_database_url, clock, other, issue
):
    row, key = issue()
    other.access.keys.authenticate(key)
    nowhere = settings_for(clean_database_url, "redis://127.0.0.1:1")
    with RootStream(nowhere, clock=clock) as cut_off:
        cut_off.access.keys.authenticate(key)
        with cut_off.transaction() as work:
            change = cut_off.access.keys.revoke(work, row)
        with pytest.raises(SessionRevokedError):
            cut_off.access.keys.authenticate(key)

    assert (False, EPOCH + MINUTE) == (change.immediate, change.effective_by)
    other.access.keys.authenticate(key)
    clock.advance(MINUTE.total_seconds() + 0.001)
    with pytest.raises(SessionRevokedError):
        other.access.keys.authenticate(key)


def test_a_key_ends_at_its_very_instant_though_it_is_cached(keys, issue, clock):
    _, key = issue(expires_at=EPOCH + MINUTE / 2)
    clock.advance(29.999999)
    keys.authenticate(key)
    clock.advance(0.000001)

    with pytest.raises(SessionExpiredError, match="has expired"):
        keys.authenticate(key)


def test_keys_go_and_come_back_with_their_account(rootstream, keys, issue, user):
    _, key = issue()
    keys.authenticate(key)
    with rootstream.transaction() as work:
        rootstream.accounts.deactivate(work, user)
    with pytest.raises(SessionRevokedError, match="account of this API key is closed"):
        keys.authenticate(key)
    with rootstream.transaction() as work:
        rootstream.accounts.reactivate(work, user)
    keys.authenticate(key)
    with rootstream.transaction() as work:
        rootstream.accounts.delete(work, user)
    with pytest.raises(SessionRevokedError):
        keys.authenticate(key)


def test_a_rotated_key_works_for_the_overlap_and_its_successor_at_once(
    rootstream, keys, other, issue, clock
):
    old, old_key = issue("chat.read", label="bot")
    other.access.keys.authenticate(old_key)
    clock.advance(HOUR.total_seconds())
    with rootstream.transaction() as work:
        new, new_key = keys.rotate(work, old, overlap=HOUR)

    assert (old.id, "bot", ["chat.read"]) == (new.rotated_from, new.label, new.scopes)
    assert EPOCH + 2 * HOUR == other.access.keys.authenticate(old_key).expires_at
    assert new.id == other.access.keys.authenticate(new_key).key_id
    clock.advance(HOUR.total_seconds())
    with pytest.raises(SessionExpiredError):
        other.access.keys.authenticate(old_key)
    keys.authenticate(new_key)


def test_an_overlap_of_nothing_ends_the_old_key_with_the_commit(rootstream, keys, other, issue):
    old, old_key = issue()
    other.access.keys.authenticate(old_key)
    with rootstream.transaction() as work:
        keys.rotate(work, old, overlap=timedelta(0))

    with pytest.raises(SessionExpiredError):
        other.access.keys.authenticate(old_key)


def test_a_successor_lives_as_long_as_the_old_key_was_meant_to(rootstream, keys, user, clock):
    with rootstream.transaction() as work:
        row, _ = keys.issue(work, user, scopes=["*"], expires_at=work.now + HOUR)
        row.created_at = work.now
    clock.advance(50 * 60)
    with rootstream.transaction() as work:
        new, _ = keys.rotate(work, row)
        assert EPOCH + HOUR == work.api_keys.get_one(row.id).expires_at
    assert EPOCH + HOUR + 50 * MINUTE == new.expires_at


def test_of_two_rotations_at_once_one_wins(rootstream, keys, issue):
    row, _ = issue()
    barrier, outcomes = threading.Barrier(2), []

    def rotate():
        barrier.wait()
        try:
            with rootstream.transaction() as work:
                keys.rotate(work, row)
        except ConflictError as error:
            outcomes.append(str(error))
        else:
            outcomes.append("rotated")

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    refused = f"API key {row.id} was rotated before: issue a new one"
    assert [refused, "rotated"] == sorted(outcomes)


def test_keys_that_ended_are_not_rotated(rootstream, keys, issue, revoke_key, clock):
    expired, _ = issue(expires_at=EPOCH + HOUR)
    revoked, _ = issue()
    revoke_key(revoked)
    clock.advance(HOUR.total_seconds())
    with rootstream.transaction() as work:
        for row, reason in ((expired, "has expired"), (revoked, "was revoked")):
            with pytest.raises(ConflictError, match=reason):
                keys.rotate(work, row)
        with pytest.raises(ValidationError, match="negative"):
            keys.rotate(work, revoked, overlap=-HOUR)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": "chat.*"}, "scopes"),
        ({"scopes": ["Chat"]}, "permission"),
        ({"scopes": ["*"], "label": "a\0b"}, "label"),
        ({"scopes": ["*"], "expires_at": EPOCH}, "expires_at"),
    ],
)
def test_wrong_input_makes_no_key(rootstream, keys, user, options, field):
    with pytest.raises(ValidationError) as caught, rootstream.transaction() as work:
        keys.issue(work, user, **options)
    assert field == caught.value.field


def test_uses_are_recorded_at_most_once_a_minute(rootstream, keys, other, issue, clock):
    row, key = issue()

    def last_use():
        with rootstream.database.read() as work:
            return work.api_keys.get_one(row.id).last_used_at

    assert last_use() is None
    keys.authenticate(key)
    assert EPOCH == last_use()
    clock.advance(30)
    for reader in (keys, other.access.keys):
        reader.authenticate(key)
    assert EPOCH == last_use()
    clock.advance(31)
    other.access.keys.authenticate(key)
    assert EPOCH + timedelta(seconds=61) == last_use()


def test_a_use_that_cannot_be_recorded_is_logged_and_refuses_nobody(
    rootstream, keys, issue, caplog
):
    _, key = issue()
    with mock.patch.object(
        type(rootstream.database), "independent", side_effect=DatabaseUnavailableError("down")
    ):
        keys.authenticate(key)

    assert "could not be recorded" in caplog.text


def test_recording_a_use_touches_no_index(rootstream, issue):
    row, _ = issue()
    for number in range(1, 21):
        with rootstream.transaction() as work:
            now = EPOCH + number * HOUR
            assert work.api_keys.record_use(row.id, now, unless_since=now - MINUTE)

    def share():
        with rootstream.database.read() as work:
            return work.session.execute(
                text(
                    "SELECT pg_stat_force_next_flush() IS NULL, n_tup_hot_upd, n_tup_upd "
                    "FROM pg_stat_user_tables WHERE relname = 'api_keys'"
                )
            ).one()

    share()
    _, hot, updated = share()
    assert hot >= 0.9 * updated


def test_every_change_of_a_key_is_an_event(rootstream, keys, user, issue, revoke_key, events_of):
    row, _ = issue(label="bot")
    with rootstream.transaction() as work:
        new, _ = keys.rotate(work, row)
    revoke_key(new)

    seen = [(kind, data["api_key_id"]) for kind, data in events_of("User", user.id)]
    assert [
        ("ApiKeyIssued", row.id),
        ("ApiKeyRotated", row.id),
        ("ApiKeyIssued", new.id),
        ("ApiKeyRevoked", new.id),
    ] == seen
    told = list(rootstream.events.read("User", str(user.id)))
    assert "bot" not in str([event.data for event in told])
    assert {"label": "bot"} == rootstream.events.personal_of(told[0])
