"""Backup codes: typed by people, compared once, told apart from nothing by time."""

from __future__ import annotations

import pytest

from rootstream_db.errors import (
    CodeReusedError,
    InvalidCodeError,
    RateLimitedError,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod
from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.services.mfa import MfaManager
from tests.fixtures.mfa import enroll


class CountingHasher(PasswordHasher):
    """Counts what it compares."""

    compared = 0

    def verify(self, stored, password):
        self.compared += 1
        return super().verify(stored, password)


@pytest.fixture
def hasher():
    return CountingHasher("cheapest-for-tests")


@pytest.fixture
def person(rootstream, clock, hasher):
    rootstream._parts["mfa"] = MfaManager(
        rootstream.database,
        rootstream.events,
        rootstream.settings.mfa,
        keyring=rootstream.keyring,
        tokens=rootstream.tokens,
        sessions=rootstream.sessions,
        hasher=hasher,
    )
    return enroll(rootstream, clock)


def changed(code):
    return code[:-1] + ("0" if code[-1] != "0" else "1")


def test_a_backup_code_is_proof_of_a_second_factor(person, clock):
    proof = person.consume(person.backup_codes()[0])
    assert (person.user.id, MfaMethod.BACKUP_CODE, AssuranceLevel.MFA, clock()) == (
        proof.user_id,
        proof.method,
        proof.level,
        proof.verified_at,
    )


def test_every_code_works_as_people_type_it(person):
    codes = person.backup_codes()
    for number, code in enumerate(codes):
        person.consume([code, code.lower(), code.replace("-", ""), f" {code} "][number % 4])
    with person.rs.transaction() as work:
        assert 0 == person.rs.mfa.status(work, person.user).backup_codes_left


def test_a_used_code_is_told_with_how_many_are_left(person):
    codes = person.backup_codes()
    person.consume(codes[2])
    told = [
        event.data
        for event in person.rs.events.read("User", str(person.user.id))
        if event.event_type == "BackupCodeUsed"
    ]
    assert [{"slot": "C", "left": 9}] == told


@pytest.mark.parametrize(
    "attempt",
    ["right", "wrong", "used", "another slot", "no such slot", "no code", "none left"],
)
def test_each_attempt_costs_one_comparison(person, hasher, attempt):
    codes = person.backup_codes()
    typed = {
        "right": codes[0],
        "wrong": changed(codes[0]),
        "used": codes[0],
        "another slot": "B" + codes[0][1:],
        "no such slot": "Z" + codes[0][1:],
        "no code": "swordfish",
        "none left": codes[0],
    }[attempt]
    if attempt == "used":
        person.consume(codes[0])
    if attempt == "none left":
        with person.rs.transaction() as work:
            work.recovery_codes.delete_of_user(person.user.id)
    before = hasher.compared
    if attempt == "right":
        person.consume(typed)
    else:
        expected = CodeReusedError if attempt == "used" else InvalidCodeError
        with pytest.raises(expected):
            person.consume(typed)

    assert 1 == hasher.compared - before


def test_a_wrong_code_says_nothing_about_what_was_wrong(person):
    codes = person.backup_codes()
    said = set()
    for typed in (changed(codes[0]), "B" + codes[0][1:], "swordfish", ""):
        with pytest.raises(InvalidCodeError) as caught:
            person.consume(typed)
        said.add(str(caught.value))
    assert 1 == len(said)


def test_codes_of_another_account_are_none(person, rootstream, clock):
    other = enroll(rootstream, clock)
    other.backup_codes()
    with pytest.raises(InvalidCodeError):
        other.consume(person.backup_codes()[0])


def test_only_so_many_codes_are_compared_at_once(person, hasher):
    code = person.backup_codes()[0]
    busy = PasswordHasher("cheapest-for-tests", max_concurrent=1, max_wait=0.01)
    person.rs.mfa._backup_codes._hasher = busy
    assert busy._turns.acquire()
    with pytest.raises(RateLimitedError):
        person.consume(code)
    busy._turns.release()
    person.consume(code)
