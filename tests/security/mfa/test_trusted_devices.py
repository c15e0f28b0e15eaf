"""A trusted device does without a code for a while, and is never locked out by strangers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from rootstream_db.errors import (
    DeviceNotTrustedError,
    InvalidCredentialsError,
    InvalidTokenError,
    NotFoundError,
    PermissionDeniedError,
    RootStreamError,
    TooManyAttemptsError,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod
from tests.fixtures.mfa import enroll

PASSWORD = "correct horse battery staple"


@pytest.fixture
def alice(rootstream, clock):
    """Somebody with a password and a phone."""
    with rootstream.transaction() as work:
        user = rootstream.accounts.register(
            work, username="Alice", email="alice@example.com", password=PASSWORD
        )
    return enroll(rootstream, clock, user)


@pytest.fixture
def trusted(alice):
    proof = alice.verify(alice.code())
    with alice.rs.transaction() as work:
        return alice.rs.mfa.trust_device(work, alice.user, proof, label="Laptop")


def use(person, token):
    with person.rs.transaction() as work:
        return person.rs.mfa.verify_trusted_device(work, person.user, token)


def log_in(person, password, token=None, login="alice"):
    with person.rs.transaction() as work:
        return person.rs.accounts.authenticate(work, login, password, trusted_device=token)


def test_a_trusted_device_stands_in_for_a_code(alice, trusted, clock):
    clock.advance(timedelta(days=29))
    proof = use(alice, trusted.token)

    assert (alice.user.id, MfaMethod.TRUSTED_DEVICE, AssuranceLevel.MFA) == (
        proof.user_id,
        proof.method,
        proof.level,
    )
    with alice.rs.transaction() as work:
        (device,) = alice.rs.mfa.list_trusted_devices(work, alice.user)
    assert ("Laptop", clock()) == (device.label, device.last_used_at)
    assert trusted.token.startswith("rsd1_")


def test_trust_ends_after_thirty_days_however_often_it_is_used(alice, trusted, clock):
    clock.advance(timedelta(days=29))
    use(alice, trusted.token)
    clock.advance(timedelta(days=1))
    with pytest.raises(DeviceNotTrustedError):
        use(alice, trusted.token)
    with alice.rs.transaction() as work:
        assert () == alice.rs.mfa.list_trusted_devices(work, alice.user)
        clock.advance(1)
    with alice.rs.transaction() as work:
        assert 1 == alice.rs.mfa.delete_expired(work)


@pytest.mark.parametrize("change", ["password", "factor", "reset", "deactivation", "revocation"])
def test_trust_ends_with(alice, trusted, change):
    rs, user = alice.rs, alice.user
    with rs.transaction() as work:
        if change == "password":
            rs.accounts.change_password(work, user, current=PASSWORD, new="another long password")
        elif change == "factor":
            rs.mfa.unenroll(work, user, alice.factor_id)
        elif change == "reset":
            rs.mfa.reset(work, user)
        elif change == "deactivation":
            rs.accounts.deactivate(work, user)
        else:
            rs.mfa.revoke_trusted_device(work, user, trusted.device.id)
    with pytest.raises(DeviceNotTrustedError):
        use(alice, trusted.token)


def test_a_device_is_trusted_for_one_account(alice, trusted, rootstream, clock):
    other = enroll(rootstream, clock)
    with pytest.raises(DeviceNotTrustedError):
        use(other, trusted.token)
    with rootstream.transaction() as work, pytest.raises(NotFoundError):
        rootstream.mfa.revoke_trusted_device(work, other.user, trusted.device.id)
    use(alice, trusted.token)


@pytest.mark.parametrize("flaw", ["another account's", "old", "a trusted device's"])
def test_trust_needs_a_fresh_second_factor_of_the_account(alice, trusted, clock, flaw):
    proof = alice.verify(alice.code(30))
    if flaw == "another account's":
        proof = replace(proof, user_id=alice.user.id + 1)
    elif flaw == "old":
        clock.advance(601)
    else:
        # Otherwise trust could be handed on without end.
        proof = use(alice, trusted.token)
    with alice.rs.transaction() as work, pytest.raises(PermissionDeniedError):
        alice.rs.mfa.trust_device(work, alice.user, proof)


@pytest.mark.parametrize("place", [3, 10, -1])
def test_a_changed_token_is_none(alice, trusted, place):
    token = list(trusted.token)
    token[place] = "1" if token[place] != "1" else "2"
    with pytest.raises(InvalidTokenError):
        use(alice, "".join(token))
    assert 1 == alice.outcomes()["wrong"]


def test_the_least_recently_used_device_makes_room(alice, rootstream, clock):
    few = rootstream.settings.mfa.model_copy(update={"max_trusted_devices": 2})
    rootstream._parts.clear()
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": few})
    tokens = []
    for _ in range(3):
        proof = alice.verify(alice.code())
        with rootstream.transaction() as work:
            tokens.append(rootstream.mfa.trust_device(work, alice.user, proof).token)
        clock.advance(60)
    with pytest.raises(DeviceNotTrustedError):
        use(alice, tokens[0])
    use(alice, tokens[1])
    use(alice, tokens[2])


def test_strangers_lock_the_login_but_not_the_owners_device(alice, trusted):
    def guess(number):
        try:
            log_in(alice, f"guess {number}")
        except RootStreamError as error:
            return error.code
        return "ok"

    counted = Counter(map(guess, range(1000)))
    assert {"auth.invalid_credentials": 5, "auth.too_many_attempts": 995} == counted
    # From an unknown device even the owner has to wait.
    with pytest.raises(TooManyAttemptsError):
        log_in(alice, PASSWORD)

    assert alice.user.id == log_in(alice, PASSWORD, trusted.token).id
    assert alice.user.id == log_in(alice, PASSWORD, trusted.token, "alice@example.com").id


def test_a_stolen_device_has_five_guesses_of_its_own(alice, trusted):
    for number in range(5):
        with pytest.raises(InvalidCredentialsError):
            log_in(alice, f"guess {number}", trusted.token)
    with pytest.raises(TooManyAttemptsError):
        log_in(alice, PASSWORD, trusted.token)
    # And locks nobody else out.
    assert alice.user.id == log_in(alice, PASSWORD).id


@pytest.mark.parametrize("token", ["revoked", "another account's", "garbage", "of another kind"])
def test_a_token_that_is_worth_nothing_is_counted_as_none(alice, trusted, rootstream, clock, token):
    if token == "revoked":
        with rootstream.transaction() as work:
            rootstream.mfa.revoke_trusted_device(work, alice.user, trusted.device.id)
        shown = trusted.token
    elif token == "another account's":
        other = enroll(rootstream, clock)
        proof = other.verify(other.code())
        with rootstream.transaction() as work:
            shown = rootstream.mfa.trust_device(work, other.user, proof).token
    elif token == "garbage":
        shown = "rsd1_" + "x" * 1_000_000
    else:
        shown = "rss" + trusted.token[3:]
    for number in range(5):
        with pytest.raises(InvalidCredentialsError):
            log_in(alice, f"guess {number}", shown)
    with pytest.raises(TooManyAttemptsError):
        log_in(alice, PASSWORD, shown)


def test_the_token_is_stored_nowhere(alice, trusted, clean_database_url):
    from tests.security.test_accounts_secrets import every_text_stored

    with alice.rs.transaction() as work:
        stored = every_text_stored(work)
    assert trusted.token not in stored
    assert trusted.token not in repr(trusted)
