"""Finding and opening sessions, in turns with everybody else who does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from rootstream_db import RootStream
from rootstream_db.cache.keys import SESSION, Keys
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.sessions.entry import ENTRY_BYTES
from scripts.benchmarks.auth.ours import (
    NOWHERE,
    OpenSessionAlone,
    OurSessions,
    beside,
    load_users,
)
from scripts.benchmarks.auth.peers import (
    SCHEMA,
    DjangoSessions,
    FlaskSessions,
    Opener,
    Peer,
    RawPsycopg,
    RawRedis,
    peers_at,
)
from scripts.benchmarks.auth.scale import Scale
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.foundation.rows import connect
from scripts.benchmarks.report import Report, Total

REDIS_AIM: Final = 1.0
FLASK_AIM: Final = 1.0
CACHED_DB_AIM: Final = 2.5
FALLBACK_AIM: Final = 3.0
CREATE_AIM: Final = 3.0
_PER_USER: Final = 5
_BUSY: Final = 20
_MEMORY: Final = timedelta(seconds=1)


def validate(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure how long it takes to see that a session holds when the cache knows it."""
    users = load_users(rootstream, "validate", scale.sessions // _PER_USER)
    # Those that come again within a second.
    few = replace(scale, sessions=min(_BUSY, scale.sessions))
    with ExitStack() as stack:
        stack.enter_context(peers_at(rootstream))
        remembering = stack.enter_context(beside(rootstream, memory_ttl=_MEMORY))
        finders = [
            _Finder(OurSessions(rootstream, "ours, from Redis", users), scale),
            _Finder(OurSessions(remembering, "ours, remembered for 1 s", users), few),
            _Finder(RawRedis(rootstream, value_bytes=ENTRY_BYTES), scale, aim=REDIS_AIM),
            _Finder(FlaskSessions(rootstream), scale, aim=FLASK_AIM),
            _Finder(DjangoSessions("cached_db"), scale, aim=CACHED_DB_AIM),
        ]
        rows = _compete(finders, scale, scale.operations)
    report.add_contest("validate, cached", rows, "one thread; Django and Flask: load, look who")
    _check_found("validate, cached", finders, report)


def fall_back(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure how long it takes when only PostgreSQL can be asked, and when Redis forgot."""
    users = load_users(rootstream, "fallback", scale.sessions // _PER_USER)
    with ExitStack() as stack:
        stack.enter_context(peers_at(rootstream))
        without = stack.enter_context(beside(rootstream, redis_url=NOWHERE))
        ours = _Finder(OurSessions(without, "ours, Redis is down", users), scale)
        digests = [rootstream.tokens.digest(token, TokenKind.SESSION) for token in ours.keys]
        forgotten = _Finder(OurSessions(rootstream, "ours, not in Redis", users), scale)
        forgotten.begin_with(partial(_forget, rootstream, forgotten.keys))
        raw = RawPsycopg(rootstream, digests)
        stack.callback(raw.close)
        finders = [
            ours,
            forgotten,
            _Finder(raw, scale),
            _Finder(DjangoSessions("db"), scale, aim=FALLBACK_AIM),
        ]
        rows = _compete(finders, scale, scale.operations // 2)
    report.add_contest("validate, from PostgreSQL", rows, "one thread; ours also reads the account")
    _check_found("validate, from PostgreSQL", finders, report)


def create(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure logins, once the password is checked."""
    users = load_users(rootstream, "create", scale.sessions)
    others = load_users(rootstream, "create_alone", scale.sessions)
    alone = OpenSessionAlone(rootstream, others)
    ours = OurSessions(rootstream, "ours", users)
    # The first event about somebody makes their key; accounts have many.
    for _ in users:
        ours.create()
    with peers_at(rootstream), closing(alone):
        openers = [
            _Opener(ours),
            _Opener(alone),
            _Opener(DjangoSessions("cached_db"), aim=CREATE_AIM),
            _Opener(DjangoSessions("db")),
            _Opener(FlaskSessions(rootstream)),
        ]
        rows = _compete(openers, scale, max(scale.operations // 10, 4))
        report.add_contest(
            "create",
            rows,
            "one thread, one commit each; ours with the limit of sessions, an event and its chain",
        )
        django = openers[2].opened + openers[3].opened
        with connect(rootstream) as connection:
            stored = _count(connection, f"{SCHEMA}.django_session")
            mine = _count(connection, "sessions WHERE user_id = ANY(%s)", [u.id for u in users])
    report.totals.append(Total("create: Django's rows", django, stored))
    report.totals.append(Total("create: our rows", len(users) + openers[0].opened, mine))


class _Finder:
    """Looks for sessions that are there, in turns, and counts those that are found."""

    def __init__(self, peer: Peer, scale: Scale, *, aim: float | None = None) -> None:
        self.keys = [peer.create() for _ in range(scale.sessions)]
        self.asked = self.found = 0
        self.rival = Rival(peer.name, self._run, aim, peer.renew)
        self._find = peer.find
        self._turns = itertools.cycle(self.keys)

    def begin_with(self, action: Callable[[], object]) -> None:
        """Begin each turn with this instead of new connections."""
        self.rival = replace(self.rival, renew=action)

    def _run(self, operations: int) -> None:
        find = self._find
        for key in itertools.islice(self._turns, operations):
            self.found += find(key) is not None
        self.asked += operations


class _Opener:
    """Opens sessions and counts them."""

    def __init__(self, peer: Opener, *, aim: float | None = None) -> None:
        self.opened = 0
        self.rival = Rival(peer.name, self._run, aim, peer.renew)
        self._create = peer.create

    def _run(self, operations: int) -> None:
        for _ in range(operations):
            self._create()
        self.opened += operations


def _forget(rootstream: RootStream, tokens: Sequence[str]) -> None:
    """Have Redis forget sessions, as after a restart."""
    keys = Keys(rootstream.settings.redis.key_prefix, rootstream.settings.cache)
    with rootstream.cache.client.pipeline(transaction=False) as pipe:
        for token in tokens:
            digest = rootstream.tokens.digest(token, TokenKind.SESSION)
            pipe.unlink(str(keys.key(SESSION, token_hash=digest.hex())))
        pipe.execute()


def _compete(
    sides: Sequence[_Finder] | Sequence[_Opener], scale: Scale, operations: int
) -> list[dict[str, Any]]:
    return compete([side.rival for side in sides], rounds=scale.rounds, operations=operations)


def _check_found(title: str, finders: Sequence[_Finder], report: Report) -> None:
    asked, found = (sum(getattr(one, of) for one in finders) for of in ("asked", "found"))
    report.totals.append(Total(f"{title}: sessions found", asked, found))


def _count(connection: Any, table: str, *parameters: object) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}", parameters).fetchone()[0])  # noqa: S608 - constants
