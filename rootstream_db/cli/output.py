"""How a command speaks: tables and lines for people, one JSON object for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rootstream_db.errors import RootStreamError


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
        self.console = Console(soft_wrap=True, highlight=False)
        self.messages = Console(stderr=True, soft_wrap=True, highlight=False)

    def say(self, message: str) -> None:
        """Tell a person what is going on."""
        if not (self.quiet or self.as_json):
            self.messages.print(message, markup=False)

    def result(self, data: Mapping[str, Any], text: str | None = None) -> None:
        """Print what the command found: the object, or a sentence about it."""
        if self.as_json:
            _write_json(data)
        elif not self.quiet:
            self.console.print(_lines(data) if text is None else text, markup=False)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
        """Print rows as a table, or as ``{name: [...]}`` for programs."""
        if self.as_json:
            _write_json({name: list(rows)})
        elif not self.quiet:
            self.console.print(_table(rows) if rows else empty)

    def error(self, error: RootStreamError) -> None:
        """Say in one line what went wrong."""
        if self.as_json:
            _write_json({"error": error.as_dict()})
        self.messages.print(f"error: {one_line(str(error))}", style="red", markup=False)

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


def _lines(data: Mapping[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in data.items())


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    rows = list(rows)
    table = Table(header_style="bold")
    for name in rows[0]:
        right = isinstance(rows[0][name], int | float) and not isinstance(rows[0][name], bool)
        table.add_column(name.replace("_", " "), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    return table


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
