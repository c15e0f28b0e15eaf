"""The throttle in SQL against the same rules in ten lines of Python, over random histories."""

from __future__ import annotations

import uuid
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_db.errors import TooManyAttemptsError
from rootstream_db.security.login_digests import LoginDigests
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.services.accounts.lockout import LoginLockout, lock_duration
from rootstream_db.settings import AccountSettings

DIGESTS = LoginDigests(TokenMint({1: bytes(32)}))
SETTINGS = AccountSettings(
    lockout_failures=3,
    lockout_window=timedelta(seconds=60),
    lockout_base=timedelta(seconds=10),
    lockout_max=timedelta(seconds=50),
)

steps = st.lists(
    st.one_of(
        st.just("guess"),
        st.just("clear"),
        st.sampled_from([1, 9, 10, 11, 49, 50, 59, 60, 61, 110]),
    ),
    max_size=25,
)


class Model:
    """What the throttle should do, written down a second time."""

    def __init__(self, now):
        self.clear()
        self.now = now

    def clear(self):
        self.failures, self.began, self.locked_until = 0, None, None

    def guess(self):
        if self.locked_until is not None and self.now < self.locked_until:
            return (self.locked_until - self.now).total_seconds()
        quiet_since = self.locked_until or self.began
        if quiet_since is None or self.now - quiet_since >= SETTINGS.lockout_window:
            self.failures, self.began, self.locked_until = 0, self.now, None
        self.failures += 1
        lock = lock_duration(self.failures, SETTINGS)
        if lock is not None:
            self.locked_until = self.now + lock
        return None


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_the_throttle_does_what_its_rules_say(database, clock, history):
    lockout, login = LoginLockout(database, DIGESTS, SETTINGS), uuid.uuid4().hex
    model = Model(clock())
    for step in history:
        if step == "clear":
            lockout.clear(login)
            model.clear()
        elif step == "guess":
            try:
                lockout.reserve(login)
                waits = None
            except TooManyAttemptsError as error:
                waits = error.retry_after
            assert model.guess() == waits
        else:
            model.now = clock.advance(step)
