"""``rootstream-db stream``: streams, their keys and their live state."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.user import find_user

if TYPE_CHECKING:
    from rootstream_db.models import Stream

app = typer.Typer(help="Create streams, hand out keys, see who is live.", no_args_is_help=True)

StreamId = Annotated[int, typer.Argument(help="Id of the stream.")]


@command(app)
def create(
    invocation: Invocation,
    owner: Annotated[str, typer.Argument(help="Username or e-mail address of the owner.")],
    name: Annotated[str, typer.Argument(help="Name shown to viewers.")],
) -> None:
    """Create a stream and print its first key, which is shown this once."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        stream, key = rootstream.streams.create(work, owner=find_user(work, owner), name=name)
    invocation.output.result({**_facts(stream), "key": str(key)})


@command(app, "list")
def list_streams(
    invocation: Invocation,
    owner: Annotated[str, typer.Argument(help="Username or e-mail address of the owner.")],
) -> None:
    """List the streams of an account."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        streams = work.streams.list_by_owner(find_user(work, owner).id)
    invocation.output.table("streams", [_facts(stream) for stream in streams], empty="no streams")


@command(app)
def live(invocation: Invocation) -> None:
    """List the streams that are live now."""
    with invocation.rootstream() as rootstream:
        rows = [
            {
                "stream_id": status.stream_id,
                "node": status.node,
                "viewers": status.viewer_count,
                "bitrate_kbps": status.bitrate_kbps,
                "since": status.started_at and status.started_at.isoformat(timespec="seconds"),
            }
            for status in rootstream.streams.list_live()
        ]
    invocation.output.table("live", rows, empty="nothing is live")


@command(app, "issue-key")
def issue_key(
    invocation: Invocation,
    stream_id: StreamId,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    valid_days: Annotated[int | None, typer.Option(min=1, help="Days until it expires.")] = None,
) -> None:
    """Issue one more key for a stream and print it, this once."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        row, key = rootstream.streams.issue_key(
            work,
            work.streams.get_one(stream_id),
            label=label,
            expires_at=work.now + timedelta(days=valid_days) if valid_days else None,
        )
    invocation.output.result({"id": row.id, "prefix": row.prefix, "key": str(key)})


@command(app)
def keys(invocation: Invocation, stream_id: StreamId) -> None:
    """List the keys of a stream by their visible prefix."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        work.streams.get_one(stream_id)
        rows = [
            {
                "id": key.id,
                "prefix": key.prefix,
                "label": key.label,
                "last_used_at": _time(key.last_used_at),
                "state": key.refusal(work.now) or "valid",
            }
            for key in work.stream_keys.list_by_stream(stream_id)
        ]
    invocation.output.table("keys", rows, empty="no keys")


@command(app, "revoke-key")
def revoke_key(
    invocation: Invocation,
    key_id: Annotated[int, typer.Argument(help="Id of the key, as `stream keys` shows it.")],
) -> None:
    """Revoke a key; a broadcast that uses it ends at once."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        key = work.stream_keys.get_one(key_id)
        rootstream.streams.revoke_key(work, key)
    invocation.output.result({"id": key_id, "revoked": True}, f"key {key_id} is revoked")


@command(app)
def reap(invocation: Invocation) -> None:
    """End what died publishers left live; for cron where `ingest serve` does not run."""
    with invocation.rootstream() as rootstream:
        found = rootstream.streams.reap()
    invocation.output.result({"entered_grace": found.entered_grace, "ended": found.ended})


@command(app, "delete-expired-recordings")
def delete_expired_recordings(invocation: Invocation) -> None:
    """Delete the files of recordings whose time is up; for cron."""
    deleted = 0
    with invocation.rootstream() as rootstream:
        while found := rootstream.run(rootstream.recordings.delete_expired):
            deleted += len(found)
    invocation.output.result({"deleted": deleted}, f"{deleted} recordings deleted")


def _facts(stream: Stream) -> dict[str, Any]:
    return {
        "id": stream.id,
        "public_id": str(stream.public_id),
        "name": stream.name,
        "visibility": stream.visibility.value,
        "created_at": _time(stream.created_at),
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
