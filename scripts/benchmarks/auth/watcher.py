"""Use a session until it is refused, again and again: a process for ``revocation`` to start."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from typing import Any

from rootstream_db import RootStream, Settings
from rootstream_db.errors import SessionRevokedError


def main() -> None:
    """Read settings, then tokens; answer each with ``ready`` and the moment of its refusal."""
    request = json.loads(sys.stdin.readline())
    settings = Settings.model_validate(request["settings"])
    if request["memory_seconds"]:
        memory = {"memory_ttl": timedelta(seconds=request["memory_seconds"])}
        sessions = settings.sessions.model_copy(update=memory)
        settings = settings.model_copy(update={"sessions": sessions})
    with RootStream(settings) as rootstream:
        for line in sys.stdin:
            token = line.strip()
            rootstream.sessions.validate(token)
            _say("ready")
            _say(_refused_at(rootstream, token))


def _refused_at(rootstream: RootStream, token: str) -> float:
    while True:
        try:
            rootstream.sessions.validate(token)
        except SessionRevokedError:
            # The clock of the machine, which is the same in every process.
            return time.monotonic()


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
