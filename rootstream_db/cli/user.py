"""``rootstream-db user``: accounts."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.errors import NotFoundError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootstream_db.models import Stream, User
    from rootstream_db.unit_of_work import UnitOfWork

app = typer.Typer(help="Register, look up and close accounts.", no_args_is_help=True)

Login = Annotated[str, typer.Argument(help="Username or e-mail address, in any case.")]


@command(app)
def register(
    invocation: Invocation,
    *,
    username: Annotated[str, typer.Argument(help="3 to 32 characters.")],
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    display_name: Annotated[str | None, typer.Option(help="Name shown to others.")] = None,
) -> None:
    """Register an account; without --password-stdin a password is made and printed once."""
    password = _password_from_stdin() if password_stdin else secrets.token_urlsafe(18)
    with invocation.rootstream() as rootstream:
        user = rootstream.run(
            lambda work: rootstream.accounts.register(
                work, username=username, email=email, password=password, display_name=display_name
            )
        )
    facts = _facts(user)
    if not password_stdin:
        facts["password"] = password
    invocation.output.result(facts)


@command(app)
def show(invocation: Invocation, login: Login) -> None:
    """Show one account."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        facts = _facts(find_user(work, login))
    invocation.output.result(facts)


@command(app, "list")
def list_users(
    invocation: Invocation,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List the newest accounts."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        rows = [_facts(user) for user in work.users.list_newest(limit=limit)]
    invocation.output.table("users", rows, empty="no accounts yet")


@command(app)
def deactivate(invocation: Invocation, login: Login) -> None:
    """Close an account without deleting it; its broadcasts end at once."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        user = find_user(work, login)
        rootstream.accounts.deactivate(work, user)
        ended = [rootstream.streams.end(work, stream) for stream in _streams(work, user)]
    broadcasts = sum(session is not None for session in ended)
    invocation.output.result({**_facts(user), "broadcasts_ended": broadcasts})


@command(app)
def reactivate(invocation: Invocation, login: Login) -> None:
    """Open a deactivated account again."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        user = find_user(work, login)
        rootstream.accounts.reactivate(work, user)
    invocation.output.result(_facts(user))


@command(app)
def export(
    invocation: Invocation,
    *,
    login: Login,
    output: Annotated[
        Path | None, typer.Option(help="File to write, for you alone; default: standard output.")
    ] = None,
) -> None:
    """Write everything that is stored about a person, as one JSON object."""
    with invocation.rootstream() as rootstream:
        with rootstream.database.read() as work:
            user_id = find_user(work, login).id
        pieces = rootstream.privacy.export_user(user_id)
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(output, flags, 0o600), "wb") as file:
            file.writelines(pieces)
    invocation.output.result({"file": str(output)}, f"written to {output}")


@command(app)
def erase(
    invocation: Invocation,
    *,
    login: Login,
    yes: Annotated[bool, typer.Option("--yes", help="Really do it: it cannot be undone.")] = False,
) -> None:
    """Delete an account, its streams, and all personal data in the event log."""
    if not yes:
        raise ValidationError("an erasure cannot be undone: say --yes", field="yes")
    with invocation.rootstream() as rootstream:
        erased = rootstream.run(
            lambda work: rootstream.privacy.erase_user(work, find_user(work, login))
        )
    facts = {**asdict(erased), "subject_id": str(erased.subject_id)}
    files = "".join(f"\nleft on disk: {name}" for name in erased.recording_files)
    invocation.output.result(facts, f"user {erased.user_id} is erased{files}")


@command(app)
def erasures(
    invocation: Invocation,
    file: Annotated[Path, typer.Argument(help="Ledger outside the database; new ones are added.")],
) -> None:
    """Add all erasures to a file that is kept apart from the backups; for cron."""
    from rootstream_db.services.privacy import append_ledger

    with invocation.rootstream() as rootstream:
        added = append_ledger(file, rootstream.privacy.ledger())
    invocation.output.result({"added": added}, f"{added} erasures were added to {file}")


@command(app, "reapply-erasures")
def reapply_erasures(
    invocation: Invocation,
    file: Annotated[Path, typer.Argument(help="What `user erasures` wrote.", exists=True)],
) -> None:
    """Erase again, after a restore, whom the older database brought back."""
    from rootstream_db.services.privacy import read_ledger

    with invocation.rootstream() as rootstream:
        erased = rootstream.privacy.reapply(read_ledger(file))
    invocation.output.result({"erased": erased}, f"{erased} persons were erased again")


@command(app)
def unlock(invocation: Invocation, login: Login) -> None:
    """Open an account's login and second factors after too many failures."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        user = find_user(work, login)
        rootstream.accounts.unlock(work, user)
        rootstream.mfa.unlock(work, user)
    invocation.output.result(_facts(user), f"{user.username} is unlocked")


@command(app, "delete-expired")
def delete_expired(invocation: Invocation) -> None:
    """Delete expired one-time tokens and forgotten lockouts; for cron."""
    deleted = 0
    with invocation.rootstream() as rootstream:
        while found := rootstream.run(rootstream.accounts.delete_expired):
            deleted += found
    invocation.output.result({"deleted": deleted}, f"{deleted} rows deleted")


def find_user(work: UnitOfWork, login: str) -> User:
    """Return the account with that username or e-mail address.

    Raises:
        NotFoundError: there is none.
    """
    found = work.users.get_by_email(login) if "@" in login else work.users.get_by_username(login)
    if found is None:
        raise NotFoundError("user", login)
    return found


def _streams(work: UnitOfWork, owner: User) -> Iterator[Stream]:
    last = 0
    while page := work.streams.list_by_owner(owner.id, after_id=last):
        yield from page
        last = page[-1].id


def _password_from_stdin() -> str:
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise ValidationError("standard input held no password", field="password")
    return password


def _facts(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "active": user.is_active,
        "verified": user.is_verified,
        "created_at": user.created_at.isoformat(timespec="seconds"),
    }
