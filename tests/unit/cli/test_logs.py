"""What long-running commands write to stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from rootstream_db.cli.logs import write_logs
from rootstream_db.correlation import correlation
from rootstream_db.settings import LoggingSettings

logger = logging.getLogger("rootstream_db.test")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("rootstream_db")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_people_read_a_time_a_level_and_the_message(capsys: pytest.CaptureFixture[str]):
    write_logs(LoggingSettings(level="INFO", format="console"))

    logger.info("hook allowed")
    logger.debug("not written")
    logging.getLogger("alembic").info("not written either")

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO    hook allowed")
    assert line[:2] == "20"


def test_programs_read_one_object_a_line(capsys: pytest.CaptureFixture[str]):
    write_logs(LoggingSettings(level="INFO", format="json"))

    with correlation("edge-1/17"):
        logger.warning("hook %s", "refused", extra={"hook": {"event": "publish", "stream": None}})

    (line,) = capsys.readouterr().err.splitlines()
    written = json.loads(line)
    assert written.pop("@timestamp").endswith("+00:00")
    assert {
        "log.level": "warning",
        "log.logger": "rootstream_db.test",
        "message": "hook refused",
        "trace.id": "edge-1/17",
        "hook.event": "publish",
    } == written


def test_a_failure_keeps_its_traceback_in_the_one_line(capsys: pytest.CaptureFixture[str]):
    write_logs(LoggingSettings(format="json"))

    try:
        int("a bug")
    except ValueError:
        logger.exception("unexpected failure")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["error.stack_trace"]
