"""The demo's live numbers: a table that redraws itself on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from rootstream_db.cli.demo.story import Progress
    from rootstream_db.cli.output import Output


@contextmanager
def screen(output: Output) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows progress; it does nothing unless a person watches."""
    if output.quiet or output.as_json or not output.messages.is_terminal:
        yield lambda _progress: None
        return
    with Live(console=output.messages, refresh_per_second=4) as live:
        yield lambda progress: live.update(_picture(progress))


def _picture(progress: Progress) -> Table:
    table = Table(title="RootStream DB demo", title_style="bold", show_header=False)
    table.add_column(style="cyan")
    table.add_column(justify="right")
    table.add_row("elapsed", f"{progress.elapsed:.1f} s")
    table.add_row("streams live", f"{progress.live:,}")
    table.add_row("viewers watching", f"{progress.viewers:,}")
    table.add_row("heartbeats told to Redis", f"{progress.heartbeats:,}")
    table.add_row("heartbeats in PostgreSQL", f"{progress.flushed:,}")
    table.add_row("events", f"{progress.events:,}")
    return table
