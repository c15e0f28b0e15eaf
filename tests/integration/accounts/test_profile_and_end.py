"""The profile, deactivation and deletion of accounts."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import InvalidCredentialsError, NotFoundError, ValidationError
from rootstream_db.models import BillingAccount
from rootstream_db.services.accounts import AccountManager
from tests.factories import MINT, make_session, make_stream

PASSWORD = "correct horse battery staple"


def test_a_profile_changes_where_it_is_told_to(accounts, database, alice, told):
    url = "https://cdn.example.com/alice.png"
    with database.transaction() as work:
        accounts.update_profile(work, alice, display_name=" Alice L. ", avatar_url=url)
    with database.transaction() as work:
        user = accounts.update_profile(work, alice, avatar_url=None)
    assert ("Alice L.", None) == (user.display_name, user.avatar_url)
    assert [
        ("ProfileUpdated", {"changed": ["avatar_url", "display_name"]}),
        ("ProfileUpdated", {"changed": ["avatar_url"]}),
    ] == told(alice)[1:]


def test_a_profile_that_stays_the_same_tells_nothing(accounts, database, alice, told):
    with database.transaction() as work:
        accounts.update_profile(work, alice)
        accounts.update_profile(work, alice, display_name=None, avatar_url=None)
    assert ["UserRegistered"] == [event for event, _ in told(alice)]


@pytest.mark.parametrize(
    "change", [{"display_name": "a\nb"}, {"avatar_url": "javascript:alert(1)"}], ids=str
)
def test_a_profile_against_the_rules_is_refused(accounts, database, alice, change):
    with database.transaction() as work, pytest.raises(ValidationError) as caught:
        accounts.update_profile(work, alice, **change)
    assert [caught.value.field] == list(change)


def test_a_cached_profile_is_forgotten_after_the_commit(rootstream, account_settings, hasher):
    from rootstream_db.cache.keys import USER

    accounts = AccountManager(
        rootstream.database,
        rootstream.events,
        account_settings,
        tokens=MINT,
        cache=rootstream.cache,
        hasher=hasher,
    )
    with rootstream.transaction() as work:
        user = accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )
    key = rootstream.cache.key(USER, user_id=user.id)
    rootstream.cache.set_json(key, {"display_name": None})
    with rootstream.transaction() as work:
        accounts.update_profile(work, user, display_name="Alice")
        assert rootstream.cache.exists(key)
    assert not rootstream.cache.exists(key)


def test_a_deactivated_account_cannot_log_in_until_it_is_reactivated(
    accounts, database, alice, clock, told
):
    with database.transaction() as work:
        make_session(work, alice)
    with database.transaction() as work:
        assert clock() == accounts.deactivate(work, alice).deactivated_at
        assert [] == work.sessions.list_open(alice.id, now=work.now)
        with pytest.raises(InvalidCredentialsError):
            accounts.authenticate(work, "alice", PASSWORD)
    with database.transaction() as work:
        assert accounts.reactivate(work, alice).is_active
        assert alice.id == accounts.authenticate(work, "alice", PASSWORD).id
    expected = ["UserRegistered", "UserDeactivated", "UserReactivated", "UserLoggedIn"]
    assert expected == [event for event, _ in told(alice)]


def test_deactivating_and_reactivating_twice_tells_once(accounts, database, alice, told):
    with database.transaction() as work:
        accounts.reactivate(work, alice)
        first = accounts.deactivate(work, alice).deactivated_at
        assert first == accounts.deactivate(work, alice).deactivated_at
    assert ["UserRegistered", "UserDeactivated"] == [event for event, _ in told(alice)]


def test_a_deleted_account_is_gone_but_for_its_events_and_bills(
    accounts, database, alice, told, personal
):
    with database.transaction() as work:
        make_stream(work, alice)
        bill = BillingAccount(user_id=alice.id)
        work.session.add(bill)
    with database.transaction() as work:
        accounts.delete(work, alice)
    with database.transaction() as work:
        assert None is work.users.get(alice.id)
        assert 0 == work.session.scalar(text("SELECT count(*) FROM streams"))
        owners = work.session.scalars(text("SELECT user_id FROM billing_accounts")).all()
    assert [None] == owners
    assert ("UserDeleted", {}) == told(alice)[-1]
    assert {"username": "Alice"} == personal(alice)[-1]


def test_the_name_of_a_deleted_account_is_free_again(accounts, database, alice):
    with database.transaction() as work:
        accounts.delete(work, alice)
    with database.transaction() as work:
        again = accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )
    assert again.id != alice.id


@pytest.mark.parametrize("method", ["deactivate", "reactivate", "delete", "update_profile"])
def test_what_happens_to_a_deleted_account_is_an_error(accounts, database, alice, method):
    with database.transaction() as work:
        accounts.delete(work, alice)
    with database.transaction() as work, pytest.raises(NotFoundError, match="no User"):
        getattr(accounts, method)(work, alice)
