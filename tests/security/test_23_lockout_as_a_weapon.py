"""23: who guesses at an account for ever does not keep its owner out of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rootstream_db.errors import InvalidCredentialsError, RateLimitedError, TooManyAttemptsError
from tests.fixtures.mfa import enroll

PASSWORD = "correct horse battery staple"
HOME = "198.51.100.7"


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )


@pytest.fixture
def laptop(rootstream, clock, alice):
    """The token of a device that alice trusts."""
    person = enroll(rootstream, clock, alice)
    proof = person.verify(person.code())
    with rootstream.transaction() as work:
        return rootstream.mfa.trust_device(work, alice, proof, label="Laptop").token


def log_in(rootstream, password, address, device=None):
    with rootstream.transaction() as work:
        return rootstream.accounts.authenticate(
            work, "alice", password, ip_address=address, trusted_device=device
        )


def attack(rootstream, clock, times, addresses):
    """Guess from several places at once, with a minute's rest after each hundred."""

    def guess(attempt):
        with pytest.raises((InvalidCredentialsError, TooManyAttemptsError, RateLimitedError)) as it:
            log_in(rootstream, f"guess {attempt}", addresses[attempt % len(addresses)])
        return it.type

    refusals: list[type[Exception]] = []
    with ThreadPoolExecutor(8) as attackers:
        for batch in range(0, times, 100):
            refusals += attackers.map(guess, range(batch, min(batch + 100, times)))
            clock.advance(60)
    return refusals


@pytest.mark.slow
def test_23_a_thousand_wrong_passwords_leave_a_trusted_device_in(rootstream, clock, alice, laptop):
    # Most of them from where no address is known, which leaves the lock of the login alone.
    botnet = [f"203.0.{number}.1" if number % 10 == 0 else None for number in range(100)]
    refusals = attack(rootstream, clock, 1000, botnet)
    assert 5 <= refusals.count(InvalidCredentialsError) < 20
    with pytest.raises(TooManyAttemptsError):
        log_in(rootstream, PASSWORD, HOME)
    assert alice.id == log_in(rootstream, PASSWORD, HOME, laptop).id


def test_23_an_attacker_in_the_same_network_does_not_keep_the_device_out_either(
    rootstream, clock, alice, laptop
):
    refusals = attack(rootstream, clock, 400, [HOME])
    assert RateLimitedError is refusals[-1]
    with pytest.raises(RateLimitedError):
        log_in(rootstream, PASSWORD, "198.51.100.8")
    assert alice.id == log_in(rootstream, PASSWORD, HOME, laptop).id


def test_23_the_device_itself_guesses_no_more_than_anybody(rootstream, clock, alice, laptop):
    for _ in range(5):
        with pytest.raises(InvalidCredentialsError):
            log_in(rootstream, "wrong", HOME, laptop)
    with pytest.raises(TooManyAttemptsError):
        log_in(rootstream, PASSWORD, HOME, laptop)
    # Its lockout is its own: the owner comes in from elsewhere.
    assert alice.id == log_in(rootstream, PASSWORD, HOME).id


def test_23_a_locked_login_opens_by_itself(rootstream, clock, alice):
    attack(rootstream, clock, 20, ["203.0.113.1"])
    clock.advance(15 * 60)
    assert alice.id == log_in(rootstream, PASSWORD, HOME).id
