"""Argon2id under the named profiles, the same work for nobody, and the bound on concurrency."""

from __future__ import annotations

import statistics
import threading
import time

import argon2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootstream_db.errors import RateLimitedError
from rootstream_db.security.passwords import PROFILES, PasswordHasher

CHEAP = PasswordHasher("cheapest-for-tests")


class Gate:
    """Stands in for Argon2: holds every hashing until the test lets it go."""

    def __init__(self):
        self.inside = 0
        self.most_inside = 0
        self.open = threading.Event()
        self._lock = threading.Lock()

    def hash(self, password):
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.open.wait(30)
        with self._lock:
            self.inside -= 1
        return "hash"


def gated(max_concurrent, *, max_wait=30.0):
    hasher = PasswordHasher("cheapest-for-tests", max_concurrent=max_concurrent, max_wait=max_wait)
    gate = Gate()
    vars(hasher).update(_argon2=gate)
    return hasher, gate


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        threading.Event().wait(0.005)


def test_a_password_verifies_against_its_own_hash():
    assert CHEAP.verify(CHEAP.hash("correct horse"), "correct horse")


def test_another_password_does_not_verify():
    assert not CHEAP.verify(CHEAP.hash("correct horse"), "correct horsf")


def test_equal_passwords_have_different_hashes():
    assert CHEAP.hash("correct horse") != CHEAP.hash("correct horse")


def test_the_default_profile_is_the_low_memory_one_of_rfc_9106():
    stored = PasswordHasher().hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PROFILES["rfc9106-low-memory"] == argon2.extract_parameters(stored)


def test_the_high_memory_profile_is_the_first_choice_of_rfc_9106():
    parameters = PROFILES["rfc9106-high-memory"]
    assert (1, 2 * 1024 * 1024, 4) == (
        parameters.time_cost,
        parameters.memory_cost,
        parameters.parallelism,
    )


@settings(max_examples=50)
@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_can_be_hashed_and_verified(password):
    assert CHEAP.verify(CHEAP.hash(password), password)


def test_a_password_is_not_truncated_at_nul_nor_at_any_length():
    stored = CHEAP.hash("x" * 1024 + "\0tail")
    assert not CHEAP.verify(stored, "x" * 1024)
    assert not CHEAP.verify(stored, "x" * 1024 + "\0tale")


def test_a_hash_of_other_parameters_wants_a_rehash():
    weak = CHEAP.hash("correct horse")
    assert (False, True) == (CHEAP.needs_rehash(weak), PasswordHasher().needs_rehash(weak))


def test_a_hash_of_other_parameters_still_verifies():
    assert PasswordHasher().verify(CHEAP.hash("correct horse"), "correct horse")


@pytest.mark.parametrize("stored", [None, "", "!", "$2b$12$bcrypt", "$argon2id$v=19$m=8"])
def test_where_there_is_no_hash_nothing_verifies(stored):
    assert not CHEAP.verify(stored, "correct horse")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_hash_of_nobody_costs_what_the_profile_costs(profile):
    assert PROFILES[profile] == argon2.extract_parameters(PasswordHasher(profile)._nobody)


def test_verifying_against_nobody_takes_the_time_of_a_real_verification():
    hasher = PasswordHasher()
    stored = hasher.hash("correct horse")

    def median(against):
        samples = []
        for _ in range(5):
            started = time.process_time()
            hasher.verify(against, "wrong")
            samples.append(time.process_time() - started)
        return statistics.median(samples)

    # Processor time, so that the machine's other work does not count; garbage takes a 1000th.
    assert 0.5 < median(None) / median(stored) < 2


def test_no_more_hashings_run_at_once_than_allowed():
    hasher, gate = gated(2)
    threads = [threading.Thread(target=hasher.hash, args=("x",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: gate.inside == 2)
    gate.open.set()
    for thread in threads:
        thread.join(30)
    assert (2, 0) == (gate.most_inside, gate.inside)


def test_a_hashing_that_waits_too_long_is_told_to_come_back():
    hasher, gate = gated(1, max_wait=0.05)
    busy = threading.Thread(target=hasher.hash, args=("x",))
    busy.start()
    wait_until(lambda: gate.inside == 1)
    with pytest.raises(RateLimitedError, match="too many passwords") as caught:
        hasher.verify(None, "x")
    gate.open.set()
    busy.join(30)
    assert (0.05, True) == (caught.value.retry_after, caught.value.retryable)


def test_a_failed_hashing_gives_its_turn_back():
    hasher = PasswordHasher("cheapest-for-tests", max_concurrent=1, max_wait=0.05)
    damaged = hasher.hash("x")[:-1] + "!"
    with pytest.raises(argon2.exceptions.VerificationError):
        hasher.verify(damaged, "x")
    assert hasher.verify(hasher.hash("x"), "x")


def test_a_hasher_shows_neither_password_nor_hash():
    assert "argon2id$" not in repr(CHEAP)
