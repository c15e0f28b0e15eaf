"""The folder of one embedded server: lock, password, marker, and who may enter it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rootstream_db.embedded.process import Deadline
from rootstream_db.errors import EmbeddedServerError

_MARKER = "rootstream-embedded.json"


class ServerFolder:
    """Everything on disk that is ours rather than the server's.

    Files here belong to whoever owns the folder, so that a root process leaves nothing behind
    that the folder's owner cannot use. What is opened by name is never followed through a
    symbolic link: the folder may belong to somebody with less rights than the caller.
    """

    def __init__(self, path: Path | str, kind: str) -> None:
        if any(character in str(path) for character in "\0\n\r"):
            raise EmbeddedServerError("the path of an embedded server has a control character")
        self.path = Path(path).expanduser().resolve()
        self.kind = kind

    @property
    def data(self) -> Path:
        """Return the folder the server keeps its data in; nothing in it is ever ours."""
        return self.path / "data"

    def create(self) -> None:
        """Make the folder and what is missing above it, so that the server can walk in."""
        missing = [step for step in (self.path, *self.path.parents) if not step.exists()]
        for step in reversed(missing):
            step.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                step.chmod(0o755)
        self._let_walk_through()
        self._refuse_other_kind()

    @contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
        """Hold the folder's lock: starting, adopting and stopping happen one at a time."""
        descriptor = self.open_private(".lock")
        try:
            if not deadline.wait(lambda: try_lock(descriptor)):
                raise EmbeddedServerError(
                    f"another process has held {self.path / '.lock'} for {deadline.seconds:g} s",
                    path=self.path,
                )
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def hold_life(self) -> int | None:
        """Return a descriptor whose lock says that a server lives here; None when one does.

        The server's processes inherit it, so the kernel gives the lock up with the last of them.
        It tells what a pid cannot: backends that outlive a killed postmaster, a server in another
        container that shares the folder.
        """
        descriptor = self.open_private(".life")
        if try_lock(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    def open_private(self, name: str, flags: int = os.O_RDWR) -> int:
        """Open one of our files, made with mode 0600 when missing."""
        target = self.path / name
        try:
            descriptor = os.open(target, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EmbeddedServerError(
                f"{target} cannot be opened: {error.strerror}", path=target
            ) from error
        owner = self.path.stat()
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    def give_to_owner(self, path: Path) -> None:
        """Make a file of ours belong to the folder's owner."""
        if os.geteuid() == 0:
            owner = self.path.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def secret(self) -> str:
        """Return the random password of this server's port, made on first use."""
        with os.fdopen(self.open_private("secret"), "r+") as file:
            if not (password := file.read().strip()):
                password = secrets.token_urlsafe(24)
                file.write(password + "\n")
        return password

    def has_secret(self) -> bool:
        """Return whether the password was made already."""
        return (self.path / "secret").exists()

    def write_marker(self, **facts: str) -> None:
        """Write down what made the data."""
        self.write_facts(_MARKER, {"kind": self.kind, **facts})

    def marker(self) -> dict[str, Any]:
        """Return what was written down when the data was made; empty when there is none."""
        return self.read_facts(_MARKER)

    def write_facts(self, name: str, facts: dict[str, Any]) -> None:
        """Write a small file that is there as a whole or not at all, whenever we are killed."""
        new = f"{name}.new"
        with os.fdopen(self.open_private(new, os.O_WRONLY | os.O_TRUNC), "w") as file:
            json.dump(facts, file)
        (self.path / new).replace(self.path / name)

    def read_facts(self, name: str) -> dict[str, Any]:
        """Return what such a file says; nothing when there is none."""
        try:
            facts = json.loads((self.path / name).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _let_walk_through(self) -> None:
        """Let root's unprivileged servers into a folder that is ours alone, such as mkdtemp's."""
        state = self.path.stat()
        ours = not any(self.path.iterdir()) or (self.path / _MARKER).exists()
        if os.geteuid() == 0 == state.st_uid and ours:
            self.path.chmod(stat.S_IMODE(state.st_mode) | 0o011)

    def _refuse_other_kind(self) -> None:
        kind = self.marker().get("kind", self.kind)
        if kind != self.kind:
            raise EmbeddedServerError(
                f"{self.path} belongs to an embedded {kind}: give {self.kind} a folder of its own",
                path=self.path,
            )


def try_lock(descriptor: int) -> bool:
    """Take an exclusive flock if nobody holds one; a shared one held before may be lost."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
