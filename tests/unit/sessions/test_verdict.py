"""Whether a session holds, for every way in which it may not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.repositories.session_rows import FoundSession
from rootstream_db.services.sessions.verdict import Verdict, verdict_on
from rootstream_db.testing import EPOCH

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
GRACE = 10 * SECOND
HOLDING = FoundSession(
    id=1,
    user_id=1,
    level=1,
    mfa_method=None,
    authenticated_at=EPOCH,
    mfa_at=None,
    created_at=EPOCH,
    last_seen_at=EPOCH,
    idle_expires_at=EPOCH + HOUR,
    expires_at=EPOCH + 2 * HOUR,
    revoked_at=None,
    revoke_reason=None,
    family=1,
    device_fingerprint=None,
    is_account_unchanged=True,
    generation=1,
    current_generation=1,
)
REPLACED = {"revoked_at": EPOCH, "revoke_reason": "rotated"}


@pytest.mark.parametrize(
    ("changes", "after", "verdict"),
    [
        ({}, SECOND, Verdict.HOLDS),
        ({}, HOUR - SECOND, Verdict.HOLDS),
        ({}, HOUR, Verdict.EXPIRED),
        ({"idle_expires_at": EPOCH + 2 * HOUR}, 2 * HOUR, Verdict.EXPIRED),
        ({"level": 0}, SECOND, Verdict.SUSPENDED),
        ({"level": 0}, HOUR, Verdict.EXPIRED),
        ({"revoked_at": EPOCH, "revoke_reason": "logout"}, SECOND, Verdict.OVER),
        ({"is_account_unchanged": False}, SECOND, Verdict.OVER),
        ({"current_generation": 2}, SECOND, Verdict.OVER),
        # Not even a generation that a restore took back.
        ({"generation": 2}, SECOND, Verdict.OVER),
        (REPLACED, GRACE, Verdict.REPLACED),
        (REPLACED, GRACE + SECOND, Verdict.STOLEN),
        (REPLACED | {"is_account_unchanged": False}, HOUR, Verdict.STOLEN),
    ],
)
def test_a_session_is_judged_by_what_is_known_of_it(changes, after, verdict):
    found = HOLDING._replace(**changes)
    assert verdict is verdict_on(found, now=EPOCH + after, grace=GRACE)


def test_what_is_not_there_is_unknown():
    assert Verdict.UNKNOWN is verdict_on(None, now=EPOCH, grace=GRACE)
