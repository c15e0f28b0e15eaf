"""Folders for unix sockets: short, private to the server's account, and cleared after crashes.

A socket cannot be in the server's own folder, because its path may only be about a hundred bytes.
All work on an existing folder goes through its descriptor: the parent is open to everybody, and a
name checked first and used later could mean another folder by then.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rootstream_db.embedded.run_as import RunAs
from rootstream_db.errors import EmbeddedServerError

_PREFIX = "rsdb-"
_OWNER = "owner"
_GRACE_SECONDS = 3600
_LONGEST_NAME = len("/.s.PGSQL.65535")
# What every Unix allows for a socket's path, less the final zero: 104 on macOS, 108 on Linux.
_LONGEST_PATH = 103
_ALWAYS_THERE = Path("/tmp")  # noqa: S108 - a private folder inside is made and verified


def make_socket_folder(path: Path, run_as: RunAs) -> Path:
    """Return the empty socket folder of the server in ``path``, readable by its account alone.

    Raises:
        EmbeddedServerError: there is no place for it, or somebody else's folder is in the way.
    """
    for parent in _parents():
        folder = parent / f"{_PREFIX}{_key(path)}"
        fits = len(os.fsencode(folder)) + _LONGEST_NAME <= _LONGEST_PATH
        if fits and run_as.unreachable_part(parent) is None:
            _make_private(folder, run_as, path)
            _sweep(parent, before=folder.stat().st_mtime - _GRACE_SECONDS)
            return folder
    raise EmbeddedServerError(
        f"no temporary folder with a path short enough for a socket is open to {run_as.name}"
    )


def _key(path: Path) -> str:
    """Return a short name for a folder; the same path in another container is another one."""
    state = path.stat()
    identity = b"%b\0%d:%d" % (os.fsencode(path), state.st_dev, state.st_ino)
    return hashlib.sha256(identity).hexdigest()[:12]


def remove_socket_folder(folder: Path) -> None:
    """Remove the socket folder of a server that has stopped."""
    if folder.name.startswith(_PREFIX) and folder.parent in _parents():
        shutil.rmtree(folder, ignore_errors=True)


def _parents() -> tuple[Path, ...]:
    return (Path(tempfile.gettempdir()).resolve(), _ALWAYS_THERE.resolve())


def _make_private(folder: Path, run_as: RunAs, path: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    with _opened(folder) as descriptor:
        if os.geteuid() not in {0, os.fstat(descriptor).st_uid}:
            raise EmbeddedServerError(
                f"{folder} belongs to another account: remove it, or set TMPDIR", path=folder
            )
        os.fchmod(descriptor, 0o700)
        _empty(descriptor)
        _write_owner(descriptor, path)
        if run_as.switch:
            os.fchown(descriptor, run_as.uid, run_as.gid)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise EmbeddedServerError(
            f"{folder} cannot be used: {error.strerror}", path=folder
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _empty(descriptor: int) -> None:
    """Remove what a crashed server left, whose pid may belong to somebody else by now."""
    for name in os.listdir(descriptor):
        with suppress(IsADirectoryError):
            os.unlink(name, dir_fd=descriptor)


def _write_owner(descriptor: int, path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(_OWNER, flags, 0o600, dir_fd=descriptor), "wb") as file:
        file.write(os.fsencode(path))


def _sweep(parent: Path, *, before: float) -> None:
    """Remove socket folders whose server's folder is gone and on which nobody listens.

    Young ones stay: a container that shares the temporary folder may be starting a server in a
    folder that cannot be seen from here.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, EmbeddedServerError):
            old = folder.stat().st_mtime < before
            if old and not _path_of(folder).exists() and not _somebody_listens(folder):
                shutil.rmtree(folder)


def _path_of(folder: Path) -> Path:
    with _opened(folder) as descriptor:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(_OWNER, flags, dir_fd=descriptor), "rb") as file:
            return Path(os.fsdecode(file.read(4096)))


def _somebody_listens(folder: Path) -> bool:
    return any(_answers(entry) for entry in folder.iterdir() if entry.is_socket())


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
