"""Processes for crash tests: ``writer URL NAME QUOTA SIZE`` and ``reader URL [DIRECTORY]``.

A writer appends QUOTA numbered events, up to SIZE in a unit, rolls some units back, lingers before
some commits, and prints after each commit how many it knows to be written. A reader follows the log
until it sees the event ``End`` and prints what it saw; archived events it finds in the directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sys
from pathlib import Path

from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.services.event_archive import ArchiveReader
from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.testing import settings_for


def write(events: EventStore, database: Database, name: str, quota: int, size: int) -> None:
    chance, done = random.Random(name), 0
    while done < quota:
        count = min(chance.randint(1, size), quota - done)
        batch = [
            NewEvent(event_type="Written", data={"writer": name, "n": done + number})
            for number in range(count)
        ]
        with contextlib.suppress(ZeroDivisionError):
            with database.transaction() as work:
                events.append_many(work, "Stream", str(chance.randrange(50)), batch)
                if chance.random() < 0.3:
                    events.flush(work)
                    pause = {"seconds": chance.choice([0, 0.002, 0.01])}
                    work.session.execute(text("SELECT pg_sleep(:seconds)"), pause)
                if chance.random() < 0.15:
                    raise ZeroDivisionError
            done += count
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()


def read(events: EventStore) -> None:
    digest, count = hashlib.sha256(), 0
    wrong: list[list[int]] = []
    for event in events.follow(batch=random.choice([7, 100, 1000])):
        count += 1
        if event.position != count and len(wrong) < 10:
            wrong.append([count, event.position])
        digest.update(event.event_id.bytes)
        if event.event_type == "End":
            break
    sys.stdout.write(json.dumps({"count": count, "digest": digest.hexdigest(), "wrong": wrong}))


def main(role: str, url: str, *arguments: str) -> None:
    with Database(settings_for(url, "redis://nowhere.invalid").database) as database:
        directory = Path(arguments[0]) if role == "reader" and arguments else None
        events = EventStore(database, archive=ArchiveReader(directory))
        if role == "writer":
            name, quota, size = arguments
            write(events, database, name, int(quota), int(size))
        else:
            read(events)


if __name__ == "__main__":
    main(*sys.argv[1:])
