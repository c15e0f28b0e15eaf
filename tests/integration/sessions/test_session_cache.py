"""What is cached of sessions: never more than PostgreSQL says, whoever writes to Redis."""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from unittest import mock

import pytest

from rootstream_db.errors import InvalidTokenError, SessionRevokedError
from rootstream_db.services.sessions.entry import ENTRY_BYTES
from rootstream_db.services.sessions.store import SessionStore


@pytest.fixture
def redis(rootstream):
    return rootstream.cache.client


@pytest.fixture
def key_of(rootstream):
    """Return the key under which the session of a token is cached."""

    def key_of(issued):
        return f"rs:session:{issued.session.token_hash.hex()}"

    return key_of


# entries


def test_an_entry_is_short_and_holds_nothing_personal(redis, log_in, key_of):
    issued = log_in(
        ip_address="192.0.2.99", user_agent="Player", device_label="Phone", location="Lisbon"
    )
    value = redis.get(key_of(issued))
    assert ENTRY_BYTES == len(value) < 128
    assert 0 < redis.ttl(key_of(issued)) <= 24 * 3600
    for word in (b"192.0", b"\xc0\x00\x02\x63", b"Player", b"Phone", b"Lisbon", issued.token[5:]):
        assert (word if isinstance(word, bytes) else word.encode()) not in value


FORGERIES = {
    "made up": lambda value, _other: b"\1" + secrets.token_bytes(len(value) - 1),
    "of another session": lambda _value, other: other,
    "cut short": lambda value, _other: value[:-1],
    "longer": lambda value, _other: value + b"\0",
    "without its proof": lambda value, _other: value[:-16] + bytes(16),
    "of another form": lambda value, _other: b"\2" + value[1:],
    "empty": lambda _value, _other: b"",
    "one letter": lambda _value, _other: b"L",
    "text": lambda _value, _other: b'{"user_id": 1}',
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_entry_is_not_believed(rootstream, redis, log_in, key_of, forgery, caplog):
    issued, other = log_in(), log_in()
    value = redis.get(key_of(issued))
    forged = FORGERIES[forgery](value, redis.get(key_of(other)))
    redis.set(key_of(issued), forged)
    with caplog.at_level(logging.ERROR):
        info = rootstream.sessions.validate(issued.token)
    assert issued.session.id == info.session_id
    if forged:
        assert 1 == rootstream.sessions.forged_entries
        assert "not one of ours" in caplog.text
        assert value == redis.get(key_of(issued))


def test_no_single_bit_of_an_entry_can_be_changed(rootstream, redis, log_in, key_of):
    issued = log_in()
    value = redis.get(key_of(issued))
    for position in range(0, len(value) * 8, 7):
        changed = bytearray(value)
        changed[position // 8] ^= 1 << position % 8
        redis.set(key_of(issued), bytes(changed))
        assert issued.session.id == rootstream.sessions.validate(issued.token).session_id
    assert len(range(0, len(value) * 8, 7)) == rootstream.sessions.forged_entries


def test_a_forged_entry_does_not_revive_a_dead_session(rootstream, redis, log_in, key_of):
    issued = log_in()
    value = redis.get(key_of(issued))
    rootstream.sessions.revoke(issued.token)
    redis.set(key_of(issued), value[:-1] + bytes([value[-1] ^ 1]))
    with pytest.raises(SessionRevokedError):
        rootstream.sessions.validate(issued.token)
    assert b"X" == redis.get(key_of(issued))


def test_a_key_of_another_type_is_not_believed(rootstream, redis, log_in, key_of):
    issued = log_in()
    redis.delete(key_of(issued))
    redis.rpush(key_of(issued), "a list")
    for _ in range(2):
        assert issued.session.id == rootstream.sessions.validate(issued.token).session_id


def test_an_older_entry_put_back_is_trusted_for_max_stale_at_most(
    rootstream, redis, log_in, key_of, clock
):
    issued = log_in()
    value = redis.get(key_of(issued))
    rootstream.sessions.revoke(issued.token)
    clock.advance(61)
    redis.set(key_of(issued), value)
    with pytest.raises(SessionRevokedError):
        rootstream.sessions.validate(issued.token)


def test_an_entry_from_the_future_is_checked_again(rootstream, redis, log_in, key_of, clock):
    clock.advance(3600)
    issued = log_in()
    clock.advance(-3600)
    with rootstream.transaction() as work:
        work.sessions.revoke_all(issued.session.user_id, now=work.now, reason="admin")
    with pytest.raises(SessionRevokedError):
        rootstream.sessions.validate(issued.token)


def test_max_stale_of_nothing_asks_postgresql_every_time(another, rootstream, log_in, clock):
    careful = another(max_stale=clock.now - clock.now).sessions
    issued = log_in()
    assert careful.validate(issued.token)
    with rootstream.transaction() as work:
        work.sessions.revoke_all(issued.session.user_id, now=work.now, reason="admin")
    with pytest.raises(SessionRevokedError):
        careful.validate(issued.token)


# marks


def test_an_ended_session_leaves_a_mark_that_outlives_every_entry(
    rootstream, redis, log_in, key_of
):
    issued = log_in()
    rootstream.sessions.revoke(issued.token)
    assert b"X" == redis.get(key_of(issued))
    assert 24 * 3600 < redis.ttl(key_of(issued))


def test_a_rolled_back_end_leaves_a_mark_of_minutes(rootstream, redis, log_in, key_of, alice):
    issued = log_in()
    with pytest.raises(RuntimeError), rootstream.transaction() as work:
        rootstream.sessions.revoke_all_for_user(work, alice)
        raise RuntimeError
    assert b"P" == redis.get(key_of(issued))
    assert redis.ttl(key_of(issued)) <= 180
    assert rootstream.sessions.validate(issued.token)
    redis.delete(key_of(issued))
    assert rootstream.sessions.validate(issued.token)
    assert ENTRY_BYTES == len(redis.get(key_of(issued)))


def test_a_deleted_account_has_no_session_in_the_cache_either(rootstream, redis, log_in, alice):
    issued = log_in()
    with rootstream.transaction() as work:
        rootstream.accounts.delete(work, alice)
    with pytest.raises(SessionRevokedError):
        rootstream.sessions.validate(issued.token)
    redis.flushdb()
    with pytest.raises(InvalidTokenError):
        rootstream.sessions.validate(issued.token)


def test_a_row_that_is_gone_is_not_served_from_an_old_entry(
    rootstream, redis, log_in, key_of, clock
):
    issued = log_in()
    with rootstream.transaction() as work:
        work.sessions.delete(work.sessions.get_one(issued.session.id))
    clock.advance(61)
    for error in (InvalidTokenError, SessionRevokedError):
        with pytest.raises(error):
            rootstream.sessions.validate(issued.token)


@pytest.mark.parametrize("what", ["change_password", "deactivate"])
def test_the_end_of_a_password_is_the_end_of_its_cached_sessions(rootstream, another, what):
    password = "correct horse battery staple"
    with rootstream.transaction() as work:
        user = rootstream.accounts.register(
            work, username="bob", email="bob@example.com", password=password
        )
        issued = rootstream.sessions.create(work, user)
    elsewhere = another().sessions
    assert elsewhere.validate(issued.token)
    with rootstream.transaction() as work:
        if what == "deactivate":
            rootstream.accounts.deactivate(work, user)
        else:
            rootstream.accounts.change_password(
                work, user, current=password, new="another horse, another staple"
            )
    with pytest.raises(SessionRevokedError):
        elsewhere.validate(issued.token)


# the race between a reader that fills and a writer that ends

TRIALS = 500


def dawdling(method):
    """Wait a moment before the method, so that what others do comes in between."""

    def dawdle(*arguments, **named):
        time.sleep(random.random() * 0.004)  # chance decides who comes first
        return method(*arguments, **named)

    return dawdle


@pytest.mark.slow
def test_no_reader_however_slow_brings_an_ended_session_back(rootstream, redis, log_in, key_of):
    current = [log_in()]
    refused: list[set[int]] = [set() for _ in range(3)]
    is_over = threading.Event()

    def read(number):
        while not is_over.is_set():
            issued = current[0]
            try:
                rootstream.sessions.validate(issued.token)
            except SessionRevokedError:
                refused[number].add(issued.session.id)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    back = 0
    with mock.patch.object(SessionStore, "fill", dawdling(SessionStore.fill)):
        for reader in readers:
            reader.start()
        try:
            for _ in range(TRIALS):
                issued = current[0] = log_in()
                redis.delete(key_of(issued))
                rootstream.sessions.revoke(issued.token)
                with pytest.raises(SessionRevokedError):
                    rootstream.sessions.validate(issued.token)
                # A reader that asked before the end fills now, if it ever does.
                deadline = time.monotonic() + 5
                while not all(issued.session.id in seen for seen in refused):
                    assert time.monotonic() < deadline
                    time.sleep(0.0005)
                back += redis.get(key_of(issued)) != b"X"
        finally:
            is_over.set()
            for reader in readers:
                reader.join(10)
    assert 0 == back
