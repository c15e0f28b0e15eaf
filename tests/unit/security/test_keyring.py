"""The key ring: what it opens, what it refuses, where its keys come from, that it shows none."""

from __future__ import annotations

import logging
import pickle
import threading
import time
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rootstream_db.errors import (
    ConfigurationError,
    SealBrokenError,
    SealError,
    UnknownKeyError,
    ValidationError,
)
from rootstream_db.rootstream import RootStream
from rootstream_db.security import keyring as module
from rootstream_db.security.keyring import KeyRing, KeySource, row_context
from rootstream_db.settings import Settings

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
PURPOSE = "test:secret"
ROW = row_context("user_mfa", 7)
SERVERS = {"database_url": "postgresql://localhost/x", "redis_url": "redis://localhost"}


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing({1: ONE})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time that rings see."""
    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def sealed(ring: KeyRing, secret: bytes = b"the secret") -> bytes:
    return ring.seal(secret, purpose=PURPOSE, context=ROW)


def opened(ring: KeyRing, value: bytes) -> bytes:
    return ring.open(value, purpose=PURPOSE, context=ROW)


def counting(asked: list[int]) -> KeySource:
    """A source with one key that notes each question."""

    def source() -> dict[int, bytes]:
        asked.append(1)
        return {1: ONE}

    return source


def test_what_was_sealed_opens(ring: KeyRing):
    assert b"the secret" == opened(ring, sealed(ring))


def test_the_envelope_is_the_documented_one(ring: KeyRing):
    value = sealed(ring)
    header, nonce, rest = value[:3], value[3:15], value[15:]
    key = HKDF(SHA256(), 32, salt=None, info=PURPOSE.encode()).derive(ONE)
    bound = header + b"s\0\0\0\x0b" + PURPOSE.encode() + ROW

    assert b"\x01\x00\x01" == header
    assert b"the secret" == AESGCM(key).decrypt(nonce, rest, bound)


def test_the_same_secret_is_sealed_differently_each_time(ring: KeyRing):
    assert 100 == len({sealed(ring) for _ in range(100)})


def test_another_row_does_not_open_it(ring: KeyRing):
    with pytest.raises(SealBrokenError):
        ring.open(sealed(ring), purpose=PURPOSE, context=row_context("user_mfa", 8))


def test_another_purpose_does_not_open_it(ring: KeyRing):
    with pytest.raises(SealBrokenError):
        ring.open(sealed(ring), purpose="test:other", context=ROW)


def test_the_border_between_purpose_and_context_cannot_be_moved(ring: KeyRing):
    value = ring.seal(b"x", purpose="ab", context=b"c")
    with pytest.raises(SealBrokenError):
        ring.open(value, purpose="a", context=b"bc")


def test_another_ring_with_the_same_numbers_does_not_open_it(ring: KeyRing):
    with pytest.raises(SealBrokenError):
        opened(KeyRing({1: TWO}), sealed(ring))


def test_every_changed_byte_is_noticed(ring: KeyRing):
    value = sealed(ring)
    for place in range(len(value)):
        for bit in range(8):
            changed = bytearray(value)
            changed[place] ^= 1 << bit
            with pytest.raises(SealError):
                opened(ring, bytes(changed))


def test_every_cut_and_every_extension_is_noticed(ring: KeyRing):
    value = sealed(ring)
    for length in range(len(value)):
        with pytest.raises(SealBrokenError):
            opened(ring, value[:length])
    with pytest.raises(SealBrokenError):
        opened(ring, value + b"\0")


def test_a_value_under_a_removed_key_names_the_key(ring: KeyRing):
    with pytest.raises(UnknownKeyError, match="master key 1, which is not") as caught:
        opened(KeyRing({2: TWO}), sealed(ring))
    assert (1, (2,)) == (caught.value.key_id, caught.value.known)


def test_the_highest_key_seals_and_all_keys_open(ring: KeyRing):
    both = KeyRing({2: TWO, 1: ONE})
    assert (1, 2) == (KeyRing.key_id(sealed(ring)), KeyRing.key_id(sealed(both)))
    assert b"the secret" == opened(both, sealed(ring)) == opened(both, sealed(both))
    assert ((1, 2), 2) == (both.key_ids, both.writer)


def test_an_older_key_may_be_told_to_seal():
    ring = KeyRing({1: ONE, 2: TWO}, writer=1)
    assert 1 == KeyRing.key_id(sealed(ring))


@pytest.mark.parametrize(
    ("masters", "reason"),
    [
        ({}, "no key"),
        ({0: ONE}, "numbers from 1 to 32767"),
        ({32768: ONE}, "numbers from 1 to 32767"),
        ({1: ONE[:31]}, "key 1 has not exactly 32 bytes"),
        ({1: ONE, 2: ONE}, "two keys of the ring are the same"),
    ],
)
def test_what_cannot_be_a_ring_is_refused(masters: dict[int, bytes], reason: str):
    with pytest.raises(ConfigurationError, match=reason):
        KeyRing(masters)


def test_a_writer_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="key 3 is to seal, but the ring has 1"):
        KeyRing({1: ONE}, writer=3)


def test_no_key_is_shown(ring: KeyRing):
    sealed(ring)
    assert "KeyRing(keys 1; 1 seals)" == repr(ring)
    assert "KeyRing(not asked yet)" == repr(KeyRing(lambda: {1: ONE}))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)


def test_an_error_shows_neither_secret_nor_key(ring: KeyRing):
    value = sealed(ring)
    with pytest.raises(SealBrokenError) as caught:
        ring.open(value, purpose="test:other", context=ROW)
    assert {} == caught.value.context
    assert caught.value.__cause__ is None


def test_the_cipher_of_a_purpose_is_made_once(ring: KeyRing):
    sealed(ring)
    (first,) = ring._keys()._ciphers.values()
    for _ in range(3):
        opened(ring, sealed(ring))
    assert [first] == list(ring._keys()._ciphers.values())


# ---- key sources


def test_a_source_is_asked_when_a_key_is_first_needed(now: list[float]):
    asked: list[int] = []
    ring = KeyRing(counting(asked))
    assert [] == asked
    assert b"the secret" == opened(ring, sealed(ring))
    assert [1] == asked


def test_an_unknown_key_makes_the_ring_ask_again(now: list[float]):
    keys = {1: ONE}
    ring = KeyRing(lambda: dict(keys))
    assert 1 == ring.writer
    value = sealed(KeyRing({1: ONE, 2: TWO}))
    keys[2] = TWO
    now[0] += 1
    assert b"the secret" == opened(ring, value)
    assert 2 == ring.writer


def test_forged_key_ids_do_not_make_a_storm_of_questions(now: list[float]):
    asked: list[int] = []
    ring = KeyRing(counting(asked))
    value = sealed(KeyRing({2: TWO}))
    for _ in range(50):
        with pytest.raises(UnknownKeyError):
            opened(ring, value)
    assert [1] == asked
    now[0] += 1
    for _ in range(50):
        with pytest.raises(UnknownKeyError):
            opened(ring, value)
    assert [1, 1] == asked


def test_a_new_key_seals_within_a_minute_without_a_restart(now: list[float]):
    keys = {1: ONE}
    ring = KeyRing(lambda: dict(keys))
    assert 1 == KeyRing.key_id(sealed(ring))
    keys[2] = TWO
    now[0] += 59
    assert 1 == KeyRing.key_id(sealed(ring))
    now[0] += 1
    assert 2 == KeyRing.key_id(sealed(ring))


def test_refresh_asks_at_once(now: list[float]):
    keys = {1: ONE}
    ring = KeyRing(lambda: dict(keys))
    assert 1 == ring.writer
    keys[2] = TWO
    ring.refresh()
    assert 2 == ring.writer


def test_known_keys_work_on_while_the_source_is_away(
    now: list[float], caplog: pytest.LogCaptureFixture
):
    answers = [{1: ONE}]
    ring = KeyRing(answers.pop)
    value = sealed(ring)
    now[0] += 61
    with caplog.at_level(logging.ERROR, logger=module.__name__):
        assert b"the secret" == opened(ring, value)
    assert ["the master keys could not be read again"] == [r.getMessage() for r in caplog.records]
    now[0] += 61
    answers.append({1: ONE, 2: TWO})
    assert 2 == ring.writer


def test_a_source_that_never_answered_is_an_error():
    def away():
        raise OSError("no key service")

    with pytest.raises(OSError, match="no key service"):
        sealed(KeyRing(away))


def test_many_threads_share_a_ring():
    ring = KeyRing(lambda: {1: ONE})
    failures = []

    def work() -> None:
        for number in range(200):
            context = row_context("t", number)
            value = ring.seal(b"x", purpose=f"test:{number % 3}", context=context)
            if ring.open(value, purpose=f"test:{number % 3}", context=context) != b"x":
                failures.append(number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures


# ---- contexts


def test_rows_are_told_apart_by_type_and_by_length():
    id_ = uuid.uuid4()
    contexts = {
        row_context("t", 1),
        row_context("t", "1"),
        row_context("t", b"1"),
        row_context("t1", 1),
        row_context("t", 1, 1),
        row_context("t", 11),
        row_context("t", "1", "1"),
        row_context("t", "11", ""),
        row_context("t", id_),
        row_context("t", id_.bytes),
        row_context("t", str(id_)),
    }
    assert 11 == len(contexts)


@pytest.mark.parametrize("ids", [(), (None,), (True,), (1.0,)])
def test_what_names_no_row_is_refused(ids: tuple[object, ...]):
    with pytest.raises(ValidationError):
        row_context("t", *ids)


# ---- the ring of a RootStream


def test_the_ring_has_the_keys_of_the_settings():
    text = f"1:{'A' * 43}=,4:{'B' * 42}A="
    settings = Settings.load(environ={}, **SERVERS, security__master_keys=text)
    with RootStream(settings) as rootstream:
        assert ((1, 4), 4) == (rootstream.keyring.key_ids, rootstream.keyring.writer)
    with RootStream(Settings.load(environ={}, **SERVERS, security__sealing_key=1)) as rootstream:
        assert 1 == rootstream.keyring.writer


def test_the_ring_reads_the_settings_file_again(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"1:{'A' * 43}=\n")
    environ = {"ROOTSTREAM_SECURITY__MASTER_KEYS_FILE": str(path)}
    settings = Settings.load(environ=environ, **SERVERS)
    assert path == settings.file_of("security.master_keys")
    assert settings.file_of("redis.url") is None
    with RootStream(settings) as rootstream:
        assert [1] == list(rootstream.keyring.key_ids)
        path.write_text(f"1:{'A' * 43}=\n2:{'B' * 42}A=\n")
        rootstream.keyring.refresh()
        assert [1, 2] == list(rootstream.keyring.key_ids)


def test_the_ring_takes_its_keys_from_a_key_service():
    settings = Settings.load(environ={}, **SERVERS)
    with RootStream(settings, key_source=lambda: {3: ONE}) as rootstream:
        assert 3 == rootstream.keyring.writer


def test_production_without_master_keys_has_no_ring():
    settings = Settings.load(environ={}, **SERVERS, security__environment="production")
    with (
        RootStream(settings) as rootstream,
        pytest.raises(ConfigurationError, match=r"security\.master_keys is not set"),
    ):
        _ = rootstream.keyring
