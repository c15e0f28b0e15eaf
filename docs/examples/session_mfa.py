"""Log in with a password and a second factor, and get at what needs both.

Runs by itself: `python session_mfa.py` starts PostgreSQL and Redis in ./data. With
ROOTSTREAM_DATABASE_URL and ROOTSTREAM_REDIS_URL set it uses those servers instead.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime

from rootstream_db import RootStream
from rootstream_db.errors import AuthenticationError, MfaRequiredError, PermissionDeniedError
from rootstream_db.models import User
from rootstream_db.security.assurance import AssuranceLevel
from rootstream_db.security.tokens import SecretText
from rootstream_db.security.totp import Totp, decode_secret

PASSWORD = secrets.token_urlsafe(18)


class Phone:
    """An authenticator app. Yours is a real one; it reads the QR code with its camera."""

    def __init__(self, secret: str) -> None:
        self._totp = Totp(decode_secret(secret))
        self._shown = -1

    def code(self) -> str:
        """Return the code of now, or the next one: each is good once."""
        self._shown = max(self._totp.step(datetime.now(UTC)), self._shown + 1)
        return self._totp.code(self._shown)


def streamer(rs: RootStream, name: str) -> tuple[User, int]:
    """Register an account and return it with the id of its stream."""
    with rs.transaction() as work:
        user = rs.accounts.register(
            work, username=name, email=f"{name}@example.com", password=PASSWORD
        )
        stream, _ = rs.streams.create(work, owner=user, name="Speedrun")
    return user, stream.id


def enroll(rs: RootStream, user: User) -> tuple[Phone, list[SecretText]]:
    """Set up an app and backup codes, as a settings page does."""
    with rs.transaction() as work:
        enrollment = rs.mfa.enroll(work, user, label="My phone")
    print("scan this:")
    print(rs.mfa.qr_code(enrollment.uri, format="terminal"))
    phone = Phone(enrollment.secret)
    with rs.transaction() as work:
        rs.mfa.confirm(work, enrollment.id, phone.code())
        backup_codes = rs.mfa.generate_backup_codes(work, user)
    print(f"enrolled; keep these somewhere safe, for example {backup_codes[0]}")
    return phone, list(backup_codes)


def log_in(rs: RootStream, login: str, password: str) -> SecretText:
    """Check the password; the session it opens may do little yet."""
    with rs.transaction() as work:
        user = rs.accounts.authenticate(work, login, password, ip_address="192.0.2.7")
        return rs.sessions.create(work, user, user_agent="example").token


def second_factor(rs: RootStream, token: str, code: str) -> SecretText:
    """Check the code; the session gets a new token, and the code is spent with it."""
    user_id = rs.sessions.validate(token).user_id
    with rs.transaction() as work:
        user = work.users.get_one(user_id)
        proof = rs.mfa.verify_totp(work, user, code)
        return rs.sessions.step_up(work, token, proof).token


def without_phone(rs: RootStream, login: str, backup_code: str) -> tuple[SecretText, int]:
    """Log in with a backup code; return the session's token and how many codes are left."""
    with rs.transaction() as work:
        user = rs.accounts.authenticate(work, login, PASSWORD)
        proof = rs.mfa.consume_backup_code(work, user, backup_code)
        issued = rs.sessions.create(work, user, proof=proof)
        return issued.token, rs.mfa.status(work, user).backup_codes_left


def stream_key_page(rs: RootStream, token: str, stream_id: int) -> str:
    """Show what takes a session, a second factor and the permission to see it."""
    session = rs.sessions.validate(token).require(AssuranceLevel.MFA)
    rs.access.require(session, "stream.key.read", stream_id=stream_id)
    return f"keys of stream {stream_id}"


def become_co_host(rs: RootStream, user: User, token: str, stream_id: int) -> None:
    """Be refused at somebody else's stream, until a role is granted there."""
    try:
        stream_key_page(rs, token, stream_id)
    except PermissionDeniedError as error:
        print(f"somebody else's stream: {error}")
    with rs.transaction() as work:
        rs.access.grant(work, user, "owner", stream=work.streams.get_one(stream_id))
    print(f"a co-host is let in: {stream_key_page(rs, token, stream_id)}")


def main() -> None:
    """Tell the story."""
    own_servers = "ROOTSTREAM_DATABASE_URL" in os.environ
    with RootStream.from_env() if own_servers else RootStream.embedded("./data") as rs:
        rs.upgrade_schema()
        name = f"alice{secrets.token_hex(4)}"
        user, own = streamer(rs, name)
        _, bobs = streamer(rs, f"bob_of_{name}")
        phone, backup_codes = enroll(rs, user)

        token = log_in(rs, name, PASSWORD)
        try:
            stream_key_page(rs, token, own)
        except MfaRequiredError:
            print("the password alone is not enough")

        code = phone.code()
        token = second_factor(rs, token, code)
        print(f"let in: {stream_key_page(rs, token, own)}")

        become_co_host(rs, user, token, bobs)

        try:
            second_factor(rs, log_in(rs, name, PASSWORD), code)
        except AuthenticationError as error:
            print(f"a code that was seen over a shoulder: {error}")

        token, left = without_phone(rs, name, backup_codes[0])
        print(f"let in: {stream_key_page(rs, token, own)}, {left} codes left")


if __name__ == "__main__":
    main()
