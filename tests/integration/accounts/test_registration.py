"""Who may register, what is stored, and what a refusal says."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import ConflictError, ValidationError

PASSWORD = "correct horse battery staple"


def register(accounts, work, **over):
    values = {"username": "alice", "email": "alice@example.com", "password": PASSWORD}
    return accounts.register(work, **{**values, **over})


def test_a_registered_account_is_stored_and_told(accounts, database, hasher, told, personal):
    with database.transaction() as work:
        user = register(
            accounts, work, username="Alice", email="Al@EXAMPLE.com", display_name=" Al "
        )
        now = work.now
    assert ("Alice", "Al@example.com", "Al") == (user.username, user.email, user.display_name)
    assert (True, False, now) == (user.is_active, user.is_verified, user.password_changed_at)
    assert hasher.verify(user.password_hash, PASSWORD)
    told_data = {"public_id": str(user.public_id)}
    assert [("UserRegistered", told_data)] == told(user)
    told_of_her = {"username": "Alice", "email": "Al@example.com", "display_name": "Al"}
    assert [told_of_her] == personal(user)


@pytest.mark.parametrize("username", ["alice", "ALICE", "aLiCe"])
def test_a_username_is_taken_whatever_its_case(accounts, database, alice, username):
    with database.transaction() as work, pytest.raises(ConflictError) as caught:
        register(accounts, work, username=username, email="other@example.com")
    assert f"the username '{username}' is taken: choose another one" == str(caught.value)
    assert "uq_users_username_lower" == caught.value.constraint
    assert "username" == caught.value.context["field"]


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@EXAMPLE.COM"])
def test_an_address_is_taken_whatever_its_case(accounts, database, alice, email):
    with database.transaction() as work, pytest.raises(ConflictError) as caught:
        register(accounts, work, username="other", email=email)
    assert "an account with this e-mail address exists" in str(caught.value)
    assert "uq_users_email_lower" == caught.value.constraint
    assert "email" == caught.value.context["field"]


def test_an_internationalised_domain_is_the_same_address_in_both_spellings(accounts, database):
    with database.transaction() as work:
        register(accounts, work, email="al@bücher.example.com")
        with pytest.raises(ConflictError):
            register(accounts, work, username="other", email="al@xn--bcher-kva.example.com")


def test_the_unit_of_work_goes_on_after_a_conflict(accounts, database, alice, told):
    with database.transaction() as work:
        with pytest.raises(ConflictError):
            register(accounts, work, username="alice", email="bob@example.com")
        bob = register(accounts, work, username="bob", email="bob@example.com")
    assert ["UserRegistered"] == [event for event, _ in told(bob)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "a" * 1_000_000),
        ("username", "al\0ice"),
        ("email", "nobody"),
        ("password", "short"),
        ("password", "ALICE@example.com"),
        ("display_name", "two\nlines"),
    ],
    ids=["megabyte", "nul", "no address", "short", "own address", "two lines"],
)
def test_a_value_against_the_rules_is_refused_by_name(accounts, database, field, value):
    with database.transaction() as work:
        with pytest.raises(ValidationError) as caught:
            register(accounts, work, **{field: value})
        assert 0 == work.users.count()
    assert field == caught.value.field


def test_a_registration_that_is_rolled_back_leaves_no_event(accounts, database):
    def interrupted():
        with database.transaction() as work:
            register(accounts, work)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        interrupted()
    with database.transaction() as work:
        assert 0 == work.users.count()
        assert [] == work.session.execute(text("SELECT 1 FROM event_log")).all()
