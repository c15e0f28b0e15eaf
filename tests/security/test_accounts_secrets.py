"""Passwords and tokens: absent from rows, events, logs, errors and reprs."""

from __future__ import annotations

import json
import logging
import traceback

import pytest
from sqlalchemy import inspect, text

from rootstream_db.errors import RootStreamError
from rootstream_db.models import TokenPurpose

PASSWORD = "hunter2 hunter2 hunter2"
WRONG = "swordfish swordfish swordfish"
BETTER = "xyzzy plugh plover xyzzy"


def every_text_stored(work):
    """Return all rows of all tables as text, bytes as hexadecimal."""
    tables = inspect(work.session.connection()).get_table_names()
    rows = []
    for table in tables:
        rows += work.session.scalars(text(f'SELECT row_to_json(t)::text FROM "{table}" t')).all()
    return "\n".join(rows)


def fail(rootstream, method, *args, **named):
    """Call a method that fails and return everything its error could print."""
    with pytest.raises(RootStreamError) as caught, rootstream.transaction() as work:
        getattr(rootstream.accounts, method)(work, *args, **named)
    shown = "".join(traceback.format_exception(caught.value))
    return shown + repr(caught.value) + json.dumps(caught.value.as_dict())


@pytest.fixture
def lived(rootstream, caplog):
    """The life of an account; returns its secrets and everything errors and logs said."""
    caplog.set_level(logging.DEBUG)
    accounts, said = rootstream.accounts, []
    named = {"username": "alice", "email": "alice@example.com", "password": PASSWORD}
    with rootstream.transaction() as work:
        user = accounts.register(work, **named)
        tokens = [accounts.issue_token(work, user, purpose) for purpose in TokenPurpose]
        said += [repr(tokens), f"{tokens}", repr(user), repr(work.users.get_one(user.id))]
        said += [repr(accounts), repr(vars(accounts))]
    said.append(fail(rootstream, "register", **named))
    said.append(fail(rootstream, "authenticate", "alice", WRONG))
    said.append(fail(rootstream, "authenticate", WRONG, PASSWORD))
    said.append(fail(rootstream, "change_password", user, current=WRONG, new=BETTER))
    said.append(fail(rootstream, "change_password", user, current=PASSWORD, new=PASSWORD))
    said.append(fail(rootstream, "reset_password", tokens[1], "short-one"))
    with rootstream.transaction() as work:
        accounts.authenticate(work, "alice", PASSWORD)
        accounts.verify_email(work, tokens[0])
        accounts.reset_password(work, tokens[1], BETTER)
    said.append(fail(rootstream, "reset_password", tokens[1], PASSWORD))
    for _ in range(6):
        said.append(fail(rootstream, "authenticate", "alice", WRONG))
    said.append(caplog.text)
    return [PASSWORD, WRONG, BETTER, "short-one", *map(str, tokens)], "\n".join(said)


def test_no_secret_is_said_by_any_error_log_or_repr(lived):
    secrets, said = lived
    # Source lines of this file are part of tracebacks; values are what must not be.
    assert [] == [secret for secret in secrets if secret in said]
    assert "argon2id" not in said


def test_no_secret_is_stored_anywhere(lived, rootstream):
    secrets, _ = lived
    with rootstream.transaction() as work:
        stored = every_text_stored(work)
    assert "alice" in stored
    assert [] == [secret for secret in secrets if secret in stored]
    assert [] == [secret for secret in secrets if secret.encode().hex() in stored]


def test_events_hold_neither_hashes_nor_addresses(lived, rootstream):
    with rootstream.transaction() as work:
        events = "\n".join(
            work.session.scalars(text("SELECT data::text || metadata::text FROM event_log"))
        )
    assert "UserRegistered" not in events
    assert '"personal"' in events
    secrets = ("argon2", "alice", "example.com", "rsv1_", "rsr1_")
    assert [] == [word for word in secrets if word in events]
