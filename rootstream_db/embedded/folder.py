"""The folder of one embedded server: lock, log, password, marker, and its socket folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rootstream_db.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootstream_db.embedded.process import Deadline
    from rootstream_db.embedded.run_as import RunAs

_MARKER = "rootstream-embedded.json"
_PRIVATE = 0o600
# The longest name a socket gets in its folder, and the least any Unix allows for the whole path.
_SOCKET_NAME = len("/.s.PGSQL.65535")
_SOCKET_PATH = 103


class ServerFolder:
    """Everything on disk that is ours rather than the server's.

    Files here belong to whoever owns the folder, so that a root process leaves nothing behind
    that the folder's owner cannot use. What is opened by name is never followed through a
    symbolic link: the folder may belong to somebody with less rights than the caller.
    """

    def __init__(self, path: Path | str, kind: str) -> None:
        if any(character in str(path) for character in "\0\n\r"):
            msg = "the path of an embedded server may not hold control characters"
            raise EmbeddedServerError(msg)
        self.path = Path(path).expanduser().resolve()
        self.kind = kind

    @property
    def data(self) -> Path:
        """Return the folder the server keeps its data in; nothing in it is ever ours."""
        return self.path / "data"

    @property
    def log(self) -> Path:
        """Return the file the server logs to."""
        return self.path / "server.log"

    def create(self) -> None:
        """Make the folder and what is missing above it, open to being walked through."""
        missing = [step for step in (self.path, *self.path.parents) if not step.exists()]
        for step in reversed(missing):
            step.mkdir(exist_ok=True)
            step.chmod(0o755)
        self._refuse_other_kind()

    @contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
        """Hold the folder's lock: starting, adopting and stopping happen one at a time."""
        descriptor = self.open_private(".lock")
        try:
            if not deadline.wait(lambda: _try_lock(descriptor)):
                msg = f"another process has held {self.path / '.lock'} for {deadline.seconds:g} s"
                raise EmbeddedServerError(msg, path=self.path)
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def open_private(self, name: str, flags: int = os.O_RDWR) -> int:
        """Open one of our files for reading and writing, made with mode 0600 when missing."""
        target = self.path / name
        try:
            descriptor = os.open(target, flags | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE)
        except OSError as error:
            msg = f"{target} cannot be opened: {error.strerror}"
            raise EmbeddedServerError(msg, path=target) from error
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
        descriptor = self.open_private("secret")
        with os.fdopen(descriptor, "r+", encoding="ascii") as file:
            if not (password := file.read().strip()):
                password = secrets.token_urlsafe(24)
                file.write(password + "\n")
        return password

    def read_marker(self) -> dict[str, str]:
        """Return what was written about the data when it was made; empty when there is none."""
        try:
            marker = json.loads((self.path / _MARKER).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return marker if isinstance(marker, dict) else {}

    def write_marker(self, **facts: str) -> None:
        """Write down what made the data."""
        descriptor = self.open_private(_MARKER)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            file.truncate()
            json.dump({"kind": self.kind, **facts}, file)

    def socket_folder(self, run_as: RunAs) -> Path:
        """Return the folder for this server's socket, made private to the server's account.

        It cannot be in the server's folder: a socket's path may only be about a hundred bytes.
        """
        name = "rsdb-" + hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve()):
            folder = parent / name
            fits = len(os.fsencode(folder)) + _SOCKET_NAME <= _SOCKET_PATH
            if fits and run_as.unreachable_part(parent) is None:
                _make_private(folder, run_as)
                return folder
        msg = f"no temporary folder that {run_as.name} can use with a path short enough for a socket"
        raise EmbeddedServerError(msg)

    def _refuse_other_kind(self) -> None:
        kind = self.read_marker().get("kind", self.kind)
        if kind != self.kind:
            msg = f"{self.path} belongs to an embedded {kind} server: give {self.kind} its own folder"
            raise EmbeddedServerError(msg, path=self.path)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_private(folder: Path, run_as: RunAs) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid not in (run_as.uid, os.geteuid()):
        msg = f"{folder} is in the way: it belongs to another account; remove it"
        raise EmbeddedServerError(msg, path=folder)
    run_as.own(folder)
    folder.chmod(0o700)
