"""What every repository inherits."""

from __future__ import annotations

import pytest

from rootstream_db.errors import NotFoundError
from rootstream_db.models import User
from tests.factories import make_user


def test_get_answers_none_where_get_one_refuses(work):
    assert work.users.get(10**12) is None
    with pytest.raises(NotFoundError, match="no User with") as caught:
        work.users.get_one(10**12)
    assert ("User", 10**12) == (caught.value.kind, caught.value.key)


def test_an_added_row_has_its_generated_values(work):
    user = make_user(work)
    assert user.id is not None
    assert user.created_at is not None
    assert user is work.users.get_one(user.id)


def test_a_deleted_row_is_gone(work):
    user = make_user(work)
    work.users.delete(user)
    assert work.users.get(user.id) is None


def test_an_update_brings_back_what_the_trigger_wrote(database):
    with database.transaction() as work:
        user = make_user(work)
        before = user.updated_at
    with database.transaction() as work:
        user = work.users.get_one(user.id)
        user.display_name = "Someone"
    assert before < user.updated_at


def test_a_row_shows_its_identity_and_nothing_else(work):
    user = make_user(work, password_hash="$argon2id$secret")
    assert f"User(id={user.id})" == repr(user)


def test_the_constructor_knows_its_columns():
    with pytest.raises(TypeError, match="usernme"):
        User(usernme="alice", email="a@example.com", password_hash="x")  # type: ignore[call-arg]  # the point of the test
