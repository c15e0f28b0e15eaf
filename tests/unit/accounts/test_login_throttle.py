"""How long a login is locked, and under what it is counted."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.security.login_digests import LoginDigests
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.services.accounts.lockout import lock_duration
from rootstream_db.settings import AccountSettings

DEFAULTS = AccountSettings()


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(5, 30), (6, 60), (7, 120), (8, 240), (9, 480), (10, 900), (11, 900), (10**9, 900)],
)
def test_the_lock_doubles_from_the_fifth_failure_to_the_longest(failures, seconds):
    assert timedelta(seconds=seconds) == lock_duration(failures, DEFAULTS)


@given(st.integers(-1, 4))
def test_fewer_failures_lock_nothing(failures):
    assert None is lock_duration(failures, DEFAULTS)


@given(
    failures=st.integers(0, 10**12),
    limit=st.integers(1, 100),
    base=st.timedeltas(timedelta(seconds=1), timedelta(days=365)),
    longest=st.timedeltas(timedelta(seconds=1), timedelta(days=3650)),
)
def test_a_lock_never_shrinks_nor_passes_the_longest(failures, limit, base, longest):
    settings = AccountSettings(lockout_failures=limit, lockout_base=base, lockout_max=longest)
    lock, next_lock = (lock_duration(count, settings) for count in (failures, failures + 1))
    assert (failures >= limit) == (lock is not None)
    assert (lock or timedelta(0)) <= (next_lock or timedelta(0)) <= longest


def test_who_reads_the_digest_of_a_login_cannot_try_what_it_is_of():
    mint, other = TokenMint({1: b"p" * 32}), TokenMint({1: b"q" * 32})
    digest = LoginDigests(mint).of_login("alice")
    assert digest == LoginDigests(mint).of_login("alice")
    assert 32 == len(digest)
    plain = hashlib.sha256(b"alice").digest()
    assert 4 == len({digest, plain, LoginDigests(other).of_login("alice"), digest_of_device(mint)})


def digest_of_device(mint):
    return LoginDigests(mint).of_device(b"alice")
