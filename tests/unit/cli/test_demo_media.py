"""The programs beside the demo: what is said when one of them does not work."""

from __future__ import annotations

import sys

import pytest

from rootstream_db.cli.demo import media
from rootstream_db.errors import CommandError


def test_a_program_that_ends_at_once_is_quoted(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('cannot open the log')"]
    with (
        pytest.raises(CommandError, match="cannot open the log") as caught,
        media._running("nginx", command, tmp_path / "log", {}, port=1),
    ):
        pytest.fail("it does not run")
    assert 1 == caught.value.exit_code


def test_a_step_that_never_happens_is_named(monkeypatch):
    monkeypatch.setattr(media, "PATIENCE", 0.1)
    with pytest.raises(CommandError, match="the broadcast is over"):
        media._wait(lambda: False, "the broadcast is over")


def test_without_nginx_there_is_no_real_stream(monkeypatch, tmp_path):
    monkeypatch.setattr(media, "RTMP_MODULE", tmp_path / "missing")
    assert media.find_programs() is None
