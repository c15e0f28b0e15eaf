"""The repository holds what it should: nothing of the machine it was written on, nothing stray."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "LICENSE",
    "README.md",
    "alembic",
    "alembic.ini",
    "docs",
    "pyproject.toml",
    "rootstream_db",
    "scripts",
    "tests",
}
# Character classes keep this file from containing what it looks for.
TRACES = {
    "a path of one machine": re.compile(r"(?<![\w.~-])[/](?:work|tmp/w|root/\.\w+|home/\w+)/"),
    "the host of a package registry": re.compile(r"(?:pypi|pythonhosted|npmjs)[.](?:org|com)"),
    "a private key": re.compile(r"-{5}BEGIN [A-Z ]*PRIVATE KEY-{5}"),
}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".ini",
    ".cfg",
    ".yml",
    ".yaml",
    ".sql",
    ".mako",
    ".json",
    "",
}


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        pytest.skip("what is tracked is known to git alone, in a clone")
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listing.stdout.split("\0") if name and (CHECKOUT / name).is_file()]


def test_nothing_stray_is_at_the_top(tracked: list[str]):
    assert set() == {name.split("/")[0] for name in tracked} - TOP_LEVEL


@pytest.mark.parametrize("trace", TRACES)
def test_no_tracked_file_contains(trace: str, tracked: list[str]):
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name in tracked
        if Path(name).suffix in TEXT
        for number, line in enumerate(_lines(name), start=1)
        if TRACES[trace].search(line)
    ]

    assert not found, f"{trace}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("trace", "pieces"),
    [
        ("a path of one machine", ("see ", "work", "notes.txt")),
        ("a path of one machine", ("cd ", "home", "alice", "rootstream")),
        ("the host of a package registry", ("--index-url=pypi", "org/simple")),
        ("a private key", ("-----BEGIN EC PRIV", "ATE KEY-----")),
    ],
)
def test_a_trace_is_recognised(trace: str, pieces: tuple[str, ...]):
    joint = {"a path of one machine": "/", "a private key": ""}.get(trace, ".")

    assert TRACES[trace].search(joint.join(pieces))


def test_folders_that_must_not_be_packages_are_none(tracked: list[str]):
    """alembic/__init__.py would hide Alembic; test folders are imported by path."""
    packages = {"tests/__init__.py", "tests/fixtures/__init__.py"}

    assert [] == [
        name
        for name in tracked
        if name.endswith("__init__.py")
        and name.startswith(("alembic/", "tests/", "scripts/", "docs/"))
        and name not in packages
    ]


def test_programs_can_be_run():
    programs = [CHECKOUT / "scripts" / name for name in ("setup", "demo", "test", "check", "bench")]
    programs.append(CHECKOUT / ".ci" / "run")

    assert [] == [str(program) for program in programs if not program.stat().st_mode & 0o100]


def _lines(name: str) -> list[str]:
    return (CHECKOUT / name).read_text(encoding="utf-8", errors="replace").splitlines()
