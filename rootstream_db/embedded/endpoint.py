"""The values that starting a server is about: how it is wanted, launched, and found."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rootstream_db.embedded.run_as import RunAs

Mode: TypeAlias = Literal["owned", "shared"]
"""How long a server lives: while somebody uses it, or until ``shutdown()``."""


@dataclass(frozen=True)
class Options:
    """How a server is wanted, whichever it is."""

    port: int | None
    tcp: bool
    mode: Mode
    run_as: str | None
    start_timeout: float
    stop_timeout: float


@dataclass(frozen=True)
class Launch:
    """What one attempt to start a server is given: account, socket folder, port, descriptors."""

    run_as: RunAs
    sockets: Path
    port: int | None
    log: int
    life: int


@dataclass(frozen=True)
class Endpoint:
    """Where a running server is found: its process, its socket's folder and its TCP port."""

    pid: int
    sockets: Path
    port: int | None


class PortTakenError(Exception):
    """Somebody else listens on the port; another one may be tried."""

    def __init__(self, kind: str, port: int) -> None:
        super().__init__(f"port {port} of 127.0.0.1 is taken: the embedded {kind} cannot use it")
        self.port = port


def free_port() -> int:
    """Return a port of 127.0.0.1 nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
