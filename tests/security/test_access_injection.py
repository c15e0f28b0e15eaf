"""Hostile text through every text argument of access control: data, or refused, never SQL."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import (
    IdentityRefusedError,
    InvalidTokenError,
    NotFoundError,
    ValidationError,
)
from tests.factories import make_user

HOSTILE = {
    "tautology": "' OR '1'='1",
    "drop": "'; DROP TABLE roles; --",
    "union": "' UNION SELECT key_hash FROM api_keys --",
    "dollar quote": "$$; DELETE FROM role_grants; $$",
    "bind style": "%(name)s %s :name {0}",
    "like": "%",
    "array": "{admin,*}",
    "overlong": "x' " * 100_000,
    "json": '{"$ne": null}',
    "redis": "*\r\nFLUSHALL\r\n",
}
TABLES = ("roles", "role_permissions", "role_grants", "api_keys", "external_identities")


@pytest.fixture(params=HOSTILE)
def hostile(request):
    return HOSTILE[request.param]


@pytest.fixture
def rows(rootstream):
    """Count the rows of every table of access control."""

    def count():
        with rootstream.database.read() as work:
            return {
                table: work.session.scalar(text(f"SELECT count(*) FROM {table}"))
                for table in TABLES
            }

    return count


def test_no_look_up_is_steered_by_hostile_text(rootstream, hostile, rows):
    access = rootstream.access
    with rootstream.transaction() as work:
        user = make_user(work)
        access.keys.issue(work, user, scopes=["*"])
        access.identities.link(work, user, "https://id.example.com", "7")
    known = rows()

    with rootstream.transaction() as work:
        assert work.roles.get_by_name(hostile) is None
        for call in (
            lambda: access.create_role(work, hostile),
            lambda: access.create_role(work, "guest", parents=[hostile]),
            lambda: access.create_role(work, "guest", permissions=[hostile]),
            lambda: access.set_permissions(work, hostile, []),
            lambda: access.grant(work, user, hostile),
            lambda: access.revoke_grant(work, user, hostile),
            lambda: access.keys.issue(work, user, scopes=[hostile]),
            lambda: access.keys.authenticate(hostile),
            lambda: access.require(user, hostile),
            lambda: access.identities.login_or_link(work, hostile, "7"),
            lambda: access.identities.login_or_link(work, "https://id.example.com", hostile),
        ):
            refusals = (ValidationError, NotFoundError, InvalidTokenError, IdentityRefusedError)
            with pytest.raises(refusals), work.savepoint():
                call()
    assert known == rows()


def test_free_text_is_kept_as_it_is(rootstream, hostile):
    line = hostile.replace("\r\n", " ")[:100]
    with rootstream.transaction() as work:
        user = make_user(work)
        row, _ = rootstream.access.keys.issue(work, user, scopes=["a.b"], label=line)
        role = rootstream.access.create_role(work, "guest", description=line)
        work.session.expire_all()
        assert line == work.api_keys.get_one(row.id).label
        assert line == work.roles.get_one(role.id).description
