"""14, 15: nobody learns which accounts exist: not by words, nor by what is done, nor by time."""

from __future__ import annotations

import statistics
import time

import pytest
from sqlalchemy import event

from rootstream_db import RootStream
from rootstream_db.errors import InvalidCredentialsError, RootStreamError, TooManyAttemptsError
from rootstream_db.settings import AccountSettings

PASSWORD = "correct horse battery staple"
NETWORK = "203.0.113.9"


def build(url, redis_url, clock, **accounts):
    from rootstream_db.testing import settings_for

    settings = settings_for(url, redis_url)
    return RootStream(
        settings.model_copy(update={"accounts": AccountSettings(**accounts)}), clock=clock
    )


@pytest.fixture
def site(clean_database_url, redis_url, clock):
    with build(
        clean_database_url, redis_url, clock, argon2_profile="cheapest-for-tests"
    ) as rootstream:
        people(rootstream)
        yield rootstream


def people(rootstream):
    for name in ("known", "closed"):
        with rootstream.transaction() as work:
            user = rootstream.accounts.register(
                work, username=name, email=f"{name}@example.com", password=PASSWORD
            )
            if name == "closed":
                rootstream.accounts.deactivate(work, user)


def refused(rootstream, login, password="wrong") -> RootStreamError:
    with pytest.raises(RootStreamError) as caught, rootstream.transaction() as work:
        rootstream.accounts.authenticate(work, login, password, ip_address=NETWORK)
    return caught.value


def lock(rootstream, login):
    for _ in range(5):
        refused(rootstream, login)


def shown(error):
    return type(error), str(error), error.code, error.context, error.retryable


ATTEMPTS = [("known", "wrong"), ("unknown", PASSWORD), ("closed", PASSWORD), ("closed", "wrong"),
            ("known@example.com", "wrong"), ("unknown@example.com", "wrong")]  # fmt: skip


def test_15_unknown_wrong_and_closed_are_refused_in_the_same_words(site):
    answers = [shown(refused(site, login, password)) for login, password in ATTEMPTS]
    assert InvalidCredentialsError is answers[0][0]
    assert [answers[0]] * len(ATTEMPTS) == answers


def test_15_locked_logins_are_refused_in_the_same_words_whether_they_exist_or_not(site):
    logins = ["known", "unknown", "closed"]
    for login in logins:
        lock(site, login)
    answers = [shown(refused(site, login, PASSWORD)) for login in logins]
    assert TooManyAttemptsError is answers[0][0]
    assert [answers[0]] * 3 == answers


class Statements:
    """What is sent to PostgreSQL, by any connection of the process."""

    def __init__(self):
        self.sent = []

    def __enter__(self):
        from sqlalchemy.engine import Engine

        event.listen(Engine, "before_cursor_execute", self._note)
        return self.sent

    def __exit__(self, *_):
        from sqlalchemy.engine import Engine

        event.remove(Engine, "before_cursor_execute", self._note)

    def _note(self, connection, cursor, statement, parameters, context, executemany):
        self.sent.append(statement)


@pytest.mark.parametrize("locked", [False, True], ids=["open", "locked"])
def test_14_the_same_statements_are_sent_for_logins_that_exist_and_that_do_not(site, *, locked):
    sent = []
    for login in ("known", "unknown", "closed"):
        if locked:
            lock(site, login)
        else:
            refused(site, login)
        with Statements() as statements:
            refused(site, login)
        sent.append(list(statements))
    assert 3 < len(sent[0])
    assert sent[0] == sent[1] == sent[2]


@pytest.mark.slow
def test_14_the_same_work_is_done_for_logins_that_exist_and_that_do_not(
    clean_database_url, redis_url, clock
):
    # Processor time of this process at the real cost of a password: whatever else the machine
    # does, a hash that is left out would make one of them a hundred times cheaper.
    with build(clean_database_url, redis_url, clock, lockout_failures=1000) as site:
        people(site)
        samples: dict[str, list[float]] = {"known": [], "unknown": [], "closed": []}
        for _ in range(7):
            for login, spent in samples.items():
                started = time.process_time()
                refused(site, login)
                spent.append(time.process_time() - started)
    medians = {login: statistics.median(spent) for login, spent in samples.items()}
    assert 0.75 < medians["unknown"] / medians["known"] < 1.33, medians
    assert 0.75 < medians["closed"] / medians["known"] < 1.33, medians


def test_15_registering_tells_of_a_taken_address_only_who_asks_for_it(site):
    """The one place that must tell: it says no more than that the address is taken."""
    with pytest.raises(RootStreamError) as caught, site.transaction() as work:
        site.accounts.register(
            work, username="another", email="KNOWN@example.com", password=PASSWORD
        )
    assert "known" not in str(caught.value).lower().replace("@example.com", "")
