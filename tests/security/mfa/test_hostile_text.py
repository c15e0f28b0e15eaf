"""Hostile text through every text argument of second factors: data, never SQL, never a crash."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import (
    AuthenticationError,
    PasskeyError,
    ValidationError,
)
from tests.security.test_accounts_injection import HOSTILE


@pytest.fixture(params=HOSTILE)
def hostile(request):
    return HOSTILE[request.param]


def counts(person):
    tables = ("users", "user_mfa", "mfa_recovery_codes", "trusted_devices")
    with person.rs.transaction() as work:
        return [work.session.scalar(text(f"SELECT count(*) FROM {table}")) for table in tables]


def test_no_code_is_steered_by_hostile_text(person, hostile):
    mfa, rs = person.rs.mfa, person.rs
    person.backup_codes()
    before = counts(person)
    for method in (mfa.verify_totp, mfa.consume_backup_code, mfa.verify_trusted_device):
        with pytest.raises(AuthenticationError) as caught, rs.transaction() as work:
            method(work, person.user, hostile)
        assert len(str(caught.value)) < 500
    with rs.transaction() as work:
        enrollment = mfa.enroll(work, person.user, label="Tablet")
    with pytest.raises(AuthenticationError), rs.transaction() as work:
        mfa.confirm(work, enrollment.id, hostile)
    assert [0, 1, 0, 0] == [now - then for now, then in zip(counts(person), before, strict=True)]


def test_a_hostile_label_is_a_name_or_refused(person, hostile):
    rs, printable = person.rs, hostile.isprintable() and len(hostile) <= 64
    if not printable:
        with pytest.raises(ValidationError) as caught, rs.transaction() as work:
            rs.mfa.enroll(work, person.user, label=hostile)
        assert len(str(caught.value)) < 500
        return
    with rs.transaction() as work:
        enrollment = rs.mfa.enroll(work, person.user, label=hostile)
    with rs.transaction() as work:
        assert hostile == enrollment.label == work.mfa_factors.get_one(enrollment.id).label


def test_a_hostile_answer_of_a_passkey_is_refused(rs, alice, begin, finish, hostile):
    with pytest.raises(PasskeyError) as caught:
        finish(begin(alice), hostile)
    assert len(str(caught.value)) < 1000


def test_a_hostile_secret_is_none(person, hostile):
    with pytest.raises(ValidationError) as caught, person.rs.transaction() as work:
        person.rs.mfa.enroll(work, person.user, label="Tablet", secret=hostile)
    assert len(str(caught.value)) < 500
