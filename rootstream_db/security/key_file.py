"""A file of master keys: read anew each time, and changed as a whole or not at all."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rootstream_db.errors import ConfigurationError, ConflictError, NotFoundError
from rootstream_db.settings.security import KEY_BYTES, MOST_MASTER_KEYS, parse_master_keys

_PRIVATE: Final = 0o600


class MasterKeyFile:
    """A key source that reads a file in the form of ``security.master_keys``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> Mapping[int, bytes]:
        """Return the keys in the file as it is now.

        Raises:
            ConfigurationError: it cannot be read, or does not hold keys.
        """
        try:
            return parse_master_keys(self.path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            reason = f"{self.path} cannot be read: {error.strerror}"
        except ValueError as error:
            # Its message says which key, never what it is.
            reason = f"{self.path}: {error}"
        raise _wrong(reason)

    def changed_at(self) -> datetime:
        """Return when the file was last changed."""
        return datetime.fromtimestamp(self.path.stat().st_mtime, tz=UTC)

    def add(self) -> int:
        """Add a new random key under the next number and return the number; it seals from now on.

        A file that is not there is made, for its owner alone.

        Raises:
            ConfigurationError: the file cannot be read or written, or holds no keys.
            ConflictError: there is no next number.
        """
        with self._locked():
            keys = dict(self()) if self.path.exists() else {}
            number = max(keys, default=0) + 1
            if number > MOST_MASTER_KEYS:
                raise ConflictError(f"numbers of master keys go up to {MOST_MASTER_KEYS}")
            self._write({**keys, number: secrets.token_bytes(KEY_BYTES)})
        return number

    def drop(self, number: int) -> None:
        """Remove a key; what is still sealed under it is lost.

        Raises:
            ConfigurationError: the file cannot be read or written.
            ConflictError: it is the newest key, which seals.
            NotFoundError: there is no such key.
        """
        with self._locked():
            keys = dict(self())
            if number not in keys:
                raise NotFoundError("master key", number)
            if number == max(keys):
                raise ConflictError(f"master key {number} is the newest and seals: add another one")
            del keys[number]
            self._write(keys)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others from changing the file meanwhile; readers see the old or the new one."""
        try:
            # The folder, because the file itself is replaced.
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _wrong(f"{self.path} cannot be written: {error.strerror}") from error

    def _write(self, keys: Mapping[int, bytes]) -> None:
        lines = [f"{number}:{base64.b64encode(key).decode()}\n" for number, key in keys.items()]
        new = self.path.with_name(f"{self.path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(new, flags, _PRIVATE), "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), _PRIVATE)
            if self.path.exists():
                # Whoever could read the keys before must be able to go on.
                known = self.path.stat()
                os.fchown(file.fileno(), known.st_uid, known.st_gid)
                os.fchmod(file.fileno(), known.st_mode & 0o777)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the master keys: {reason}", setting="security.master_keys")
