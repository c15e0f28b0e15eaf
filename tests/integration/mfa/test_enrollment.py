"""From "set up an app" to the first code, and everything that can be wrong on the way."""

from __future__ import annotations

import uuid

import pyotp
import pytest

from rootstream_db.errors import (
    ClockSkewError,
    ConflictError,
    EnrollmentExpiredError,
    InvalidCodeError,
    MfaNotEnrolledError,
    NotFoundError,
    TooManyAttemptsError,
    ValidationError,
)
from rootstream_db.models import FactorKind, MfaAttemptMethod
from rootstream_db.settings import MfaSettings
from tests.factories import make_user
from tests.fixtures.mfa import app_of, enroll


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return make_user(work, username="alice")


@pytest.fixture
def begin(rootstream, alice):
    def begin(**named):
        with rootstream.transaction() as work:
            return rootstream.mfa.enroll(work, alice, **named)

    return begin


@pytest.fixture
def confirm(rootstream):
    def confirm(enrollment_id, code):
        with rootstream.transaction() as work:
            return rootstream.mfa.confirm(work, enrollment_id, code)

    return confirm


def code_of(enrollment, clock, seconds=0):
    return pyotp.TOTP(enrollment.secret).at(int(clock().timestamp() + seconds))


def test_an_app_counts_once_it_is_confirmed(rootstream, alice, begin, confirm, clock):
    enrollment = begin(label="Phone")
    with rootstream.transaction() as work:
        assert not rootstream.mfa.status(work, alice).enabled
        with pytest.raises(MfaNotEnrolledError):
            rootstream.mfa.verify_totp(work, alice, code_of(enrollment, clock))
    factor = confirm(enrollment.id, code_of(enrollment, clock))

    assert (enrollment.id, alice.id, FactorKind.TOTP, "Phone", clock()) == (
        factor.id,
        factor.user_id,
        factor.kind,
        factor.label,
        factor.confirmed_at,
    )
    with rootstream.transaction() as work:
        status = rootstream.mfa.status(work, alice)
        assert (factor,) == rootstream.mfa.list_factors(work, alice) == status.factors
    assert (True, True, 0) == (status.enabled, status.required, status.backup_codes_left)


def test_an_app_reads_the_address_as_we_mean_it(begin):
    enrollment = begin(label="Phone")
    read = app_of(enrollment.uri)

    assert (enrollment.secret, "RootStream", "alice") == (read.secret, read.issuer, read.name)


def test_a_secret_can_be_made_and_shown_before_it_is_stored(rootstream, alice, begin):
    secret = rootstream.mfa.generate_secret()
    enrollment = begin(secret=secret.lower())

    assert secret == enrollment.secret
    assert rootstream.mfa.provisioning_uri(alice, secret) == enrollment.uri


def test_an_enrolment_runs_out(begin, confirm, clock):
    enrollment = begin()
    clock.advance(599)
    late = begin(label="Another")
    clock.advance(1)
    with pytest.raises(EnrollmentExpiredError):
        confirm(enrollment.id, code_of(enrollment, clock))
    assert confirm(late.id, code_of(late, clock))


def test_an_enrolment_is_finished_once(begin, confirm, clock):
    enrollment = begin()
    confirm(enrollment.id, code_of(enrollment, clock))
    clock.advance(30)
    with pytest.raises(EnrollmentExpiredError):
        confirm(enrollment.id, code_of(enrollment, clock))


def test_an_enrolment_that_never_was_is_told_like_one_that_ran_out(confirm):
    with pytest.raises(EnrollmentExpiredError):
        confirm(uuid.uuid4(), "123456")


def test_a_wrong_code_finishes_nothing_and_can_be_followed_by_the_right_one(
    rootstream, alice, begin, confirm, clock
):
    enrollment = begin()
    with pytest.raises(InvalidCodeError):
        confirm(enrollment.id, "12345x")
    with rootstream.transaction() as work:
        assert not rootstream.mfa.status(work, alice).enabled
        (attempt,) = rootstream.mfa.list_attempts(work, alice)
    assert (MfaAttemptMethod.ENROLLMENT, "wrong") == (attempt.method, attempt.outcome.value)
    assert confirm(enrollment.id, code_of(enrollment, clock))


def test_codes_of_an_enrolment_are_not_guessed_without_end(begin, confirm, clock):
    enrollment = begin()
    for _ in range(5):
        with pytest.raises(InvalidCodeError):
            confirm(enrollment.id, "wrong")
    with pytest.raises(TooManyAttemptsError):
        confirm(enrollment.id, code_of(enrollment, clock))


def test_a_slow_clock_is_told_at_once(begin, confirm, clock):
    enrollment = begin()
    with pytest.raises(ClockSkewError) as caught:
        confirm(enrollment.id, code_of(enrollment, clock, seconds=-240))
    assert 240 == caught.value.seconds_behind


def test_beginning_anew_replaces_what_was_begun(begin, confirm, clock):
    first = begin(label="Phone")
    second = begin(label="Phone")
    with pytest.raises(EnrollmentExpiredError):
        confirm(first.id, code_of(first, clock))
    assert confirm(second.id, code_of(second, clock))


def test_two_devices_have_different_names(begin, confirm, clock):
    phone = begin(label="Phone")
    confirm(phone.id, code_of(phone, clock))
    with pytest.raises(ConflictError, match="'Phone' is enrolled already"):
        begin(label=" Phone ")
    assert begin(label="Tablet")


def test_there_is_an_end_to_devices(begin):
    for number in range(10):
        begin(label=f"Device {number}")
    with pytest.raises(ConflictError, match="at most 10"):
        begin(label="One too many")


def test_enrolments_that_ran_out_take_no_room(begin, clock):
    for number in range(10):
        begin(label=f"Device {number}")
    clock.advance(600)
    assert begin(label="One more")


@pytest.mark.parametrize("label", ["", "  ", "x" * 65, "two\nlines", "nul\0", "bell\a"])
def test_a_device_is_called_something_printable(begin, label):
    with pytest.raises(ValidationError) as caught:
        begin(label=label)
    assert "label" == caught.value.field


@pytest.mark.parametrize("secret", ["short", "0" * 32, "GEZDGNBV"])
def test_a_secret_of_ones_own_must_be_one(begin, secret):
    with pytest.raises(ValidationError) as caught:
        begin(secret=secret)
    assert "secret" == caught.value.field


def test_a_device_of_somebody_else_cannot_be_removed(rootstream, clock, alice):
    other = enroll(rootstream, clock)
    with rootstream.transaction() as work, pytest.raises(NotFoundError):
        rootstream.mfa.unenroll(work, alice, other.factor_id)
    other.verify(other.code())


def test_the_backup_codes_go_with_the_last_device(person, rootstream):
    codes = person.backup_codes()
    with rootstream.transaction() as work:
        rootstream.mfa.unenroll(work, person.user, person.factor_id)
    with pytest.raises(InvalidCodeError):
        person.consume(codes[0])
    with rootstream.transaction() as work:
        status = rootstream.mfa.status(work, person.user)
    assert (False, False, 0) == (status.enabled, status.required, status.backup_codes_left)


def test_backup_codes_need_something_to_stand_in_for(rootstream, alice):
    with rootstream.transaction() as work, pytest.raises(MfaNotEnrolledError):
        rootstream.mfa.generate_backup_codes(work, alice)


def test_a_policy_makes_second_factors_owed_by_everybody(rootstream, alice):
    required = rootstream.settings.mfa.model_copy(update={"required": True})
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": required})
    with rootstream.transaction() as work:
        status = rootstream.mfa.status(work, alice)
    assert (False, True) == (status.enabled, status.required)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_every_hash_and_length_that_can_be_set_works(rootstream, clock, algorithm):
    settings = MfaSettings(algorithm=algorithm, digits=8)
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": settings})
    with rootstream.transaction() as work:
        user = make_user(work)
        enrollment = rootstream.mfa.enroll(work, user)
    app = app_of(enrollment.uri)
    with rootstream.transaction() as work:
        rootstream.mfa.confirm(work, enrollment.id, app.at(clock()))
    clock.advance(30)
    with rootstream.transaction() as work:
        rootstream.mfa.verify_totp(work, user, app.at(clock()))


def test_what_nobody_finished_is_deleted(begin, rootstream, clock):
    begin()
    clock.advance(601)
    with rootstream.transaction() as work:
        assert 1 == rootstream.mfa.delete_expired(work)
        assert 0 == rootstream.mfa.delete_expired(work)
