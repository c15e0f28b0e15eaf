"""Who else appends events: the package ``eventsourcing``, psycopg, and the ORM as it comes."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import (
    PostgresApplicationRecorder,
    PostgresDatastore,
    PostgresFactory,
)
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import MetaData, Table
from sqlalchemy.orm import Session, registry

from rootstream_db import RootStream
from rootstream_db.models import EventLog
from rootstream_db.repositories.event_batches import APPEND
from rootstream_db.repositories.events import DEFAULT_LOG
from rootstream_db.services.event_store.batch import batch_of
from scripts.benchmarks.events.log import DATA, EVENT_TYPE, METADATA, make_events
from scripts.benchmarks.foundation.rows import Held, bare_engine, connect

SCHEMA: Final = "benchmark_rivals"

_INSERT = f"""
INSERT INTO {SCHEMA}.plain (log_id, position, event_id, aggregate_type, aggregate_id, version,
    event_type, data, metadata, occurred_at, row_hash)
SELECT 0, nextval('{SCHEMA}.position'), (event->>'event_id')::uuid, 'Benchmark', 'plain',
    (event->>'version')::bigint, event->>'event_type', event->'data', event->'metadata',
    (event->>'occurred_at')::timestamptz, sha256('')
FROM jsonb_array_elements(%s::text::jsonb) WITH ORDINALITY AS item (event, number)
ORDER BY number
RETURNING position
"""  # noqa: S608 - a constant


class Appender(Protocol):
    """Appends events of its own aggregate; ``stored`` counts what is there in the end."""

    name: str
    table: str

    def append(self, size: int) -> object:
        """Append that many events and commit."""

    def renew(self) -> object:
        """Take new connections."""

    def close(self) -> object:
        """Let go of everything."""


@contextmanager
def rival_schema(rootstream: RootStream) -> Iterator[None]:
    """Have a schema for the rivals' tables, and drop it afterwards."""
    with connect(rootstream, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        connection.execute(f"CREATE SEQUENCE {SCHEMA}.position")
        for table in ("plain", "orm"):
            connection.execute(f"CREATE TABLE {SCHEMA}.{table} (LIKE event_log INCLUDING ALL)")
    try:
        yield
    finally:
        with connect(rootstream, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


class Function:
    """Ours without its unit of work: events checked and encoded, one call on a connection held."""

    name = "ours, append_events alone"
    table = "public.event_log"

    def __init__(self, rootstream: RootStream) -> None:
        self._held = Held(rootstream, autocommit=True)
        self._events = rootstream.events
        self.renew, self.close = self._held.renew, self._held.close

    def append(self, size: int) -> None:
        """Append in one call, which is a transaction."""
        batch = batch_of(self._events.prepare("Benchmark", "function", make_events(size)))
        self._held.connection.execute(APPEND, (DEFAULT_LOG, *batch)).fetchall()


class EventSourcing:
    """The recorder of ``eventsourcing``, as it comes: it locks its table, so no reader misses any.

    Below its mapper and its aggregates, whose time it is therefore spared.
    """

    name = "eventsourcing's recorder"
    table = "stored_events"

    def __init__(self, address: str, *, create: bool = True) -> None:
        known = conninfo_to_dict(address)
        self._datastore = PostgresDatastore(
            str(known.get("dbname", "postgres")),
            str(known.get("host", "")),
            str(known.get("port", "")),
            str(known.get("user", "")),
            str(known.get("password", "")),
            schema=SCHEMA,
        )
        self._recorder = PostgresApplicationRecorder(self._datastore, events_table_name=self.table)
        if create:
            self._recorder.create_table()
        self._originator = uuid.uuid4()
        self._versions = itertools.count(1)

    def append(self, size: int) -> None:
        """Append in one call."""
        self._recorder.insert_events(
            [
                StoredEvent(
                    originator_id=self._originator,
                    originator_version=next(self._versions),
                    topic=EVENT_TYPE,
                    state=orjson.dumps({"data": DATA, "metadata": METADATA}),
                )
                for _ in range(size)
            ]
        )

    def renew(self) -> None:
        """Connect anew."""
        self._datastore.pool.drain()

    def close(self) -> None:
        """Close its pool."""
        self._datastore.close()


class Ticking(Aggregate):
    """An aggregate to which the same happens over and over."""

    class Ticked(Aggregate.Event):
        """What happens; it changes nothing, so that no time goes into that."""

        data: dict[str, Any]
        metadata: dict[str, Any]

        def apply(self, aggregate: Any) -> None:
            """Leave the aggregate as it is."""

    def tick(self) -> None:
        """Let it happen."""
        self.trigger_event(self.Ticked, data=DATA, metadata=METADATA)


class EventSourcingApplication:
    """``eventsourcing`` as an application uses it: an aggregate, and ``Application.save``."""

    name = "eventsourcing's Application.save"
    table = "application_events"

    def __init__(self, address: str) -> None:
        known = conninfo_to_dict(address)
        names = {"DBNAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
        values = {f"POSTGRES_{name}": str(known.get(key, "")) for name, key in names.items()}
        self._application: Application[uuid.UUID] = Application(
            values
            | {
                "APPLICATION_NAME": "application",
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_PASSWORD": str(known.get("password", "")),
                "POSTGRES_SCHEMA": SCHEMA,
            }
        )
        self._aggregate = Ticking()
        self._application.save(self._aggregate)

    def append(self, size: int) -> None:
        """Let it happen that often and save."""
        for _ in range(size):
            self._aggregate.tick()
        self._application.save(self._aggregate)

    def renew(self) -> None:
        """Connect anew."""
        factory = self._application.factory
        if not isinstance(factory, PostgresFactory):
            raise TypeError("it stores in PostgreSQL")
        factory.datastore.pool.drain()

    def close(self) -> None:
        """Close its pool."""
        self._application.close()


class Plain:
    """One INSERT of all events as one JSON parameter, on a connection that is held."""

    name = "psycopg, one JSON parameter"
    table = "plain"

    def __init__(self, rootstream: RootStream) -> None:
        self._held = Held(rootstream)
        self._versions = itertools.count(1)
        self.renew, self.close = self._held.renew, self._held.close

    def append(self, size: int) -> None:
        """Insert and commit."""
        events = [
            {
                "event_id": uuid.uuid4(),
                "version": next(self._versions),
                "event_type": EVENT_TYPE,
                "data": DATA,
                "metadata": METADATA,
                "occurred_at": datetime.now(UTC),
            }
            for _ in range(size)
        ]
        connection = self._held.connection
        connection.execute(_INSERT, [orjson.dumps(events).decode()]).fetchall()
        connection.commit()


class BareOrm:
    """``Session.add_all`` and a commit."""

    name = "bare ORM, add_all"
    table = "orm"

    class _Event:
        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                setattr(self, name, value)

    def __init__(self, rootstream: RootStream) -> None:
        columns = EventLog.__table__
        if not isinstance(columns, Table):
            raise TypeError("events are mapped to a table")
        self._event = type("Event", (self._Event,), {})
        table = columns.to_metadata(MetaData(), schema=SCHEMA, name=self.table)
        registry().map_imperatively(self._event, table, properties={"metadata_": table.c.metadata})
        self._engine = bare_engine(rootstream)
        self._versions = itertools.count(1)
        self.renew, self.close = self._engine.dispose, self._engine.dispose

    def append(self, size: int) -> None:
        """Insert through the session and commit."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add_all(self._new(next(self._versions)) for _ in range(size))

    def _new(self, version: int) -> object:
        return self._event(
            log_id=0,
            position=version,
            event_id=uuid.uuid4(),
            aggregate_type="Benchmark",
            aggregate_id="orm",
            version=version,
            event_type=EVENT_TYPE,
            schema_version=1,
            data=DATA,
            metadata_=METADATA,
            occurred_at=datetime.now(UTC),
            row_hash=bytes(32),
        )


def count_rows(connection: psycopg.Connection[Any], table: str) -> int:
    """Return how many rows a rival's table has."""
    name = table if "." in table else f"{SCHEMA}.{table}"
    row = connection.execute(f"SELECT count(*) FROM {name}").fetchone()  # noqa: S608 - a constant
    connection.rollback()
    return int(row[0]) if row else 0
