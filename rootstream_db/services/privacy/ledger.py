"""The erasure ledger outside the database: what a restore brings back is erased again by it.

One JSON object a line. It names persons by a random id that leads nowhere once they are erased.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.repositories.subject_keys import Erasure

_PRIVATE: Final = 0o600


def read_ledger(path: Path) -> Iterator[Erasure]:
    """Yield the entries of a file; one that is not there has none.

    Raises:
        ValidationError: a line is no entry.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield _entry(line, number)


def append_ledger(path: Path, entries: Iterable[Erasure]) -> int:
    """Add the entries that the file does not have, on disk when this returns; return how many.

    Raises:
        ValidationError: the file holds something else.
    """
    known = {entry.subject_id for entry in read_ledger(path)}
    added = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(path, flags, _PRIVATE), "ab") as file:
        for entry in entries:
            if entry.subject_id not in known:
                file.write(orjson.dumps(entry._asdict(), option=orjson.OPT_APPEND_NEWLINE))
                known.add(entry.subject_id)
                added += 1
        file.flush()
        os.fsync(file.fileno())
    return added


def _entry(line: bytes, number: int) -> Erasure:
    try:
        found = orjson.loads(line)
        erased_at = datetime.fromisoformat(found["erased_at"])
        return Erasure(uuid.UUID(found["subject_id"]), erased_at)
    except (ValueError, KeyError, TypeError) as error:
        raise ValidationError(
            f"line {number} of the ledger is no erasure", field="ledger"
        ) from error
