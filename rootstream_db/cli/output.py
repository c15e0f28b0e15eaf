"""How a command speaks: tables and lines for people, one JSON object for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TextIO

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rootstream_db.errors import RootStreamError

PIPE_WIDTH: Final = 200
"""Columns of output that no terminal limits."""

_IDENTIFIERS: Final = ("id", "position", "version")


class Advance(Protocol):
    """Moves a progress bar on by a number of steps."""

    def __call__(self, steps: int = 1) -> None:
        """Move on."""


class Output:
    """One command's voice. Results go to stdout; messages, progress and errors to stderr.

    Args:
        as_json: print exactly one JSON object on stdout and nothing else there.
        quiet: say nothing on success.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.console = Console(highlight=False, width=_width(sys.stdout))
        self.messages = Console(stderr=True, highlight=False, width=_width(sys.stderr))

    def say(self, message: str) -> None:
        """Tell a person what is going on."""
        if not (self.quiet or self.as_json):
            self.messages.print(message, markup=False, soft_wrap=True)

    def result(self, data: Mapping[str, Any], text: str | None = None) -> None:
        """Print what the command found: the object, or a sentence about it."""
        if self.as_json:
            _write_json(data)
        elif not self.quiet:
            shown = _lines(data) if text is None else text
            self.console.print(shown, markup=False, soft_wrap=True)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
        """Print rows as a table, or as ``{name: [...]}`` for programs."""
        if self.as_json:
            _write_json({name: list(rows)})
        elif not self.quiet:
            self.console.print(_table(rows) if rows else empty)

    def warn(self, message: str) -> None:
        """Say what deserves a look, where ``--quiet`` hides the table that would show it."""
        if self.quiet and not self.as_json:
            self.messages.print(f"warning: {one_line(message)}", markup=False, soft_wrap=True)

    def error(self, error: RootStreamError) -> None:
        """Say in one line what went wrong."""
        if self.as_json:
            _write_json({"error": error.as_dict()})
        line = f"error: {one_line(str(error))}"
        self.messages.print(line, style="red", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar while a person watches; say nothing under cron."""
        visible = self.messages.is_terminal and not (self.quiet or self.as_json)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, TimeRemainingColumn(), console=self.messages, disable=not visible)
        with bar:
            task = bar.add_task(title, total=total)

            def advance(steps: int = 1) -> None:
                bar.advance(task, steps)

            yield advance


def one_line(text: str, limit: int = 500) -> str:
    """Fold a message into one line of bounded length."""
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else f"{folded[: limit - 1]}…"


def _write_json(data: Mapping[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
    sys.stdout.write("\n")
    sys.stdout.flush()


def _width(stream: TextIO) -> int | None:
    """Return the width to assume: a terminal's own, and plenty for a file or a pipe."""
    return None if stream.isatty() else PIPE_WIDTH


def _lines(data: Mapping[str, Any]) -> str:
    return "\n".join(f"{_title(name)}: {_shown(name, value)}" for name, value in data.items())


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    rows = list(rows)
    table = Table(header_style="bold")
    for name, value in rows[0].items():
        right = isinstance(value, int | float) and not isinstance(value, bool)
        table.add_column(_title(name), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(escape(_shown(name, value)) for name, value in row.items()))
    return table


def _title(name: str) -> str:
    return name.replace("_", " ")


def _shown(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    if isinstance(value, int) and not name.endswith(_IDENTIFIERS):
        return f"{value:,}"
    return str(value)
