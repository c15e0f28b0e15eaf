"""No token of a session is found anywhere but in the hands of its client."""

from __future__ import annotations

import logging
import traceback

import psycopg
import pytest

from rootstream_db.errors import AuthenticationError
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof
from tests.factories import make_user

TABLES = ("sessions", "session_invalidations", "event_log", "users", "auth_state")


@pytest.fixture
def used(rootstream, clock, caplog):
    """Tokens of sessions that were opened, used, replaced, stolen and ended, with all logs on."""
    caplog.set_level(logging.DEBUG)
    sessions = rootstream.sessions
    with rootstream.transaction() as work:
        user = make_user(work)
        first = sessions.create(work, user, ip_address="192.0.2.1", device_fingerprint="a browser")
    second = sessions.rotate(first.token)
    proof = MfaProof(user.id, MfaMethod.TOTP, AssuranceLevel.MFA, clock())
    with rootstream.transaction() as work:
        third = sessions.step_up(work, second.token, proof)
        other = sessions.create(work, user)
    sessions.validate(third.token, device_fingerprint="a browser")
    clock.advance(3600)
    errors = []
    for call in (
        lambda: sessions.validate(first.token),
        lambda: sessions.validate(other.token[:-1] + "?"),
        lambda: sessions.validate(third.token, device_fingerprint="another one"),
    ):
        with pytest.raises(AuthenticationError) as refusal:
            call()
        errors.append(refusal.value)
    sessions.revoke(other.token)
    return [str(one.token) for one in (first, second, third, other)], errors, first


def test_neither_rows_nor_events_hold_a_token(used, clean_database_url):
    tokens, _, _ = used
    with psycopg.connect(clean_database_url) as connection:
        rows = "".join(
            str(row) for table in TABLES for row in connection.execute(f"SELECT * FROM {table}")
        )
    assert "SessionCreated" in rows
    assert [] == [token for token in tokens if token in rows or token[5:20] in rows]


def test_neither_keys_nor_values_in_redis_hold_a_token(used, rootstream):
    tokens, _, _ = used
    client = rootstream.cache.client
    held = b"".join(key + client.get(key) for key in client.keys("*session*"))
    assert held
    assert [] == [token for token in tokens if token[5:20].encode() in held]


def test_neither_logs_nor_errors_hold_a_token(used, caplog):
    tokens, errors, issued = used
    told = caplog.text + repr(issued) + repr(errors)
    told += "".join("".join(traceback.format_exception(error)) for error in errors)
    told += "".join(str(error.as_dict()) for error in errors)
    assert [] == [token for token in tokens if token in told or token[5:20] in told]
