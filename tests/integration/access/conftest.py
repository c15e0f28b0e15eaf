from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rootstream_db.rootstream import RootStream
from rootstream_db.testing import FrozenClock, settings_for
from tests.factories import make_stream, make_user


@pytest.fixture
def other(clean_database_url: str, redis_url: str, clock: FrozenClock) -> Iterator[RootStream]:
    """Another process's data layer: the same servers, nothing shared in memory."""
    with RootStream(settings_for(clean_database_url, redis_url), clock=clock) as other:
        yield other


@pytest.fixture
def access(rootstream):
    return rootstream.access


@pytest.fixture
def user(rootstream):
    with rootstream.transaction() as work:
        return make_user(work)


@pytest.fixture
def stream(rootstream):
    """A stream of somebody else's."""
    with rootstream.transaction() as work:
        return make_stream(work)


@pytest.fixture
def grant(rootstream) -> Callable:
    """Grant a role in a transaction of its own."""

    def make(user, role, **options):
        with rootstream.transaction() as work:
            return rootstream.access.grant(work, user, role, **options)

    return make


@pytest.fixture
def revoke(rootstream) -> Callable:
    """Take a role away in a transaction of its own."""

    def take(user, role, **options):
        with rootstream.transaction() as work:
            return rootstream.access.revoke_grant(work, user, role, **options)

    return take


@pytest.fixture
def events_of(rootstream) -> Callable:
    """Return the events of an aggregate as pairs of type and data."""

    def read(kind, number):
        found = rootstream.events.read(kind, str(number))
        return [(event.event_type, event.data) for event in found]

    return read
