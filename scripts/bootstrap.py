"""Make .venv hold exactly what scripts/constraints.txt pins; the standard library is all it needs.

scripts/setup finds a Python and runs this; scripts/demo, scripts/test and scripts/check call that
first, so it must cost next to nothing when there is nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parent.parent
FAILED = 1
UNSUITABLE_MACHINE = 78  # EX_CONFIG of sysexits.h


class SetupError(Exception):
    """Setting up cannot go on; the message says what the reader can do."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring .venv up to date and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument(
        "--exact", action="store_true", help="rebuild .venv if another Python version made it"
    )
    options = parser.parse_args(arguments)
    environment = Environment(CHECKOUT)
    try:
        with _one_at_a_time(CHECKOUT):
            environment.refresh(exact=options.exact)
    except SetupError as error:
        _say(str(error))
        return error.exit_code
    return 0


class Environment:
    """The virtual environment of one checkout, and the stamp that tells what was installed."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.folder = checkout / ".venv"
        self.python = self.folder / "bin" / "python"
        self.log = self.folder / "setup.log"
        self._stamp = self.folder / "rootstream-setup.json"

    def refresh(self, *, exact: bool = False) -> None:
        """Create, rebuild or update what is needed, and nothing else."""
        wanted = self.wanted()
        if reason := self._why_unusable(exact=exact):
            self._remove(reason)
        elif self._read_stamp() == wanted:
            return
        if not self.folder.exists():
            self._create()
        self._install()
        self._stamp.write_text(json.dumps(wanted), encoding="utf-8")
        _say("ready")

    def wanted(self) -> dict[str, str]:
        """Return what a finished environment of this checkout has in its stamp."""
        return {"folder": str(self.folder), "contents": contents_digest(self.checkout)}

    def _why_unusable(self, *, exact: bool) -> str:
        """Return why the environment must be built anew, or nothing if it can be kept."""
        if not os.path.lexists(self.folder):
            return ""
        home = self._read_stamp().get("folder") or self._folder_in_activate()
        if home != str(self.folder):
            return "it was made elsewhere (a copied or moved checkout)"
        version = self._python_version()
        if version is None:
            return "its Python does not run here (another user's, or upgraded away)"
        if version < (3, 11) or (exact and version != sys.version_info[:2]):
            return f"it has Python {version[0]}.{version[1]}"
        return ""

    def _folder_in_activate(self) -> str:
        """Return where the environment was made, for one that has no stamp yet."""
        with contextlib.suppress(OSError):
            script = (self.folder / "bin" / "activate").read_text(encoding="utf-8")
            if f"VIRTUAL_ENV='{self.folder}'" in script or str(self.folder) in script:
                return str(self.folder)
        return ""

    def _python_version(self) -> tuple[int, int] | None:
        program = "import sys, pip; print(*sys.version_info[:2])"
        try:
            answer = subprocess.run(
                [self.python, "-I", "-c", program], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        major, minor = answer.stdout.split()
        return int(major), int(minor)

    def _read_stamp(self) -> dict[str, str]:
        try:
            stamp = json.loads(self._stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _remove(self, reason: str) -> None:
        _say(f"building .venv anew: {reason}")
        try:
            if self.folder.is_symlink():
                self.folder.unlink()
            else:
                shutil.rmtree(self.folder)
        except OSError as error:
            owner = _owner(self.folder)
            raise SetupError(
                f"cannot remove .venv of {owner}: {error.strerror}. "
                f"Remove it as {owner}, or use a checkout of your own."
            ) from error

    def _create(self) -> None:
        if importlib.util.find_spec("ensurepip") is None:
            raise SetupError(_missing_venv(), UNSUITABLE_MACHINE)
        _say(f"creating .venv with Python {sys.version.split()[0]}")
        base = getattr(sys, "_base_executable", None) or sys.executable
        try:
            self.folder.mkdir()
            self._run([base, "-I", "-m", "venv", self.folder], "creating .venv")
        except (OSError, SetupError) as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            if isinstance(error, SetupError):
                raise
            raise SetupError(f"cannot create .venv: {error.strerror}") from error

    def _install(self) -> None:
        self.log.unlink(missing_ok=True)
        count = sum(1 for _ in pinned_names(self.checkout))
        _say(f"installing {count} pinned packages (about a minute the first time)")
        pip: list[str | Path] = [self.python, "-I", "-m", "pip", "install", "--quiet", "--no-deps"]
        self._run(
            [*pip, "-r", self.checkout / "scripts" / "constraints.txt"], "installing packages"
        )
        # Hatchling was pinned and installed above: no second download, no second version.
        self._run([*pip, "--no-build-isolation", "-e", self.checkout], "installing rootstream-db")

    def _run(self, command: Sequence[str | Path], doing: str) -> None:
        ignored = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_HASHES"}
        environment = {key: value for key, value in os.environ.items() if key not in ignored}
        environment |= {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        try:
            with self.log.open("a", encoding="utf-8") as log:
                subprocess.run(
                    command, stdout=log, stderr=log, env=environment, cwd=self.checkout, check=True
                )
        except (OSError, subprocess.CalledProcessError) as error:
            raise SetupError(f"{doing} failed\n{self._end_of_log(error)}") from error

    def _end_of_log(self, error: Exception) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        except OSError:
            lines = []
        return "\n".join(f"  {line}" for line in lines or [str(error)])


def contents_digest(checkout: Path) -> str:
    """Return a digest of all that decides what is installed; lint settings are not part of it."""
    pins = (checkout / "scripts" / "constraints.txt").read_bytes()
    tables = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    package = [tables["build-system"], tables["project"], tables["tool"].get("hatch")]
    return hashlib.sha256(pins + json.dumps(package, sort_keys=True).encode()).hexdigest()


def pinned_names(checkout: Path) -> Iterator[str]:
    """Yield the name of each package that scripts/constraints.txt pins."""
    lines = (checkout / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if "==" in line:
            yield line.split("==")[0]


@contextlib.contextmanager
def _one_at_a_time(checkout: Path) -> Iterator[None]:
    """Let a second set-up of the same checkout wait for the first one's result."""
    with (checkout / "scripts" / "constraints.txt").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _missing_venv() -> str:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"Python {version} is here, but not its venv module. On Debian or Ubuntu:\n"
        f"  apt-get install python{version}-venv"
    )


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"


def _say(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
