"""Security events are written beside every other work, and never get in its way."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db import audit
from rootstream_db.errors import AuthenticationError
from rootstream_db.models import RiskLevel, SecurityEventKind
from rootstream_db.services.security_events import Report
from rootstream_db.testing import EPOCH
from tests.factories import make_user

KIND = SecurityEventKind


def kinds(rootstream, **wanted):
    return [event.kind for event in rootstream.security.list_events(**wanted)]


def test_a_report_is_kept_with_its_usual_risk_and_the_network_of_its_address(rootstream):
    rootstream.security.record(
        Report(
            kind=KIND.TOKEN_REUSED,
            user_id=7,
            ip_address="2001:db8::5",
            user_agent="curl/8",
            details={"session": 3},
        )
    )
    (event,) = rootstream.security.list_events()
    assert (EPOCH, KIND.TOKEN_REUSED, RiskLevel.HIGH, 7, "2001:db8::5", "2001:db8::/64") == (
        event.occurred_at,
        event.kind,
        event.risk,
        event.user_id,
        event.ip_address,
        event.network,
    )
    assert ({"session": 3}, 32) == (event.details, len(event.user_agent_hash))


def test_address_and_client_are_those_of_whoever_acts(rootstream):
    with audit.acting(ip_address="192.0.2.7", user_agent="curl/8"):
        rootstream.security.record(Report(kind=KIND.MFA_FAILED))
        rootstream.security.record(Report(kind=KIND.MFA_FAILED, ip_address="192.0.2.8"))
    second, first = rootstream.security.list_events()
    assert {"192.0.2.7", "192.0.2.8"} == {first.ip_address, second.ip_address}
    assert None is not first.user_agent_hash == second.user_agent_hash


def test_a_report_outlives_the_callers_rollback(rootstream):
    with pytest.raises(KeyError), rootstream.transaction():
        rootstream.security.record(Report(kind=KIND.MFA_FAILED))
        raise KeyError
    assert [KIND.MFA_FAILED] == kinds(rootstream)


def test_a_report_that_waits_for_the_commit_dies_with_a_rollback(rootstream):
    with pytest.raises(KeyError), rootstream.transaction() as work:
        rootstream.security.record_after(work, Report(kind=KIND.KEY_ISSUED))
        raise KeyError
    assert [] == kinds(rootstream)
    with audit.acting(ip_address="192.0.2.7"), rootstream.transaction() as work:
        rootstream.security.record_after(work, Report(kind=KIND.KEY_ISSUED))
        assert [] == kinds(rootstream)
    (event,) = rootstream.security.list_events()
    assert "192.0.2.7" == event.ip_address


def test_events_are_listed_by_risk_kind_time_and_account(rootstream, clock):
    for kind, user_id in [
        (KIND.LOGIN_SUCCEEDED, 1),
        (KIND.NEW_DEVICE, 1),
        (KIND.TOKEN_REUSED, 2),
        (KIND.LOGIN_LOCKED, None),
    ]:
        rootstream.security.record(Report(kind=kind, user_id=user_id))
        clock.advance(60)
    all_of_them = [KIND.LOGIN_LOCKED, KIND.TOKEN_REUSED, KIND.NEW_DEVICE, KIND.LOGIN_SUCCEEDED]
    assert all_of_them == kinds(rootstream)
    assert all_of_them[:2] == kinds(rootstream, risk=RiskLevel.MEDIUM)
    assert all_of_them[:2] == kinds(rootstream, limit=2)
    assert all_of_them[:2] == kinds(rootstream, since=EPOCH + timedelta(minutes=2))
    assert [KIND.NEW_DEVICE] == kinds(rootstream, kind=KIND.NEW_DEVICE)
    assert all_of_them[2:] == kinds(rootstream, user_id=1)
    assert [KIND.TOKEN_REUSED] == kinds(rootstream, user_id=2, risk=RiskLevel.HIGH)


def test_an_account_that_is_deleted_leaves_nothing_behind_that_is_its_own(rootstream):
    with rootstream.transaction() as work:
        user = make_user(work)
    rootstream.security.record(
        Report(kind=KIND.MFA_FAILED, user_id=user.id, ip_address="192.0.2.7", details={"a": 1})
    )
    with rootstream.transaction() as work:
        rootstream.accounts.delete(work, user)
    (event,) = rootstream.security.list_events()
    assert (KIND.MFA_FAILED, None, None, None, {}) == (
        event.kind,
        event.user_id,
        event.ip_address,
        event.network,
        event.details,
    )


def test_a_table_that_is_locked_holds_nobody_up(rootstream, caplog):
    with rootstream.transaction() as work:
        work.session.execute(text("LOCK TABLE security_events IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        with caplog.at_level(logging.ERROR):
            rootstream.security.record(Report(kind=KIND.MFA_FAILED))
        assert 5 > time.monotonic() - started
    assert 1 == rootstream.security.lost
    assert "mfa_failed was not recorded" in caplog.text
    assert [] == kinds(rootstream)


def test_what_cannot_be_stored_is_lost_and_nothing_else(rootstream, caplog):
    with caplog.at_level(logging.ERROR):
        rootstream.security.record(Report(kind=KIND.MFA_FAILED, ip_address="nowhere"))
        rootstream.security.record(Report(kind=KIND.MFA_FAILED, details={"x": object()}))
    assert 2 == rootstream.security.lost
    assert [] == kinds(rootstream)


def test_changes_that_the_log_tells_of_are_security_events_once_they_are_committed(rootstream):
    with rootstream.transaction() as work:
        user = rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password="three words and more"
        )
        user_id = user.id
        rootstream.streams.create(work, owner=user, name="Speedrun")
        rootstream.accounts.change_password(
            work, user, current="three words and more", new="four words and even more"
        )
        with pytest.raises(KeyError), work.savepoint():
            rootstream.accounts.deactivate(work, user)
            raise KeyError
        assert [] == kinds(rootstream)
    events = rootstream.security.list_events()
    assert {KIND.KEY_ISSUED, KIND.PASSWORD_CHANGED} == {event.kind for event in events}
    assert {user_id} == {event.user_id for event in events}
    assert {"StreamKeyIssued", "PasswordChanged"} == {event.details["event"] for event in events}


def test_a_replaced_token_that_turns_up_again_is_a_security_event(rootstream, clock):
    with rootstream.transaction() as work:
        user = make_user(work)
        first = rootstream.sessions.create(work, user)
    rootstream.sessions.rotate(first.token)
    clock.advance(rootstream.settings.sessions.rotation_grace + timedelta(seconds=1))
    with pytest.raises(AuthenticationError):
        rootstream.sessions.validate(first.token)
    (event,) = rootstream.security.list_events(risk=RiskLevel.HIGH)
    assert (KIND.TOKEN_REUSED, user.id) == (event.kind, event.user_id)


def test_a_wrong_second_factor_is_a_security_event(rootstream):
    with rootstream.transaction() as work:
        user = make_user(work)
        enrollment = rootstream.mfa.enroll(work, user)
    with pytest.raises(AuthenticationError), rootstream.transaction() as work:
        rootstream.mfa.confirm(work, enrollment.id, "000000")
    (event,) = rootstream.security.list_events()
    assert (KIND.MFA_FAILED, user.id, "enrollment") == (
        event.kind,
        event.user_id,
        event.details["method"],
    )
