"""A process of ``test_key_rotation``: seals and opens in two threads until standard input ends.

It prints a line after each round of calls, and at the end how many calls there were, what failed
and which key sealed last.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import uuid

from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.webhooks.signing import EndpointSecrets, key_of

ROUND = 5


def use(rs: RootStream, stop: threading.Event, failures: list[str], counts: list[int]) -> None:
    secrets = EndpointSecrets(lambda: rs.keyring)
    known: list[tuple[int, SecretText]] = []
    while not stop.is_set():
        try:
            subject = uuid.uuid4()
            with rs.transaction() as work:
                event = rs.events.append(
                    work,
                    "Member",
                    str(subject),
                    "Joined",
                    {},
                    personal={"n": 1},
                    subject_id=subject,
                )
                if len(known) < 20:
                    endpoint, secret = rs.webhooks.add(work, "https://example.com/")
                    known.append((endpoint.id, secret))
            # As a process that has not seen these keys yet.
            rs.subjects.after_fork()
            (*_, last) = rs.events.read_all(after_position=max((event.position or 0) - 3, 0))
            assert rs.events.personal_of(last) in ({"n": 1}, {})
            with rs.database.read() as work:
                endpoint_id, secret = random.choice(known)
                assert key_of(secret) == secrets.of(work.webhook_endpoints.get_one(endpoint_id))
        except Exception as error:  # noqa: BLE001 - every failure is a finding
            failures.append(f"{type(error).__name__}: {error}")
        counts.append(1)
        if len(counts) % ROUND == 0:
            sys.stdout.write(json.dumps({"calls": len(counts)}) + "\n")
            sys.stdout.flush()


def main() -> None:
    stop, failures, counts = threading.Event(), list[str](), list[int]()
    with RootStream.from_env() as rs:
        threads = [
            threading.Thread(target=use, args=(rs, stop, failures, counts)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stop.set()
        for thread in threads:
            thread.join()
        end = {"end": True, "calls": len(counts), "failures": failures, "key": rs.keyring.writer}
    sys.stdout.write(json.dumps(end) + "\n")


if __name__ == "__main__":
    main()
