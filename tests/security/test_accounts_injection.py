"""Hostile text through every text argument of accounts and their repositories: data, never SQL."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import text

from rootstream_db.errors import (
    InvalidCodeError,
    InvalidCredentialsError,
    ValidationError,
)
from rootstream_db.models import TokenPurpose
from tests.factories import make_user

PASSWORD = "correct horse battery staple"

HOSTILE = {
    "tautology": "' OR '1'='1",
    "comment": "alice'--",
    "drop": "'; DROP TABLE users; --",
    "union": "' UNION SELECT password_hash FROM users --",
    "double quote": '" OR ""="',
    "dollar quote": "$$; DELETE FROM users; $$",
    "backslash": "\\'; DELETE FROM users; --",
    "bind style": "%(username)s %s :username {0}",
    "like": "%",
    "like one": "_lice",
    "cast": "alice'::text",
    "sleep": "'||pg_sleep(9)||'",
    "unicode quote": "\u02bc OR 1=1",
    "full width": "\uff07 OR 1=1",
    "overlong": "x' " * 100_000,
    "newline": "alice\n; DELETE FROM users",
    "json": '{"$ne": null}',
}


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@pytest.fixture(params=HOSTILE)
def hostile(request):
    return HOSTILE[request.param]


@pytest.fixture
def alice(work):
    return make_user(work, username="alice", email="alice@example.com")


def test_no_look_up_is_steered_by_hostile_text(work, alice, hostile):
    found = [
        work.users.get_by_username(hostile),
        work.users.get_by_email(hostile),
        work.users.get_by_login(hostile),
        work.users.record_login(
            alice.id, verified_hash=hostile, password_hash=hostile, now=work.now
        ),
        work.user_tokens.get_by_hash(digest(hostile)),
        work.user_tokens.redeem(digest(hostile), now=work.now),
        work.sessions.get_by_token(digest(hostile)),
    ]
    assert [None] * 7 == found
    assert [alice] == list(work.users.list_newest())


def test_hostile_text_that_is_stored_comes_back_as_it_was(work, hostile):
    shown = hostile[:100]
    user = make_user(work, display_name=shown, password_hash=hostile)
    work.session.expire(user)
    assert (shown, hostile) == (user.display_name, user.password_hash)


@pytest.mark.parametrize("look_up", ["get_by_username", "get_by_email", "get_by_login"])
def test_text_that_postgresql_cannot_hold_is_an_error_of_ours(database, look_up):
    def ask():
        with database.transaction() as work:
            getattr(work.users, look_up)("alice\0' OR 1=1")

    with pytest.raises(ValidationError, match="NUL"):
        ask()


@pytest.mark.parametrize("field", ["username", "email"])
def test_hostile_names_cannot_be_registered(rootstream, hostile, field):
    values = {"username": "alice", "email": "alice@example.com", field: hostile}
    with rootstream.transaction() as work:
        with pytest.raises(ValidationError) as caught:
            rootstream.accounts.register(work, **values, password=PASSWORD)
        assert 0 == work.users.count()
    assert field == caught.value.field
    assert len(str(caught.value)) < 1000


def test_a_hostile_login_lets_nobody_in(rootstream, hostile):
    with rootstream.transaction() as work:
        rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )
    for login, password in ((hostile, PASSWORD), ("alice", hostile), (hostile, hostile)):
        with rootstream.transaction() as work, pytest.raises(InvalidCredentialsError):
            rootstream.accounts.authenticate(work, login, password)
    with rootstream.transaction() as work:
        assert 1 == work.users.count()


def test_a_hostile_token_redeems_nothing(rootstream, hostile):
    with rootstream.transaction() as work:
        user = rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )
        for purpose in TokenPurpose:
            rootstream.accounts.issue_token(work, user, purpose)
        with pytest.raises(InvalidCodeError):
            rootstream.accounts.verify_email(work, hostile)
        with pytest.raises(InvalidCodeError):
            rootstream.accounts.reset_password(work, hostile, PASSWORD)
        left = work.session.scalar(text("SELECT count(*) FROM user_tokens WHERE used_at IS NULL"))
    assert 2 == left
