"""The sixty-second trial, as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootstream_db.cli.demo.command import report
from rootstream_db.cli.demo.media import find_programs
from rootstream_db.cli.demo.told import Check, Told
from rootstream_db.cli.output import Output

DEMO = [sys.executable, "-c", "from rootstream_db.cli.app import main; main()", "demo"]
SMALL = ["--streams", "2", "--viewers", "300", "--seconds", "2", "--rate", "2000"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *SMALL, *arguments], capture_output=True, text=True, timeout=110, check=False
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server's unprivileged account may enter, unlike tmp_path."""
    made = Path(tempfile.mkdtemp(prefix="rootstream-demo-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.mark.slow
def test_every_total_agrees_in_the_same_folder_twice(folder):
    for _ in range(2):
        result = run("--no-media", "--json", "--path", str(folder))
        assert 0 == result.returncode, result.stderr
        summary = json.loads(result.stdout)
        assert summary["agrees"] is True
        told = {check["total"]: check["told"] for check in summary["checks"]}
        assert 2 == told["broadcasts ended"]
        assert 0 < told["viewer heartbeats"]


@pytest.mark.slow
@pytest.mark.media
def test_a_real_stream_is_pushed_where_the_programs_are_installed():
    if find_programs() is None:
        pytest.skip("nginx with its RTMP module and ffmpeg are not both installed")
    result = run("--json")
    assert 0 == result.returncode, result.stderr
    checks = {check["total"]: check for check in json.loads(result.stdout)["checks"]}
    assert 0 < checks["real stream: recorded bytes"]["told"]
    assert 3 == checks["broadcasts ended"]["told"]


def test_a_total_that_disagrees_fails_the_demo(capsys):
    found = [Check("viewer heartbeats", told=10, found=9), Check("streams", told=1, found=1)]
    assert 1 == report(Output(), told=Told(), seconds=1.0, found=found)
    captured = capsys.readouterr()
    assert "no" in captured.out
    assert "disagree" in captured.err


def test_totals_that_agree_end_well_and_say_where_to_go_on(capsys):
    told = Told()
    told.add(heartbeats=500)
    found = [Check("viewer heartbeats", told=500, found=500)]
    assert report(Output(), told=told, seconds=0.5, found=found) is None
    captured = capsys.readouterr()
    assert "1,000 viewer updates a second" in captured.err
    assert "docs/tutorial" in captured.err
