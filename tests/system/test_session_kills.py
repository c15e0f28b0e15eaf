"""Processes that are killed while they open, replace or end a session: every single step in turn.

After each kill the question is the same: does everybody agree with PostgreSQL, and is nobody locked
out or let in for longer than that?
"""

from __future__ import annotations

import pytest

from rootstream_db.errors import InvalidTokenError, SessionRevokedError
from rootstream_db.rootstream import RootStream
from tests.factories import make_user
from tests.fixtures.doom import fork_doomed, was_killed
from tests.fixtures.sessions import wait_for

MOST_STEPS = 400

pytestmark = [
    pytest.mark.slow,
    # Children only do one thing and die; they never touch what the parent's threads may hold.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return make_user(work)


@pytest.fixture
def elsewhere(rootstream, clock):
    with RootStream(rootstream.settings, clock=clock) as site:
        yield site


@pytest.fixture
def in_a_process(rootstream, clock):
    """Do something with a data layer of its own in a process that is killed at a step."""

    def in_a_process(act, *, at):
        def child():
            with RootStream(rootstream.settings, clock=clock) as site:
                act(site)

        return was_killed(fork_doomed(child, at=at))

    return in_a_process


def log_in(site, user):
    with site.transaction() as work:
        return site.sessions.create(work, user)


def holds(site, token):
    try:
        site.sessions.validate(token)
    except (SessionRevokedError, InvalidTokenError):
        return False
    return True


def row(site, session_id):
    with site.transaction() as work:
        return work.sessions.get_one(session_id)


def settled(site):
    """Wait until the server has noticed that the killed process is gone."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state LIKE 'idle in transaction%'"
    )

    def is_quiet():
        with site.database.direct() as connection:
            return connection.execute(query).fetchone() == (0,)

    return wait_for(is_quiet)


def test_a_revocation_may_die_at_any_step(rootstream, elsewhere, in_a_process, alice):
    ended = []
    for step in range(1, MOST_STEPS):
        issued = log_in(rootstream, alice)
        assert holds(elsewhere, issued.token)
        killed = in_a_process(lambda site, one=issued: site.sessions.revoke(one.token), at=step)
        settled(rootstream)
        is_over = row(rootstream, issued.session.id).revoked_at is not None
        assert is_over is not holds(elsewhere, issued.token), step
        assert is_over is not holds(rootstream, issued.token), step
        # Nobody is locked out, and the next one to try succeeds.
        rootstream.sessions.revoke(issued.token)
        assert not holds(elsewhere, issued.token), step
        ended.append(is_over)
        if not killed:
            break
    assert not ended[0]
    assert ended[-1]
    # Some died before the commit and some after it.
    assert 2 < ended.index(True) < len(ended) - 2


def test_a_rotation_may_die_at_any_step(rootstream, elsewhere, in_a_process, alice):
    replaced = []
    for step in range(1, MOST_STEPS):
        issued = log_in(rootstream, alice)
        assert holds(elsewhere, issued.token)
        killed = in_a_process(lambda site, one=issued: site.sessions.rotate(one.token), at=step)
        settled(rootstream)
        is_replaced = row(rootstream, issued.session.id).revoked_at is not None
        assert is_replaced is not holds(elsewhere, issued.token), step
        replaced.append(is_replaced)
        if not killed:
            break
    assert not replaced[0]
    assert replaced[-1]


def test_a_login_may_die_at_any_step(rootstream, elsewhere, in_a_process, alice):
    for step in range(1, MOST_STEPS):
        killed = in_a_process(lambda site: log_in(site, alice), at=step)
        settled(rootstream)
        assert holds(elsewhere, log_in(rootstream, alice).token), step
        if not killed:
            break
    with rootstream.transaction() as work:
        open_sessions = rootstream.sessions.list_for_user(work, alice)
    assert rootstream.settings.sessions.max_per_user == len(open_sessions)


def test_the_end_of_all_sessions_of_an_account_may_die_at_any_step(
    rootstream, elsewhere, in_a_process, alice
):
    def end_all(site):
        with site.transaction() as work:
            site.sessions.revoke_all_for_user(work, alice.id)

    is_over = False
    for step in range(1, MOST_STEPS):
        with rootstream.transaction() as work:
            user = work.users.get_one(alice.id)
            issued = rootstream.sessions.create(work, user)
        assert holds(elsewhere, issued.token)
        killed = in_a_process(end_all, at=step)
        settled(rootstream)
        is_over = row(rootstream, issued.session.id).revoked_at is not None
        assert is_over is not holds(elsewhere, issued.token), step
        if not killed:
            break
    assert is_over


def test_the_end_of_everybody_may_die_at_any_step(
    rootstream, elsewhere, in_a_process, alice, clock
):
    is_over = False
    for step in range(1, MOST_STEPS):
        clock.advance(61)
        issued = log_in(rootstream, alice)
        killed = in_a_process(lambda site: site.sessions.invalidate_all("a test"), at=step)
        settled(rootstream)
        with rootstream.transaction() as work:
            is_over = work.auth_state.get_one(1).generation > issued.session.generation
        if not is_over:
            assert holds(elsewhere, issued.token), step
        else:
            # Redis may not have been emptied; then this is the limit.
            clock.advance(60)
            assert not holds(elsewhere, issued.token), step
        if not killed:
            break
    assert is_over
