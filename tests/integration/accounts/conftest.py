"""An account manager with the cheapest hash, on a rolled-back or a committing database."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.services.accounts import AccountManager
from rootstream_db.services.event_store import EventStore
from rootstream_db.settings import AccountSettings
from tests.factories import MINT

PASSWORD = "correct horse battery staple"


class CountingHasher(PasswordHasher):
    """Counts what it does, and calls ``after_verify`` between a verification and its use."""

    def __init__(self, profile="cheapest-for-tests"):
        super().__init__(profile)
        self.hashed = 0
        self.verified = 0
        self.after_verify = lambda: None
        self._counting = threading.Lock()

    def hash(self, password):
        with self._counting:
            self.hashed += 1
        return super().hash(password)

    def verify(self, stored, password):
        with self._counting:
            self.verified += 1
        matches = super().verify(stored, password)
        self.after_verify()
        return matches


@pytest.fixture
def hasher():
    return CountingHasher()


@pytest.fixture
def account_settings():
    return AccountSettings(argon2_profile="cheapest-for-tests")


@pytest.fixture
def accounts(database, clock, account_settings, hasher):
    events = EventStore(database, clock=clock)
    return AccountManager(database, events, account_settings, tokens=MINT, hasher=hasher)


@pytest.fixture
def alice(accounts, database):
    with database.transaction() as work:
        return accounts.register(
            work, username="Alice", email="Alice@example.com", password=PASSWORD
        )


@pytest.fixture
def committed_accounts(committed_database, clock, account_settings, hasher):
    events = EventStore(committed_database, clock=clock)
    return AccountManager(committed_database, events, account_settings, tokens=MINT, hasher=hasher)


@pytest.fixture
def committed_alice(committed_accounts, committed_database):
    with committed_database.transaction() as work:
        return committed_accounts.register(
            work, username="Alice", email="Alice@example.com", password=PASSWORD
        )


@pytest.fixture
def personal(database, clock):
    """Return the personal fields of an account's events so far, opened."""

    def personal(user):
        events = EventStore(database, clock=clock)
        return events.personal_of_many(events.read("User", str(user.id)))

    return personal


@pytest.fixture
def told(database):
    """Return the events of an account so far, as pairs of type and data."""

    def told(user):
        query = text(
            "SELECT event_type, data, user_id FROM event_log"
            " WHERE aggregate_type = 'User' AND aggregate_id = :id ORDER BY version"
        )
        with database.transaction() as work:
            rows = work.session.execute(query, {"id": str(user.id)}).all()
        assert {user.id} >= {row.user_id for row in rows}
        return [(row.event_type, row.data) for row in rows]

    return told
