"""A shared secret opens in its own row, under its own key, unchanged, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from sqlalchemy import text

from rootstream_db.errors import SealBrokenError, UnknownKeyError
from rootstream_db.rootstream import RootStream
from rootstream_db.security.keyring import KeyRing
from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.mfa import MfaManager
from tests.factories import make_user
from tests.fixtures.authenticator import Authenticator
from tests.fixtures.mfa import enroll

OLD, NEW = b"o" * 32, b"n" * 32


def sealed(person):
    with person.rs.transaction() as work:
        return work.mfa_factors.get_one(person.factor_id).secret


def overwrite(person, secret):
    query = text("UPDATE user_mfa SET secret = :secret WHERE id = :id")
    with person.rs.transaction() as work:
        work.session.execute(query, {"secret": secret, "id": person.factor_id})


def refused(person, error):
    """Make sure that a right code is refused with that error, and that it was not a guess."""
    before = person.outcomes()
    with pytest.raises(error):
        person.verify(person.code())
    assert before == person.outcomes()


def test_the_stored_secret_is_not_the_secret(person):
    stored = sealed(person)
    assert base64.b32decode(person.secret) not in stored
    assert person.secret.encode() not in stored


def test_a_secret_copied_from_another_account_does_not_open(person, rootstream, clock):
    overwrite(person, sealed(enroll(rootstream, clock)))
    refused(person, SealBrokenError)


def test_a_secret_copied_from_another_device_of_the_account_does_not_open(person):
    with person.rs.transaction() as work:
        twin = person.rs.mfa.enroll(work, person.user, label="Tablet", secret=person.secret)
        copied = work.mfa_factors.get_one(twin.id).secret
    overwrite(person, copied)
    refused(person, SealBrokenError)


@pytest.mark.parametrize("keep", [0, 1, 14, 30, -1])
def test_a_cut_secret_does_not_open(person, keep):
    overwrite(person, sealed(person)[:keep])
    refused(person, SealBrokenError)


@pytest.mark.parametrize("place", [0, 5, 20, -1])
def test_a_changed_secret_does_not_open(person, place):
    changed = bytearray(sealed(person))
    changed[place] ^= 1
    overwrite(person, bytes(changed))
    refused(person, SealBrokenError)


def test_a_secret_under_an_unknown_key_says_so(person):
    changed = bytearray(sealed(person))
    changed[1:3] = (999).to_bytes(2, "big")
    overwrite(person, bytes(changed))
    refused(person, UnknownKeyError)


def test_a_secret_opens_for_as_long_as_its_key_is_in_the_ring(rootstream: RootStream, clock):
    database = rootstream.database
    events = EventStore(database, clock=clock)

    def manager(masters):
        return MfaManager(
            database,
            events,
            rootstream.settings.mfa,
            keyring=KeyRing(masters),
            tokens=rootstream.tokens,
            sessions=rootstream.sessions,
        )

    both = {1: OLD, 2: NEW}
    rootstream._parts["mfa"] = manager({1: OLD})
    person = enroll(rootstream, clock)

    rootstream._parts["mfa"] = manager(both)
    person.verify(person.code())
    with rootstream.transaction() as work:
        assert 1 == work.mfa_factors.get_one(person.factor_id).secret_key_id

    rootstream._parts["mfa"] = manager({2: NEW})
    clock.advance(30)
    refused(person, UnknownKeyError)


def test_a_backup_code_cannot_be_planted_by_who_can_only_write(person, rootstream, clock):
    other = enroll(rootstream, clock)
    known = other.backup_codes()[0]
    person.backup_codes()
    planted = PasswordHasher("cheapest-for-tests").hash("A-0000-0000-0000").encode()
    copy = (
        "UPDATE mfa_recovery_codes SET code_hash = (SELECT code_hash FROM mfa_recovery_codes"
        " WHERE user_id = :other AND slot = 'A') WHERE user_id = :user AND slot = 'A'"
    )
    plant = "UPDATE mfa_recovery_codes SET code_hash = :planted WHERE user_id = :user"
    with rootstream.transaction() as work:
        work.session.execute(text(copy), {"other": other.user.id, "user": person.user.id})
    with pytest.raises(SealBrokenError):
        person.consume(known)
    with rootstream.transaction() as work:
        work.session.execute(text(plant), {"planted": planted, "user": person.user.id})
    with pytest.raises(SealBrokenError):
        person.consume("A-0000-0000-0000")


def test_a_passkey_cannot_be_planted_by_who_can_only_write(
    rs, alice, key, begin, begin_registration, finish_registration, finish
):
    with rs.transaction() as work:
        mallory = make_user(work, username="mallory")
    stolen = Authenticator()
    ceremony = begin_registration(mallory)
    finish_registration(ceremony, stolen.create(ceremony.options))
    move = "UPDATE user_mfa SET user_id = :user, label = 'Planted' WHERE user_id = :mallory"
    with rs.transaction() as work:
        work.session.execute(text(move), {"user": alice.id, "mallory": mallory.id})
    ceremony = begin(alice)
    with pytest.raises(SealBrokenError):
        finish(ceremony, stolen.get(ceremony.options, user_handle=alice.public_id.bytes))
    ceremony = begin(alice)
    finish(ceremony, key.get(ceremony.options))
