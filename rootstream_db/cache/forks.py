"""Gives objects with locks, threads or sockets the chance to start over in a forked child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that holds what a child process must not share with its parent."""

    def after_fork(self) -> None:
        """Forget locks, threads and sockets of the parent; called in the child."""


_known: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def watch_forks(aware: ForkAware) -> None:
    """Call ``aware.after_fork()`` in every child forked while ``aware`` is alive."""
    _known.add(aware)


def _in_child() -> None:
    for aware in list(_known):
        aware.after_fork()


os.register_at_fork(after_in_child=_in_child)
