"""Processes are recognised before they are signalled, and made to end when they will not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootstream_db.embedded import process
from rootstream_db.embedded.process import Deadline, disown, is_server, reap, spawn, terminate
from rootstream_db.embedded.run_as import choose_run_as
from rootstream_db.errors import EmbeddedServerError

DEAF = "trap '' INT QUIT; echo deaf; while :; do sleep 0.05; done"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "321.5"]) as child:
        assert Deadline(10).wait(lambda: is_server(child.pid, "321.5"))
        yield child
        child.kill()


@pytest.fixture
def deaf() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores the polite signals."""
    with subprocess.Popen(["/bin/sh", "-c", DEAF, "mark"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "ps"])
def test_a_process_is_known_by_an_argument(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, *, proc: bool
) -> None:
    if not proc:
        monkeypatch.setattr(process, "_PROC", process._PROC / "missing")
    assert is_server(sleeper.pid, "321.5")
    assert not is_server(sleeper.pid, "another")
    sleeper.kill()
    sleeper.wait()
    assert not is_server(sleeper.pid, "321.5")


def test_a_process_gets_its_whole_configuration_though_its_starter_dies_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = subprocess.Popen, []

    def start_and_die(*arguments: Any, **options: Any) -> None:
        started.append(real(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", start_and_die)
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    config = "port 0\n" * 500
    with pytest.raises(KeyboardInterrupt):
        spawn(
            ["/bin/cat"], mark="cat", log=log, life=log, run_as=choose_run_as(None), config=config
        )
    assert 0 == started[0].wait(10)
    assert config == (tmp_path / "log").read_text(encoding="utf-8")
    os.close(log)


def test_a_configuration_that_no_pipe_holds_is_refused(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    own = choose_run_as(None)
    with pytest.raises(OSError, match="too many"):
        spawn(["/bin/cat"], mark="cat", log=log, life=log, run_as=own, config="x" * 4_000_000)
    os.close(log)


def test_a_process_that_ended_but_was_not_collected_does_not_count_as_alive(
    sleeper: subprocess.Popen[bytes],
) -> None:
    sleeper.send_signal(9)
    assert Deadline(10).wait(lambda: not is_server(sleeper.pid, "321.5"))


def test_terminate_leaves_other_processes_alone(sleeper: subprocess.Popen[bytes]) -> None:
    terminate(sleeper.pid, "another", seconds=0.1)
    assert sleeper.poll() is None


def test_terminate_ends_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    terminate(sleeper.pid, "321.5", seconds=10)
    assert -2 == sleeper.wait()


def test_a_process_that_will_not_end_is_reported(
    deaf: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_QUIT_SECONDS", 0.05)
    with pytest.raises(EmbeddedServerError, match=f"process {deaf.pid} does not stop"):
        terminate(deaf.pid, "mark", seconds=0.05)


def test_collecting_a_process_does_not_wait_for_ever(
    deaf: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_QUIT_SECONDS", 0.05)
    reap(deaf)
    reap(None)
    assert deaf.poll() is None


def test_a_child_left_running_on_purpose_causes_no_warning() -> None:
    program = """
import subprocess, warnings
from rootstream_db.embedded.process import disown
warnings.simplefilter("error")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
child = subprocess.Popen(["/bin/sleep", "321.5"], **quiet)
disown(child)
print(child.pid)
del child
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    os.kill(int(done.stdout), 9)
    assert "" == done.stderr


def test_disowned_children_are_collected_when_they_end(sleeper: subprocess.Popen[bytes]) -> None:
    disown(sleeper)
    assert sleeper in process._disowned
    sleeper.kill()
    sleeper.wait()
    disown(None)
    assert sleeper not in process._disowned
