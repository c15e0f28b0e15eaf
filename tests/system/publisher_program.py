"""A media server of its own process: does what its standard input says, one JSON line an answer.

Commands: ``start``, ``heartbeat``, ``disconnect``, ``stop``, and ``busy``, which publishes over and
over until somebody kills it. The key is the first line, because arguments are public.
"""

from __future__ import annotations

import json
import os
import sys

from rootstream_db.errors import RootStreamError
from rootstream_db.rootstream import RootStream
from rootstream_db.services.streams import Lease, StreamManager


def main() -> None:
    with RootStream.from_env() as rootstream:
        key = sys.stdin.readline().strip()
        publisher = Publisher(rootstream.streams, key)
        say({"ready": publisher.node})
        for line in sys.stdin:
            say(publisher.answer(line.strip()))


class Publisher:
    """Holds one lease at most."""

    def __init__(self, streams: StreamManager, key: str) -> None:
        self.streams = streams
        self.key = key
        self.node = f"node-{os.getpid()}"
        self.lease: Lease | None = None

    def answer(self, command: str) -> dict[str, object]:
        try:
            if command == "busy":
                self.publish_for_ever()
            elif command == "start":
                self.lease = self.streams.start(self.key, node=self.node)
            elif self.lease is not None:
                getattr(self.streams, command)(self.lease)
        except RootStreamError as error:
            return {"error": error.code}
        return {"epoch": self.lease.epoch if self.lease is not None else None}

    def publish_for_ever(self) -> None:
        while True:
            lease = self.streams.start(self.key, node=self.node)
            for sent in range(5):
                self.streams.heartbeat(lease, bytes_in=sent)
            self.streams.disconnect(lease)
            say({"round": lease.epoch})


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
