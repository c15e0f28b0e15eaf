"""28: what a form sends along beyond its fields changes nothing."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rootstream_db.errors import RootStreamError
from rootstream_db.models import Base, User

REFUSED = (TypeError, RootStreamError)
SMUGGLED = {
    "id": 1,
    "is_active": False,
    "is_admin": True,
    "password_hash": "none",
    "auth_epoch": 99,
    "verified_at": "2026-01-01",
    "owner_id": 1,
    "public_id": "0",
}


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password="three words and more"
        )


@pytest.fixture
def stream(rootstream, alice):
    with rootstream.transaction() as work:
        return rootstream.streams.create(work, owner=alice, name="Speedrun")[0]


def columns(row) -> dict:
    return {attribute.key: getattr(row, attribute.key) for attribute in row.__mapper__.column_attrs}


@pytest.mark.parametrize("field", SMUGGLED)
def test_28_a_profile_takes_its_own_fields_alone(rootstream, alice, field):
    smuggled = {"display_name": "Alice", field: SMUGGLED[field]}
    with pytest.raises(REFUSED), rootstream.transaction() as work:
        rootstream.accounts.update_profile(work, alice, **smuggled)
    with rootstream.transaction() as work:
        assert columns(alice) == columns(work.users.get_one(alice.id))


@pytest.mark.parametrize("field", SMUGGLED)
def test_28_a_registration_takes_its_own_fields_alone(rootstream, field):
    form = {"username": "bob", "email": "bob@example.com", "password": "three words and more"}
    with pytest.raises(REFUSED), rootstream.transaction() as work:
        rootstream.accounts.register(work, **form, **{field: SMUGGLED[field]})
    with rootstream.transaction() as work:
        assert 0 == work.users.count()


@pytest.mark.parametrize("field", ["id", "owner_id", "public_id", "is_live", "created_at"])
def test_28_a_stream_takes_its_own_settings_alone(rootstream, alice, stream, field):
    with rootstream.transaction() as work, pytest.raises(REFUSED):
        rootstream.streams.update(work, stream, **{"name": "Stolen", field: 1})
    with rootstream.transaction() as work, pytest.raises(REFUSED):
        rootstream.streams.create(work, owner=alice, name="Another", **{field: 1})
    with rootstream.transaction() as work:
        assert columns(stream) == columns(work.streams.get_one(stream.id))


@pytest.mark.parametrize("field", ["user_id", "auth_epoch", "level", "mfa_at", "token_hash"])
def test_28_a_session_is_not_told_what_it_may_do(rootstream, alice, field):
    with rootstream.transaction() as work:
        plain = rootstream.sessions.create(work, alice).session
        value = columns(plain)[field]
    with suppress(*REFUSED), rootstream.transaction() as work:
        smuggled = rootstream.sessions.create(work, alice, **{field: 99}).session
        assert 99 != columns(smuggled)[field]
        assert field == "token_hash" or value == columns(smuggled)[field]


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_28_no_row_takes_a_column_it_has_not(table):
    stored = Base.metadata.tables[table]
    (mapper,) = [mapper for mapper in Base.registry.mappers if mapper.local_table is stored]
    with pytest.raises(TypeError):
        mapper.class_(is_admin=True)


def test_28_the_identity_of_a_row_is_not_given_by_its_maker():
    with pytest.raises(TypeError):
        User(
            id=1,  # type: ignore[call-arg]  # that it is none is the point
            username="bob",
            email="b@example.com",
            password_hash="none",
        )
