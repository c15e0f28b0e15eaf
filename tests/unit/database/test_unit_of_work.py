"""A unit of work offers every repository, built once, on its own session."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session

from rootstream_db.repositories.billing import BillingAccountRepository, UsageLogRepository
from rootstream_db.repositories.counter_flushes import CounterFlushRepository
from rootstream_db.repositories.events import EventRepository
from rootstream_db.repositories.recordings import RecordingRepository
from rootstream_db.repositories.sessions import SessionRepository
from rootstream_db.repositories.stream_sessions import StreamSessionRepository
from rootstream_db.repositories.streams import (
    StreamKeyRepository,
    StreamLiveRepository,
    StreamRepository,
    StreamTotalsRepository,
)
from rootstream_db.repositories.users import (
    LoginThrottleRepository,
    UserRepository,
    UserTokenRepository,
)
from rootstream_db.repositories.viewer_sessions import ViewerSessionRepository
from rootstream_db.testing import EPOCH, FrozenClock
from rootstream_db.unit_of_work import UnitOfWork

REPOSITORIES: dict[str, type[Any]] = {
    "users": UserRepository,
    "user_tokens": UserTokenRepository,
    "login_throttle": LoginThrottleRepository,
    "sessions": SessionRepository,
    "streams": StreamRepository,
    "stream_keys": StreamKeyRepository,
    "stream_live": StreamLiveRepository,
    "stream_totals": StreamTotalsRepository,
    "stream_sessions": StreamSessionRepository,
    "viewer_sessions": ViewerSessionRepository,
    "recordings": RecordingRepository,
    "billing_accounts": BillingAccountRepository,
    "usage_logs": UsageLogRepository,
    "events": EventRepository,
    "counter_flushes": CounterFlushRepository,
}


@pytest.fixture
def work() -> UnitOfWork:
    return UnitOfWork(Session(), clock=FrozenClock())


@pytest.mark.parametrize("name", REPOSITORIES)
def test_every_repository_is_an_attribute_on_the_units_session(work: UnitOfWork, name: str):
    repository = getattr(work, name)
    assert REPOSITORIES[name] is type(repository)
    assert work.session is repository.session
    assert repository is getattr(work, name)


def test_now_is_the_clocks_moment_at_the_start():
    clock = FrozenClock()
    work = UnitOfWork(Session(), clock=clock)
    clock.advance(5)
    assert EPOCH == work.now
