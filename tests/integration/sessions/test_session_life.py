"""One session from login to end, as its user, its application and its operator meet it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from rootstream_db.errors import (
    InvalidCredentialsError,
    InvalidTokenError,
    MfaRequiredError,
    PermissionDeniedError,
    ReauthenticationRequiredError,
    SessionExpiredError,
    SessionRevokedError,
    ValidationError,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof
from rootstream_db.security.tokens import TokenKind
from tests.factories import MINT, make_user

DAY, HOUR, MINUTE, SECOND = (
    timedelta(**{unit: 1}) for unit in ("days", "hours", "minutes", "seconds")
)


def proof_of(user, clock, level=AssuranceLevel.MFA, method=MfaMethod.TOTP):
    return MfaProof(user_id=user.id, method=method, level=level, verified_at=clock())


# create and validate


def test_the_token_of_a_login_opens_its_session(sessions, log_in, alice, clock):
    issued = log_in(ip_address="192.0.2.1", user_agent="Player\n1", device_label=" Phone ")
    info = sessions.validate(issued.token)
    assert (issued.session.id, alice.id, AssuranceLevel.PASSWORD) == (
        *(info.session_id, info.user_id, info.level),
    )
    assert (clock(), None, None, clock()) == (
        *(info.authenticated_at, info.mfa_at, info.mfa_method, info.last_seen_at),
    )
    assert (clock() + DAY, clock() + 30 * DAY) == (info.idle_expires_at, info.expires_at)
    assert ("192.0.2.1", "Player\ufffd1", "Phone") == (
        *(issued.session.ip_address, issued.session.user_agent, issued.session.device_label),
    )
    assert f"SessionInfo(session_id={info.session_id}, user_id={alice.id}, level=PASSWORD)" == (
        repr(info)
    )


def test_what_create_returns_is_the_row_that_is_stored(rootstream, log_in):
    issued = log_in(device_fingerprint="a browser", location="Lisbon")
    with rootstream.transaction() as work:
        stored = work.sessions.get(issued.session.id)
        columns = stored.__mapper__.column_attrs.keys()
        assert {one: getattr(stored, one) for one in columns} == {
            one: getattr(issued.session, one) for one in columns
        }


def test_a_session_holds_with_and_without_the_cache(rootstream, sessions, log_in):
    issued = log_in()
    cached = sessions.validate(issued.token)
    rootstream.cache.client.flushdb()
    assert cached.session_id == sessions.validate(issued.token).session_id
    assert 1 == rootstream.cache.client.dbsize()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "shape"),
        ("rss1_", "shape"),
        (None, "shape"),
        (MINT.issue(TokenKind.STREAM_KEY).text, "kind"),
        (MINT.issue(TokenKind.SESSION).text, "unknown"),
    ],
    ids=["empty", "short", "none", "a stream key", "never issued"],
)
def test_what_no_session_has_is_refused(sessions, token, reason):
    for _ in range(2):
        with pytest.raises(InvalidTokenError) as refusal:
            sessions.validate(token)
        assert reason == refusal.value.reason


def test_an_unknown_token_is_looked_up_once_in_a_while(rootstream, sessions):
    token = MINT.issue(TokenKind.SESSION)
    with pytest.raises(InvalidTokenError):
        sessions.validate(token.text)
    (key,) = rootstream.cache.client.keys("rs:session:*")
    assert b"N" == rootstream.cache.client.get(key)
    assert 0 < rootstream.cache.client.pttl(key) <= 5000


def test_a_login_that_is_rolled_back_leaves_no_session(rootstream, sessions, alice):
    with pytest.raises(RuntimeError), rootstream.transaction() as work:
        issued = sessions.create(work, alice)
        raise RuntimeError
    with pytest.raises(InvalidTokenError):
        sessions.validate(issued.token)


def test_no_session_is_opened_for_an_account_that_changed_since_it_was_loaded(
    rootstream, sessions, alice
):
    with rootstream.transaction() as work:
        sessions.revoke_all_for_user(work, alice.id)
    with rootstream.transaction() as work:
        with pytest.raises(InvalidCredentialsError):
            sessions.create(work, alice)
        issued = sessions.create(work, work.users.get_one(alice.id))
    assert sessions.validate(issued.token)


@pytest.mark.parametrize(
    "client",
    [
        {"ip_address": "300.1.1.1"},
        {"device_label": "x" * 121},
        {"device_label": "two\nlines"},
        {"location": "x" * 201},
        {"device_fingerprint": "x" * 1025},
    ],
)
def test_what_cannot_be_stored_of_a_client_is_named(log_in, client):
    with pytest.raises(ValidationError) as refusal:
        log_in(**client)
    assert refusal.value.field in client


def test_more_sessions_than_allowed_push_out_those_not_seen_for_longest(
    another, rootstream, alice, clock, told
):
    sessions = another(max_per_user=2).sessions
    issued = []
    for _ in range(3):
        clock.advance(1)
        with rootstream.transaction() as work:
            issued.append(sessions.create(work, alice))
    with pytest.raises(SessionRevokedError):
        rootstream.sessions.validate(issued[0].token)
    assert [issued[2].session.id, issued[1].session.id] == [
        rootstream.sessions.validate(one.token).session_id for one in (issued[2], issued[1])
    ]
    assert [issued[0].session.id] == told(alice)[-1][1]["ended"]


# time


@pytest.mark.parametrize("flush", [True, False], ids=["by PostgreSQL", "by the cache"])
def test_an_idle_session_ends_to_the_second(rootstream, sessions, log_in, clock, flush):
    issued = log_in()
    clock.advance(DAY - SECOND)
    if flush:
        rootstream.cache.client.flushdb()
    assert clock() + DAY == sessions.validate(issued.token).idle_expires_at
    clock.advance(DAY)
    if flush:
        rootstream.cache.client.flushdb()
    with pytest.raises(SessionExpiredError):
        sessions.validate(issued.token)


def test_no_use_keeps_a_session_beyond_its_absolute_end(sessions, log_in, clock):
    issued = log_in()
    end = sessions.validate(issued.token).expires_at
    while clock() + 20 * HOUR < end:
        clock.advance(20 * HOUR)
        sessions.validate(issued.token)
    clock.now = end - SECOND
    assert end == sessions.validate(issued.token).idle_expires_at
    clock.now = end
    with pytest.raises(SessionExpiredError):
        sessions.validate(issued.token)


def test_uses_are_written_down_once_a_minute(rootstream, sessions, log_in, clock):
    issued = log_in()

    def seen():
        with rootstream.transaction() as work:
            row = work.sessions.get(issued.session.id)
            return row.last_seen_at, row.last_ip_address

    began = clock()
    clock.advance(59)
    sessions.validate(issued.token, ip_address="192.0.2.9")
    sessions.refresh(issued.token)
    assert (began, None) == seen()
    clock.advance(1)
    sessions.validate(issued.token, ip_address="192.0.2.9")
    assert (began + MINUTE, "192.0.2.9") == seen()
    clock.advance(60)
    assert clock() + DAY == sessions.refresh(issued.token).idle_expires_at
    assert (began + 2 * MINUTE, "192.0.2.9") == seen()


def test_an_odd_address_is_no_reason_to_refuse_a_request(rootstream, sessions, log_in, clock):
    issued = log_in(ip_address="192.0.2.1")
    clock.advance(60)
    assert clock() == sessions.validate(issued.token, ip_address="unknown").last_seen_at
    with rootstream.transaction() as work:
        assert "192.0.2.1" == work.sessions.get_one(issued.session.id).last_ip_address


def test_a_clock_that_goes_backwards_neither_ends_nor_prolongs_a_session(sessions, log_in, clock):
    clock.advance(HOUR)
    issued = log_in()
    until = sessions.validate(issued.token).idle_expires_at
    clock.advance(-HOUR)
    assert until == sessions.validate(issued.token).idle_expires_at


def test_a_clock_without_a_time_zone_is_refused(sessions, log_in, clock):
    issued = log_in()
    clock.now = datetime(2026, 3, 29, 2, 30)  # noqa: DTZ001 - an hour that many clocks skip
    with pytest.raises(ValidationError):
        sessions.validate(issued.token)


# assurance


def test_a_second_factor_at_login_counts_for_a_day(sessions, log_in, alice, clock):
    issued = log_in(proof=proof_of(alice, clock))
    info = sessions.validate(issued.token)
    assert (AssuranceLevel.MFA, MfaMethod.TOTP, clock()) == (
        *(info.level, info.mfa_method, info.mfa_at),
    )
    assert info is info.require(AssuranceLevel.MFA)
    with pytest.raises(MfaRequiredError):
        info.require(AssuranceLevel.PHISHING_RESISTANT)
    clock.advance(DAY - SECOND)
    assert AssuranceLevel.MFA is sessions.validate(issued.token).level
    clock.advance(SECOND)
    assert AssuranceLevel.PASSWORD is sessions.validate(issued.token).level


def test_a_recent_proof_can_be_required(rootstream, sessions, log_in, alice, clock):
    plain, strong = log_in(), log_in(proof=proof_of(alice, clock))
    clock.advance(10 * MINUTE)
    for issued in (plain, strong):
        assert sessions.validate(issued.token).require_recent(10)
    clock.advance(SECOND)
    with pytest.raises(ReauthenticationRequiredError):
        sessions.validate(plain.token).require_recent(10)
    with pytest.raises(MfaRequiredError):
        sessions.validate(strong.token).require_recent(10)


def test_a_step_up_raises_the_session_under_a_new_token(
    rootstream, sessions, log_in, alice, clock, told
):
    first = log_in(ip_address="192.0.2.1", device_label="Phone")
    sessions.validate(first.token)
    clock.advance(MINUTE)
    with rootstream.transaction() as work:
        second = sessions.step_up(work, first.token, proof_of(alice, clock))
    info = sessions.validate(second.token)
    assert (AssuranceLevel.MFA, clock(), clock() - MINUTE) == (
        *(info.level, info.mfa_at, info.authenticated_at),
    )
    assert ("Phone", first.session.id) == (second.session.device_label, second.session.family)
    with pytest.raises(SessionRevokedError):
        sessions.validate(first.token)
    assert ["SessionCreated", "SessionSteppedUp"] == [event for event, _ in told(alice)]


def test_proofs_of_others_and_old_ones_prove_nothing(rootstream, sessions, log_in, alice, clock):
    with rootstream.transaction() as work:
        mallory = make_user(work)
    issued = log_in()
    old = proof_of(alice, clock)
    clock.advance(10 * MINUTE + SECOND)
    early = MfaProof(alice.id, MfaMethod.TOTP, AssuranceLevel.MFA, clock() + SECOND)
    for proof, error in (
        (proof_of(mallory, clock), PermissionDeniedError),
        (old, MfaRequiredError),
        (early, MfaRequiredError),
    ):
        with pytest.raises(error), rootstream.transaction() as work:
            sessions.step_up(work, issued.token, proof)
        with pytest.raises(error), rootstream.transaction() as work:
            sessions.create(work, alice, proof=proof)
    assert AssuranceLevel.PASSWORD is sessions.validate(issued.token).level


def test_logging_in_again_gives_a_session_a_new_life(rootstream, sessions, log_in, alice, clock):
    first = log_in(proof=proof_of(alice, clock))
    clock.advance(HOUR)
    with rootstream.transaction() as work:
        second = sessions.reauthenticate(work, first.token, alice)
    info = sessions.validate(second.token)
    assert (clock(), clock() + 30 * DAY, AssuranceLevel.MFA) == (
        *(info.authenticated_at, info.expires_at, info.level),
    )
    with rootstream.transaction() as work:
        mallory = make_user(work)
        with pytest.raises(PermissionDeniedError):
            sessions.reauthenticate(work, second.token, mallory)
