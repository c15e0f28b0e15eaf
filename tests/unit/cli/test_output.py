"""How a command speaks to people, to pipes and to programs."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rootstream_db.cli.exit_codes import ExitCode, exit_code_for
from rootstream_db.cli.output import Output, one_line
from rootstream_db.errors import (
    ConfigurationError,
    ConflictError,
    DatabaseUnavailableError,
    NotFoundError,
    SchemaError,
    ValidationError,
)


def on_a_terminal(output: Output) -> io.StringIO:
    """Make the output believe that a person watches its messages."""
    seen = io.StringIO()
    output.messages = Console(file=seen, force_terminal=True, width=80)
    return seen


def test_progress_is_drawn_for_a_person():
    output = Output()
    seen = on_a_terminal(output)
    with output.progress("copying", total=3) as advance:
        advance()
        advance(2)
    assert "copying" in seen.getvalue()
    assert "3/3" in seen.getvalue()


@pytest.mark.parametrize("silent", [{"quiet": True}, {"as_json": True}])
def test_progress_is_silent_where_nobody_wants_it(silent):
    output = Output(**silent)
    seen = on_a_terminal(output)
    with output.progress("copying", total=1) as advance:
        advance()
    assert "" == seen.getvalue()


def test_progress_is_silent_in_a_pipe(capsys):
    with Output().progress("copying", total=1) as advance:
        advance()
    assert ("", "") == capsys.readouterr()


def test_messages_go_to_standard_error_and_results_to_standard_output(capsys):
    output = Output()
    output.say("working")
    output.result({"user_id": 12345, "rows": 12345, "done": True, "note": None})
    captured = capsys.readouterr()
    assert "working\n" == captured.err
    assert "user id: 12345\nrows: 12,345\ndone: yes\nnote: -\n" == captured.out


def test_json_is_one_object_and_nothing_else(capsys):
    output = Output(as_json=True)
    output.say("working")
    output.table("rows", [{"a": 1}], empty="none")
    captured = capsys.readouterr()
    assert {"rows": [{"a": 1}]} == json.loads(captured.out)
    assert "" == captured.err


def test_a_table_shows_structures_as_json_and_markup_as_it_is(capsys):
    Output().table("rows", [{"data": {"a": [1]}, "text": "[bold]x"}], empty="none")
    shown = capsys.readouterr().out
    assert '{"a":[1]}' in shown
    assert "[bold]x" in shown


def test_an_error_is_one_line_of_bounded_length(capsys):
    Output().error(ConflictError("first line\nsecond line " + "x" * 1000))
    line = capsys.readouterr().err
    assert 1 == line.count("\n")
    assert len(line) < 600


def test_a_message_is_folded_and_cut():
    assert "a b c" == one_line("a\n b\tc")
    assert "abc…" == one_line("abcdef", limit=4)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), ExitCode.BAD_CONFIGURATION),
        (ValidationError("x"), ExitCode.USAGE),
        (SchemaError("x", current=None, head="001"), ExitCode.DEGRADED),
        (NotFoundError("user", 1), ExitCode.TARGET_MISSING),
        (DatabaseUnavailableError("x"), ExitCode.TRY_AGAIN),
        (ConflictError("x"), ExitCode.FAILURE),
    ],
)
def test_an_error_has_the_exit_status_scripts_rely_on(error, code):
    assert code is exit_code_for(error)
