"""A session that is used from another device, under each policy."""

from __future__ import annotations

import logging

import pytest

from rootstream_db.errors import (
    DeviceMismatchError,
    ReauthenticationRequiredError,
    SessionRevokedError,
    ValidationError,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.services.sessions import SessionManager

MINE, OTHER = "Firefox on Linux, pt", "curl"


@pytest.fixture
def policy(another, rootstream, alice):
    """Make a site with a policy, and open a session of alice's device there."""

    def policy(name):
        site = another(device_policy=name)
        with site.transaction() as work:
            issued = site.sessions.create(work, alice, device_fingerprint=MINE)
        return site, issued

    return policy


def test_a_session_is_not_held_to_a_device_that_nobody_names(policy, log_in, rootstream):
    site, issued = policy("revoke")
    assert site.sessions.validate(issued.token)
    assert site.sessions.validate(issued.token, device_fingerprint=MINE)
    unbound = log_in()
    assert site.sessions.validate(unbound.token, device_fingerprint=OTHER)


def test_the_fingerprint_itself_is_not_stored(rootstream, log_in):
    issued = log_in(device_fingerprint=MINE)
    assert 16 == len(issued.session.device_fingerprint)
    with pytest.raises(ValidationError):
        rootstream.sessions.validate(issued.token, device_fingerprint="x" * 1025)


def test_logging_lets_another_device_pass_and_records_it_now_and_then(
    policy, alice, told, clock, caplog
):
    site, issued = policy("log")
    for _ in range(3):
        clock.advance(30)
        with caplog.at_level(logging.WARNING):
            info = site.sessions.validate(
                issued.token, device_fingerprint=OTHER, ip_address="192.0.2.1"
            )
        assert issued.session.id == info.session_id
    assert "used from another device" in caplog.text
    assert ["SessionCreated", "SessionUsedFromAnotherDevice"] == [event for event, _ in told(alice)]


def test_revoking_ends_the_session_for_everybody(policy, alice, told):
    site, issued = policy("revoke")
    with pytest.raises(DeviceMismatchError):
        site.sessions.validate(issued.token, device_fingerprint=OTHER)
    with pytest.raises(SessionRevokedError):
        site.sessions.validate(issued.token, device_fingerprint=MINE)
    assert ("SessionsRevoked", {"session_ids": [issued.session.id], "reason": "device"}) == (
        told(alice)[-1]
    )


def test_stepping_up_suspends_the_session_until_its_user_logs_in_again(
    policy, another, alice, clock, told
):
    site, issued = policy("step_up")
    elsewhere = another()
    proof = MfaProof(alice.id, MfaMethod.TOTP, AssuranceLevel.MFA, clock())
    with site.transaction() as work:
        issued = site.sessions.step_up(work, issued.token, proof)
    assert elsewhere.sessions.validate(issued.token)
    for _ in range(2):
        with pytest.raises((DeviceMismatchError, ReauthenticationRequiredError)):
            site.sessions.validate(issued.token, device_fingerprint=OTHER)
    for one in (site, elsewhere):
        for use in (one.sessions.validate, one.sessions.refresh, one.sessions.rotate):
            with pytest.raises(ReauthenticationRequiredError):
                use(issued.token)
        with pytest.raises(ReauthenticationRequiredError), one.transaction() as work:
            one.sessions.step_up(work, issued.token, proof)
    with site.transaction() as work:
        again = site.sessions.reauthenticate(work, issued.token, alice, device_fingerprint=OTHER)
    info = elsewhere.sessions.validate(again.token, device_fingerprint=OTHER)
    assert (AssuranceLevel.PASSWORD, None) == (info.level, info.mfa_at)
    with pytest.raises(DeviceMismatchError):
        elsewhere.sessions.validate(again.token, device_fingerprint=MINE)
    assert 2 == [event for event, _ in told(alice)].count("SessionUsedFromAnotherDevice")


def test_a_device_is_known_after_a_rotation_under_a_new_pepper(rootstream, alice, clock):
    old, new = b"o" * 32, b"n" * 32

    def manager(peppers):
        return SessionManager(
            rootstream.database,
            rootstream.events,
            TokenMint(peppers),
            bus=rootstream.bus,
            redis=rootstream.settings.redis,
            ttls=rootstream.settings.cache,
            settings=rootstream.settings.sessions,
            clock=clock,
        )

    before, after = manager({1: old}), manager({1: old, 2: new})
    with rootstream.transaction() as work:
        first = before.create(work, alice, device_fingerprint=MINE)
    assert after.validate(first.token, device_fingerprint=MINE)
    second = after.rotate(first.token)
    assert second.token.startswith("rss2_")
    assert after.validate(second.token, device_fingerprint=MINE)
    with pytest.raises(DeviceMismatchError):
        after.validate(second.token, device_fingerprint=OTHER)
    for one in (before, after):
        one.close()
