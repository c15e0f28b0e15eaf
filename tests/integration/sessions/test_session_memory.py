"""Sessions in a process's own memory: only while it is told of what ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.errors import SessionRevokedError
from tests.fixtures.sessions import wait_for

FIVE_SECONDS = timedelta(seconds=5)


@pytest.fixture
def remembering(another):
    """A process that keeps sessions for five seconds."""
    return another(memory_ttl=FIVE_SECONDS)


def refuses(site, issued):
    try:
        site.sessions.validate(issued.token)
    except SessionRevokedError:
        return True
    return False


def cut_out(rootstream, issued):
    """End a session so that nobody is told."""
    with rootstream.transaction() as work:
        work.sessions.revoke(issued.session.id, now=work.now, reason="admin")
    rootstream.cache.client.flushdb()


def test_what_is_remembered_is_not_asked_for(rootstream, remembering, log_in, clock):
    issued = log_in()
    assert remembering.sessions.validate(issued.token)
    cut_out(rootstream, issued)
    clock.advance(4.9)
    assert remembering.sessions.validate(issued.token)
    clock.advance(0.1)
    assert refuses(remembering, issued)


def test_an_ending_elsewhere_is_heard(rootstream, remembering, log_in):
    issued, other = log_in(), log_in()
    assert remembering.sessions.validate(issued.token)
    assert remembering.sessions.validate(other.token)
    result = rootstream.sessions.revoke(issued.token)
    assert result.immediate
    wait_for(lambda: refuses(remembering, issued))
    assert remembering.sessions.validate(other.token)


def test_the_end_of_everybody_is_heard(rootstream, remembering, log_in):
    issued = log_in()
    assert remembering.sessions.validate(issued.token)
    rootstream.sessions.invalidate_all("a restore")
    wait_for(lambda: refuses(remembering, issued))


def test_a_result_says_how_long_memory_may_last(remembering, log_in, clock):
    result = remembering.sessions.revoke(log_in().token)
    assert (True, clock() + FIVE_SECONDS) == (result.immediate, result.effective_by)


def test_nothing_is_remembered_while_nobody_would_tell(rootstream, remembering, log_in):
    issued = log_in()
    assert remembering.sessions.validate(issued.token)
    client = rootstream.cache.client
    client.client_kill_filter(_type="pubsub")
    cut_out(rootstream, issued)
    # Either it has noticed, or it subscribes again and forgets what it may have missed.
    wait_for(lambda: refuses(remembering, issued))


def test_a_refresh_asks_postgresql_whatever_is_remembered(rootstream, remembering, log_in):
    issued = log_in()
    assert remembering.sessions.validate(issued.token)
    cut_out(rootstream, issued)
    with pytest.raises(SessionRevokedError):
        remembering.sessions.refresh(issued.token)
