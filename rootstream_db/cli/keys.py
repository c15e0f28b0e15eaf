"""``rootstream-db keys``: the master keys that stored secrets are sealed under."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.errors import ConfigurationError

if TYPE_CHECKING:
    from rootstream_db.rootstream import RootStream
    from rootstream_db.security.key_file import MasterKeyFile
    from rootstream_db.services.key_rotation import KeyUse

app = typer.Typer(
    help="Add, rotate and drop the master keys that secrets are sealed under.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None, typer.Option("--file", help="File of the keys; default: the one in use.")
]


@command(app)
def add(invocation: Invocation, file: File = None) -> None:
    """Add a new random key to the file of the keys; it seals from now on."""
    if file is not None:
        from rootstream_db.security.key_file import MasterKeyFile

        keys = MasterKeyFile(file)
    else:
        with invocation.rootstream(check_schema=False) as rootstream:
            keys = _key_file(rootstream)
    number = keys.add()
    invocation.output.result(
        {"key_id": number, "file": str(keys.path)},
        f"key {number} is in {keys.path}; running processes seal with it within a minute",
    )


@command(app)
def status(invocation: Invocation) -> ExitCode:
    """Show the keys and how much is sealed under each; exits 3 if some of it cannot be opened."""
    with invocation.rootstream() as rootstream:
        uses = rootstream.key_rotation.status()
    invocation.output.table("keys", [_facts(use) for use in uses], empty="no keys")
    lost = [use for use in uses if not use.known]
    for use in lost:
        invocation.output.warn(f"{use.total} values are under key {use.key_id}, which is not there")
    return ExitCode.DEGRADED if lost else ExitCode.OK


@command(app)
def rotate(
    invocation: Invocation,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Values of one transaction.")] = 500,
) -> ExitCode:
    """Seal everything under the newest key, while it is in use; exits 3 if something is left."""
    with invocation.rootstream() as rootstream:
        uses = rootstream.key_rotation.status()
        waiting = sum(use.total for use in uses if use.known and not use.writes)
        with invocation.output.progress("sealing anew", waiting) as advance:
            rotation = rootstream.key_rotation.rotate(batch=batch, progress=advance)
    facts = {
        "key_id": rotation.key_id,
        "resealed": rotation.resealed,
        "broken": list(rotation.broken),
        "lost": rotation.lost,
    }
    text = f"{rotation.resealed} values were sealed anew under key {rotation.key_id}"
    if not rotation.is_complete:
        text += f"; {len(rotation.broken)} do not open, {rotation.lost} are under missing keys"
        invocation.output.warn(text)
    invocation.output.result(facts, text)
    return ExitCode.OK if rotation.is_complete else ExitCode.DEGRADED


@command(app)
def drop(
    invocation: Invocation,
    *,
    key_id: Annotated[int, typer.Argument(help="Number of the key.")],
    file: File = None,
) -> None:
    """Remove a key from the file of the keys, unless something is still sealed under it."""
    from rootstream_db.security.key_file import MasterKeyFile

    with invocation.rootstream() as rootstream:
        keys = MasterKeyFile(file) if file is not None else _key_file(rootstream)
        rootstream.key_rotation.drop(key_id, keys)
    invocation.output.result({"dropped": key_id}, f"key {key_id} is gone from {keys.path}")


def _key_file(rootstream: RootStream) -> MasterKeyFile:
    keys = rootstream.key_file
    if keys is None:
        raise ConfigurationError(
            "the master keys do not come from a file: name one with --file, and in "
            "ROOTSTREAM_SECURITY__MASTER_KEYS_FILE",
            setting="security.master_keys",
        )
    return keys


def _facts(use: KeyUse) -> dict[str, Any]:
    return {
        "key_id": use.key_id,
        "known": use.known,
        "seals": use.writes,
        "values": use.total,
        "where": ", ".join(f"{count} in {column}" for column, count in use.values.items()),
    }
