"""The command: servers, story, checks, summary."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.output import Output

if TYPE_CHECKING:
    from rootstream_db.cli.demo.story import Story
    from rootstream_db.cli.demo.told import Check, Told
    from rootstream_db.rootstream import RootStream

NEXT = (
    "where to look next: docs/tutorial/first-stream.md · rootstream-db --help · "
    "docs/how-to/connect-nginx-rtmp.md"
)

Streams = Annotated[int, typer.Option(min=1, max=1000, help="Streams to open.")]
Viewers = Annotated[int, typer.Option(min=1, max=1_000_000, help="Viewers in the crowd.")]
Seconds = Annotated[int, typer.Option(min=1, max=3600, help="How long the crowd watches.")]
Rate = Annotated[int, typer.Option(min=1, help="Viewer updates a second at most.")]
Media = Annotated[
    bool, typer.Option(help="Push a real stream too where nginx-rtmp and ffmpeg are installed.")
]
Folder = Annotated[
    Path | None, typer.Option("--path", help="Keep the servers' data here; default: thrown away.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the front door."""
    command(app, "demo")(demo)


def demo(
    invocation: Invocation,
    *,
    streams: Streams = 8,
    viewers: Viewers = 5000,
    seconds: Seconds = 15,
    rate: Rate = 20_000,
    media: Media = True,
    path: Folder = None,
) -> ExitCode | None:
    """Run the sixty-second trial: real servers, a crowd, and every total checked."""
    from rootstream_db.cli.demo.screen import screen
    from rootstream_db.cli.demo.story import Scale, Story
    from rootstream_db.cli.demo.told import checks
    from rootstream_db.rootstream import RootStream

    output = invocation.output
    scale = Scale(streams, viewers, seconds, rate)
    with _folder(path) as folder:
        output.say(f"starting PostgreSQL and Redis in {folder}")
        started = time.monotonic()
        with RootStream.embedded(folder, settings=invocation.settings) as rs:
            rs.upgrade_schema()
            output.say(f"ready after {time.monotonic() - started:.1f} s; {streams} streams go live")
            story = Story(rs, scale)
            with screen(output) as show:
                story.run(show)
            compared = _push(output, rs, story, folder) if media else []
            found = checks(rs, story.told, streams=story.streams, start=story.start)
    for note in story.progress.notes:
        output.say(note)
    return report(output, told=story.told, seconds=story.crowd_seconds, found=[*found, *compared])


def _push(output: Output, rs: RootStream, story: Story, folder: Path) -> list[Check]:
    from rootstream_db.cli.demo.media import find_programs, push_a_stream

    programs = find_programs()
    if programs is None:
        output.say("no real stream: nginx with its RTMP module and ffmpeg are not both installed")
        return []
    output.say("ffmpeg pushes a real stream through nginx-rtmp")
    stream, key = story.open_for_media()
    work = Path(tempfile.mkdtemp(prefix="media-", dir=folder))
    work.chmod(0o711)
    return push_a_stream(rs, programs, work, stream=stream, key=key)


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    if path is not None:
        yield path
        return
    # Not under TMPDIR's usual 0700 parents: the servers may run as another user than we do.
    folder = Path(tempfile.mkdtemp(prefix="rootstream-demo-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(output: Output, *, told: Told, seconds: float, found: list[Check]) -> ExitCode | None:
    """Print the checks and the rate; return the exit status of a failure when one disagrees."""
    rows = [check.as_row() for check in found]
    agrees = all(check.agrees for check in found)
    rate = round(told["heartbeats"] / max(seconds, 0.001))
    if output.as_json:
        output.result({"agrees": agrees, "updates_per_second": rate, "checks": rows})
    else:
        output.table("checks", rows, empty="nothing was checked")
        output.say(f"{rate:,} viewer updates a second, flushed exactly once")
        output.say(NEXT if agrees else "some totals disagree: this is a bug, please report it")
    return None if agrees else ExitCode.FAILURE
