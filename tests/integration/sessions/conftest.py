"""Session managers on real servers, with a clock that obeys."""

from __future__ import annotations

import pytest

from rootstream_db.rootstream import RootStream
from tests.factories import make_user


@pytest.fixture
def sessions(rootstream):
    return rootstream.sessions


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return make_user(work, username="alice")


@pytest.fixture
def log_in(rootstream, alice):
    """Open a session of alice in a transaction of its own."""

    def log_in(user=None, **client):
        with rootstream.transaction() as work:
            return rootstream.sessions.create(work, user or alice, **client)

    return log_in


@pytest.fixture
def told(rootstream):
    """Return the names and data of what the event log says of an account."""

    def told(user):
        return [
            (event.event_type, event.data) for event in rootstream.events.read("User", str(user.id))
        ]

    return told


@pytest.fixture
def another(rootstream, clock):
    """Make another process's data layer: the same servers, nothing else shared."""
    made = []

    def another(**changes):
        settings = rootstream.settings
        if changes:
            changed = settings.sessions.model_copy(update=changes)
            settings = settings.model_copy(update={"sessions": changed})
        made.append(RootStream(settings, clock=clock))
        return made[-1]

    yield another
    for one in made:
        one.close()
