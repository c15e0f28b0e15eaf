"""The random keys of an embedded installation: made once, kept beside the data they protect."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.process import Deadline
from rootstream_db.errors import EmbeddedServerError

FOLDER: Final = "secrets"
"""Folder of the keys, below that of the servers."""

_LOCK_SECONDS: Final = 30.0
_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class FolderSecrets:
    """The keys of one folder, in the form in which settings take them."""

    token_peppers: SecretStr
    master_keys: SecretStr
    master_key_file: Path


def folder_secrets(folder: ServerFolder) -> FolderSecrets:
    """Return the keys kept in ``<folder>/secrets``, made at random if there are none.

    Whoever starts at the same time gets the same keys, and a process that is killed leaves a whole
    key or none: a half-written one would lock everybody out of what was encrypted with it.

    Raises:
        EmbeddedServerError: they cannot be read or written.
    """
    with folder.locked(Deadline(_LOCK_SECONDS)), _opened(folder) as directory:
        return FolderSecrets(
            token_peppers=_kept(folder, directory, "token_peppers"),
            master_keys=_kept(folder, directory, "master_keys"),
            master_key_file=folder.path / FOLDER / "master_keys",
        )


@contextmanager
def _opened(folder: ServerFolder) -> Iterator[int]:
    """Open the folder of the keys, which is ours even where a link of that name leads elsewhere."""
    path = folder.path / FOLDER
    try:
        if not path.exists():
            path.mkdir(mode=0o700)
            folder.give_to_owner(path)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise EmbeddedServerError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        yield directory
    finally:
        os.close(directory)


def _kept(folder: ServerFolder, directory: int, name: str) -> SecretStr:
    path = folder.path / FOLDER / name
    try:
        return SecretStr(_read(directory, name))
    except FileNotFoundError:
        key = f"1:{base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode('ascii')}"
    except OSError as error:
        raise EmbeddedServerError(f"{path} cannot be read: {error.strerror}") from error
    try:
        _write(directory, name, key)
    except OSError as error:
        raise EmbeddedServerError(f"{path} cannot be written: {error.strerror}") from error
    folder.give_to_owner(path)
    return SecretStr(key)


def _read(directory: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    with os.fdopen(descriptor, encoding="ascii") as file:
        return file.read().strip()


def _write(directory: int, name: str, text: str) -> None:
    """Write a file that is on the disk as a whole before it has its name."""
    new = f"{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(new, flags, 0o600, dir_fd=directory), "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
