"""What killed test runs leave in memory-backed storage is deleted, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootstream_db.testing import ThrowawayServers
from tests.fixtures.servers import is_held, sweep


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The folder of a run that is gone, old enough not to be one that starts."""
    folder = tmp_path / "rootstream-test-1"
    (folder / "postgres" / "data").mkdir(parents=True)
    (folder / "postgres" / ".life").touch()
    os.utime(folder, (0, 0))
    return folder


def test_the_folder_of_a_run_that_is_gone_is_deleted(left: Path):
    sweep(left.parent)
    assert not left.exists()


def test_the_folder_of_a_run_that_has_just_begun_stays(left: Path):
    os.utime(left)
    sweep(left.parent)
    assert left.exists()


def test_the_folder_of_servers_that_run_stays(servers: ThrowawayServers, tmp_path: Path):
    running = servers.postgres.path.parent
    assert is_held(servers.postgres.path / ".life")
    (tmp_path / "rootstream-test-2").symlink_to(running)
    before = running.stat().st_mtime
    os.utime(running, (0, 0))
    sweep(tmp_path)
    os.utime(running, (before, before))
    assert servers.postgres.is_running()
    assert (servers.postgres.path / "data").exists()


def test_folders_of_others_stay(left: Path):
    other = left.parent / "something-else"
    left.rename(other)
    sweep(left.parent)
    assert other.exists()
