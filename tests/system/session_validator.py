"""A process of ``test_session_revocation``, told what to do by lines of JSON.

``watch`` validates a token again and again, prints ``holds`` when it was let in for the first time,
and ``refused TIME`` when it no longer is, with the moment on the system's monotonic clock.
``revoke`` ends the session and prints how many that were; ``revoke-and-die`` is killed between the
commit and the word of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

from rootstream_db.errors import AuthenticationError
from rootstream_db.rootstream import RootStream
from rootstream_db.services.sessions.endings import Endings
from rootstream_db.settings import SessionSettings
from rootstream_db.testing import settings_for


def watch(site: RootStream, token: str) -> None:
    site.sessions.validate(token)
    say("holds")
    while True:
        try:
            site.sessions.validate(token)
        except AuthenticationError:
            say(f"refused {time.monotonic()}")
            return
        time.sleep(0.002)


def revoke(site: RootStream, token: str) -> None:
    say(f"revoked {site.sessions.revoke(token).revoked}")


def revoke_and_die(site: RootStream, token: str) -> None:
    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    # What follows the commit.
    Endings._over = die  # type: ignore[method-assign]  # the point at which to die
    site.sessions.revoke(token)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


COMMANDS = {"watch": watch, "revoke": revoke, "revoke-and-die": revoke_and_die}


def obey(order: dict[str, Any]) -> None:
    settings = settings_for(order["database"], order["redis"])
    sessions = SessionSettings(
        max_stale=timedelta(seconds=order["max_stale"]),
        memory_ttl=timedelta(seconds=order["memory_ttl"]),
    )
    with RootStream(settings.model_copy(update={"sessions": sessions})) as site:
        COMMANDS[order["do"]](site, order["token"])


if __name__ == "__main__":
    for line in sys.stdin:
        obey(json.loads(line))
