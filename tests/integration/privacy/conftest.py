"""A person with something in every section, and one who has nothing to do with her."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from rootstream_db.audit import acting
from rootstream_db.models import (
    Base,
    BillingAccount,
    EndReason,
    Recording,
    Stream,
    StreamSession,
    User,
)
from rootstream_db.models.billing import UsageKind
from rootstream_db.models.security_events import RiskLevel, SecurityEvent, SecurityEventKind
from rootstream_db.models.stream_sessions import ViewerSession
from rootstream_db.rootstream import RootStream

PASSWORD = "correct horse battery staple"
PERSONAL = ("ann_smith", "ann@mail.example", "Ann Smith", "192.0.2.77", "AnnBrowser")
"""What must be nowhere once she is erased."""


@dataclass
class Ann:
    """She, and what she holds."""

    user: User
    stream: Stream
    session_token: str
    files: list[str]


def register(rs: RootStream, name: str, **over: Any) -> User:
    with rs.transaction() as work:
        values = {"username": name, "email": f"{name}@mail.example", "password": PASSWORD} | over
        return rs.accounts.register(work, **values)


@pytest.fixture
def ann(rootstream: RootStream) -> Ann:
    rs = rootstream
    user = register(rs, "ann_smith", email=PERSONAL[1], display_name=PERSONAL[2])
    with acting(user_id=user.id, ip_address=PERSONAL[3], user_agent=PERSONAL[4]):
        with rs.transaction() as work:
            rs.accounts.authenticate(work, "ann_smith", PASSWORD, ip_address=PERSONAL[3])
            session = rs.sessions.create(work, user, ip_address=PERSONAL[3], user_agent=PERSONAL[4])
            stream, _ = rs.streams.create(work, owner=user, name="Speedrun")
            rs.webhooks.add(work, "https://example.com/", owner=user)
            bill = rs.billing.open_account(work, user)
        with rs.transaction() as work:
            files = _leave_traces(work, user, stream, bill)
            rs.billing.meter(
                work,
                bill,
                kind=UsageKind.EGRESS_BYTES,
                quantity=7,
                idempotency_key="x",
                occurred_at=work.now,
            )
    return Ann(user, stream, str(session.token), files)


@pytest.fixture
def bob(rootstream: RootStream) -> User:
    return register(rootstream, "bob_jones", display_name="Bob Jones")


@pytest.fixture
def committed_copy(rootstream: RootStream) -> Callable[[], AbstractContextManager[Any]]:
    """A context that copies all tables, and yields what puts the copies back: a restore."""

    @contextmanager
    def copying() -> Iterator[Callable[[], None]]:
        tables = [table.name for table in Base.metadata.sorted_tables]
        with rootstream.transaction() as work:
            for name in tables:
                work.session.execute(text(f"CREATE TABLE copy_of_{name} AS TABLE {name}"))

        def restore() -> None:
            with rootstream.transaction() as work:
                work.session.execute(text("SET LOCAL rootstream.maintenance = 'on'"))
                work.session.execute(text("SET LOCAL session_replication_role = 'replica'"))
                for name in tables:
                    work.session.execute(text(f"DELETE FROM {name}"))
                    work.session.execute(text(f"INSERT INTO {name} TABLE copy_of_{name}"))

        try:
            yield restore
        finally:
            with rootstream.transaction() as work:
                for name in tables:
                    work.session.execute(text(f"DROP TABLE copy_of_{name}"))

    return copying


def _leave_traces(work: Any, user: User, stream: Stream, bill: BillingAccount) -> list[str]:
    now = work.now
    broadcast = StreamSession(
        stream_id=stream.id,
        started_at=now - timedelta(hours=1),
        ended_at=now,
        end_reason=EndReason.STOPPED,
    )
    work.session.add(broadcast)
    work.session.flush()
    files = [f"/recordings/{uuid.uuid4()}.mp4" for _ in range(3)]
    for path in files:
        work.session.add(
            Recording(
                stream_id=stream.id,
                stream_session_id=broadcast.id,
                file_path=path,
                size_bytes=1,
                sha256=b"\1" * 32,
            )
        )
    work.session.add(
        ViewerSession(
            started_at=now,
            ended_at=now,
            stream_id=stream.id,
            user_id=user.id,
            viewer_hash=b"\2" * 16,
        )
    )
    work.session.add(
        SecurityEvent(
            occurred_at=now,
            kind=SecurityEventKind.LOGIN_FAILED,
            risk=RiskLevel.LOW,
            user_id=user.id,
            ip_address=PERSONAL[3],
        )
    )
    return files
