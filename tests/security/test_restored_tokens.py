"""A link that was used before a restore opens nothing after it."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import InvalidCodeError
from rootstream_db.models import TokenPurpose

PASSWORD, NEW, STRANGERS = (f"correct horse battery {word}" for word in ("staple", "nail", "glue"))


def test_a_reset_link_that_was_used_before_a_restore_stays_used(rootstream, clock):
    rs = rootstream
    with rs.transaction() as work:
        alice = rs.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )
        token = rs.accounts.issue_token(work, alice, TokenPurpose.RESET_PASSWORD)
    with rs.transaction() as work:
        rs.accounts.reset_password(work, token, NEW)
    with rs.transaction() as work:
        # What an older database knew.
        work.session.execute(text("UPDATE user_tokens SET used_at = NULL"))
    clock.advance(60)
    rs.sessions.invalidate_all("restored from a backup")
    with rs.transaction() as work, pytest.raises(InvalidCodeError):
        rs.accounts.reset_password(work, token, STRANGERS)

    clock.advance(60)
    with rs.transaction() as work:
        token = rs.accounts.issue_token(work, alice, TokenPurpose.RESET_PASSWORD)
        rs.accounts.reset_password(work, token, NEW + NEW)
