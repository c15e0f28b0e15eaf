"""The queue that keeps long work out of hooks."""

from __future__ import annotations

import logging
import threading

import pytest

from rootstream_db.errors import ConfigurationError, DatabaseUnavailableError
from rootstream_db.services.ingest import backlog as module
from rootstream_db.services.ingest.backlog import Backlog
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest

YES = Decision(allow=True, reason="the recording is registered")


def request(event: HookEvent = HookEvent.RECORD_DONE, file: str = "a.flv") -> IngestRequest:
    return IngestRequest(event=event, node="edge-1", connection_id="17", file_path=file)


class Worker:
    """Notes what it is given and fails as often as told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.done: list[str | None] = []
        self.called = threading.Event()

    def authorize(self, request: IngestRequest) -> Decision:
        self.called.set()
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(request.file_path)
        return YES


@pytest.mark.parametrize("event", sorted(set(HookEvent) - {HookEvent.RECORD_DONE}))
def test_other_hooks_are_decided_at_once(event: HookEvent):
    worker = Worker()

    assert YES == Backlog(worker.authorize).authorize(request(event))
    assert ["a.flv"] == worker.done


def test_recordings_are_registered_in_the_order_they_came():
    worker = Worker()

    with Backlog(worker.authorize) as backlog:
        for name in ("a.flv", "b.flv", "c.flv"):
            backlog.authorize(request(file=name))

    assert ["a.flv", "b.flv", "c.flv"] == worker.done


def test_a_database_that_is_away_is_waited_for():
    away = DatabaseUnavailableError("no connection")
    worker = Worker(away, away)

    with Backlog(worker.authorize, retry_seconds=0.001) as backlog:
        backlog.authorize(request())

    assert ["a.flv"] == worker.done


@pytest.mark.parametrize("failure", [ConfigurationError("no directory"), RuntimeError("a bug")])
def test_what_cannot_succeed_is_logged_and_the_next_one_goes_on(
    failure: Exception, caplog: pytest.LogCaptureFixture
):
    worker = Worker(failure)

    with Backlog(worker.authorize) as backlog:
        backlog.authorize(request(file="a.flv"))
        backlog.authorize(request(file="b.flv"))

    assert ["b.flv"] == worker.done
    assert "a.flv" in caplog.text
    assert str(failure) in caplog.text


def test_closing_does_not_wait_for_ever_and_says_what_is_lost(caplog: pytest.LogCaptureFixture):
    worker = Worker(*[DatabaseUnavailableError("no connection")] * 1000)

    with Backlog(worker.authorize, retry_seconds=60, close_seconds=0.01) as backlog:
        backlog.authorize(request(file="a.flv"))
        backlog.authorize(request(file="b.flv"))
        assert worker.called.wait(10)

    backlog._thread.join(10)
    assert [] == worker.done
    assert "recording not registered, shutting down: b.flv" in caplog.text


def test_a_full_queue_refuses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LONGEST", 1)
    backlog = Backlog(Worker().authorize)

    assert backlog.authorize(request()).allow
    assert not backlog.authorize(request()).allow


def test_refusals_are_logged(caplog: pytest.LogCaptureFixture):
    with (
        caplog.at_level(logging.WARNING),
        Backlog(
            lambda _: Decision(allow=False, reason="no broadcast belongs to the recording")
        ) as backlog,
    ):
        backlog.authorize(request())

    assert "no broadcast belongs to the recording" in caplog.text


def test_closing_what_never_began_is_allowed():
    Backlog(Worker().authorize).close()
