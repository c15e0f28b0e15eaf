"""17: hostile text through every public text argument of every service is data or refused.

The arguments are found by looking at the services: one that is added is tried as well, and one
whose neighbours have no value here fails this test until it has.
"""

from __future__ import annotations

import inspect
import re
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from rootstream_db.errors import RootStreamError
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof
from rootstream_db.services.access import AccessManager
from rootstream_db.services.access.identities import ExternalIdentities
from rootstream_db.services.access.keys import ApiKeys
from rootstream_db.services.accounts import AccountManager
from rootstream_db.services.billing import BillingManager
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.mfa import MfaManager
from rootstream_db.services.partitions import PartitionManager
from rootstream_db.services.projections import Projections
from rootstream_db.services.rate_limits import Limit, RateLimiter
from rootstream_db.services.security_events import LoginMonitor
from rootstream_db.services.sessions import SessionManager
from rootstream_db.services.streams import StreamManager
from rootstream_db.services.viewers import ViewerManager
from rootstream_db.services.webhooks import WebhookManager
from rootstream_db.testing import EPOCH

SERVICES: dict[str, type] = {
    "access": AccessManager,
    "access.keys": ApiKeys,
    "access.identities": ExternalIdentities,
    "accounts": AccountManager,
    "billing": BillingManager,
    "events": EventStore,
    "limits": RateLimiter,
    "login_monitor": LoginMonitor,
    "mfa": MfaManager,
    "partitions": PartitionManager,
    "projections": Projections,
    "sessions": SessionManager,
    "streams": StreamManager,
    "viewers": ViewerManager,
    "webhooks": WebhookManager,
}
HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    "$$; DELETE FROM users; $$ '||pg_sleep(9)||'",
    "\\'; DELETE FROM users; -- %(a)s %s :b {0} \u02bc\uff07",
    "*\r\nFLUSHALL\r\n\0\ud800",
]
NOT_STORED = {
    "events.prepare": "append_many does the same and writes it",
    "events.register": "configures the process",
    "projections.run": "runs until it is stopped",
}
"""Methods whose text goes nowhere, or which another one stands for."""

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_TEXT = re.compile(r"(?<![\[\w])str\b(?!,)|SecretText")


def texts(method: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(method).parameters.values()
    return [each.name for each in parameters if _TEXT.search(str(each.annotation))]


CASES = [
    (service, name, argument)
    for service, kind in SERVICES.items()
    for name, method in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_") and f"{service}.{name}" not in NOT_STORED
    for argument in texts(method)
]


class Rollback(Exception):  # noqa: N818 - no error
    """Ends a transaction whose outcome has been seen."""


@pytest.fixture
def world(rootstream) -> dict[str, Any]:
    """A valid value for every argument there is, by its name."""
    with rootstream.transaction() as work:
        user = rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password="three words and more"
        )
        stream, key = rootstream.streams.create(work, owner=user, name="Speedrun")
        rootstream.access.create_role(work, "helper", permissions=["stream.read"])
        account = rootstream.billing.open_account(work, user)
        enrollment = rootstream.mfa.enroll(work, user, label="Phone")
        endpoint, _ = rootstream.webhooks.add(work, "http://127.0.0.1:1/hook")
        session = rootstream.sessions.create(work, user)
    return {
        "access.identities.subject": "7",
        "user": user, "owner": user, "subject": user, "stream": stream, "stream_id": stream.id,
        "account": account, "endpoint": endpoint, "enrollment_id": enrollment.id,
        "session": session.session.id, "token": session.token, "key": key,
        "proof": MfaProof(user.id, MfaMethod.TOTP, AssuranceLevel.MFA, EPOCH),
        "scopes": ["stream.read"], "permissions": ["stream.read"], "state": {}, "version": 1,
        "data": {}, "events": [], "handler": print, "position": 1, "before": EPOCH.date(),
        "occurred_at": EPOCH, "kind": "live_seconds", "quantity": "1", "idempotency_key": "k",
        "apply": lambda state, event: state, "initial": {}, "name": "helper", "parent": "helper",
        "role": "helper", "permission": "stream.read", "issuer": "https://id.example.com",
        "aggregate_type": "Note", "aggregate_id": "1", "event_type": "NoteWritten",
        "login": "alice", "password": "three words and more", "current": "three words and more",
        "new": "four words and some more", "new_password": "four words and some more",
        "username": "bob", "email": "bob@example.com", "node": "edge-1", "connection_id": "c1",
        "code": "000000", "secret": rootstream.mfa.generate_secret(), "uri": "otpauth://totp/x",
        "label": "Laptop", "reason": "admin", "url": "http://127.0.0.1:2/hook", "viewer": "v1",
        "ip_address": "192.0.2.7", "limit": Limit(name="x", rate=5, per=timedelta(minutes=1)),
        "table": "security_events", "event_id": uuid.uuid4(),
    }  # fmt: skip


def rows(rootstream) -> dict[str, int]:
    with rootstream.database.read() as work:
        names = work.session.scalars(
            text(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
                " AND relnamespace = 'public'::regnamespace"
            )
        ).all()
        return {name: work.session.scalar(text(f'SELECT count(*) FROM "{name}"')) for name in names}


def call(rootstream, world, case, hostile) -> None:
    service, name, argument = case
    target = rootstream
    for part in service.split("."):
        target = getattr(target, part)
    method = getattr(target, name)
    given = {argument: hostile}
    positional = []
    for each in inspect.signature(method).parameters.values():
        if each.name == argument and each.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.append(given.pop(argument))
        required = each.default is inspect.Parameter.empty
        if required and each.name not in {"work", argument} and each.kind in NAMED:
            given[each.name] = world.get(f"{service}.{each.name}", world[each.name])
    if next(iter(inspect.signature(method).parameters)) == "work":
        with rootstream.transaction() as work:
            _drain(method(work, *positional, **given))
            raise Rollback
    _drain(method(*positional, **given))


def _drain(result: object) -> None:
    if inspect.isgenerator(result):
        list(result)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "{}.{}-{}".format(*case))
def test_17_hostile_text_is_data_or_refused(rootstream, world, case):
    before = rows(rootstream)
    started = time.monotonic()
    for hostile in HOSTILE:
        try:
            call(rootstream, world, case, hostile)
        except (RootStreamError, Rollback):
            continue
    assert 8 > time.monotonic() - started
    after = rows(rootstream)
    assert {"users", "streams", "roles"} <= set(after)
    # Failures may be recorded; nothing disappears, and no account or right comes up.
    assert [] == [name for name, count in before.items() if after.get(name, -1) < count]
    kept = ("users", "streams", "stream_keys", "roles", "role_grants", "api_keys", "user_mfa")
    assert [before[name] for name in kept] == [after[name] for name in kept]


def test_17_the_arguments_were_found():
    assert 60 <= len(CASES)
    assert {"accounts", "streams", "sessions", "mfa", "access"} <= {case[0] for case in CASES}
