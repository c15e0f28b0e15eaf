"""``rootstream-db access``: roles, who has them, what they allow, API keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.user import Login, find_user

if TYPE_CHECKING:
    from rootstream_db.models import ApiKey, Role, Stream
    from rootstream_db.services.access import AccessChange
    from rootstream_db.unit_of_work import UnitOfWork

app = typer.Typer(help="Say who may do what.", no_args_is_help=True)
roles = typer.Typer(help="Make roles, fill them, let them inherit.", no_args_is_help=True)
keys = typer.Typer(help="Issue, rotate and revoke API keys.", no_args_is_help=True)
app.add_typer(roles, name="role")
app.add_typer(keys, name="key")

RoleName = Annotated[str, typer.Argument(help="Name of the role.")]
ParentName = Annotated[str, typer.Argument(help="Name of the role that it inherits from.")]
Permissions = Annotated[
    list[str] | None,
    typer.Option("--permission", "-p", help="stream.update, stream.* or *; repeatable."),
]
StreamId = Annotated[int | None, typer.Option("--stream", help="Id of a stream; default: all.")]
KeyId = Annotated[int, typer.Argument(help="Id of the key, as `access key list` shows it.")]
ValidDays = Annotated[float | None, typer.Option(min=0.0001, help="Days until it ends.")]


@command(roles, "list")
def list_roles(invocation: Invocation) -> None:
    """List the roles, what they hold and what they inherit from."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        rows = [_role(work, role) for role in work.roles.list_all()]
    invocation.output.table("roles", rows, empty="no roles")


@command(roles, "create")
def create_role(
    invocation: Invocation,
    *,
    name: RoleName,
    permission: Permissions = None,
    parent: Annotated[
        list[str] | None, typer.Option(help="A role that it inherits from; repeatable.")
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a role."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        role = rootstream.access.create_role(
            work, name, permissions=permission or (), parents=parent or (), description=description
        )
        facts = _role(work, role)
    invocation.output.result(facts)


@command(roles, "set")
def set_permissions(invocation: Invocation, name: RoleName, permission: Permissions = None) -> None:
    """Let a role hold these permissions and no others; what it inherits stays."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        change = rootstream.access.set_permissions(work, name, permission or ())
    invocation.output.result({"name": name, **_when(change)})


@command(roles, "add-parent")
def add_parent(invocation: Invocation, name: RoleName, parent: ParentName) -> None:
    """Let a role inherit from another one."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        change = rootstream.access.add_parent(work, name, parent)
    invocation.output.result({"name": name, "parent": parent, **_when(change)})


@command(roles, "remove-parent")
def remove_parent(invocation: Invocation, name: RoleName, parent: ParentName) -> None:
    """Let a role no longer inherit from another one."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        change = rootstream.access.remove_parent(work, name, parent)
    invocation.output.result({"name": name, "parent": parent, **_when(change)})


@command(roles, "delete")
def delete_role(invocation: Invocation, name: RoleName) -> None:
    """Remove a role; nobody has it any more."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        change = rootstream.access.delete_role(work, name)
    invocation.output.result({"name": name, "deleted": True, **_when(change)})


@command(app)
def grant(
    invocation: Invocation,
    *,
    login: Login,
    role: RoleName,
    stream: StreamId = None,
    valid_days: ValidDays = None,
) -> None:
    """Give an account a role; one that it has already gets the new end."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        given = rootstream.access.grant(
            work,
            find_user(work, login),
            role,
            stream=_stream(work, stream),
            expires_at=_end(work, valid_days),
        )
    facts = {"role": role, "stream_id": given.stream_id, "expires_at": _time(given.expires_at)}
    invocation.output.result({"id": given.id, "login": login, **facts})


@command(app)
def revoke(invocation: Invocation, login: Login, role: RoleName, stream: StreamId = None) -> None:
    """Take a role from an account that was given it everywhere, or on a stream."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        change = rootstream.access.revoke_grant(
            work, find_user(work, login), role, stream=_stream(work, stream)
        )
    invocation.output.result({"login": login, "role": role, "stream_id": stream, **_when(change)})


@command(app)
def grants(invocation: Invocation, login: Login) -> None:
    """List the roles that an account was given."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        rows = [
            {
                "role": name,
                "stream_id": given.stream_id,
                "expires_at": _time(given.expires_at),
                "granted_by": given.granted_by,
                "created_at": _time(given.created_at),
            }
            for given, name in work.role_grants.list_of_user(find_user(work, login).id)
        ]
    invocation.output.table("grants", rows, empty="no grants")


@command(app)
def permissions(invocation: Invocation, login: Login, stream: StreamId = None) -> None:
    """List what an account may do: everywhere, or with a stream also on that one."""
    with invocation.rootstream() as rootstream:
        with rootstream.database.read() as work:
            user = find_user(work, login)
            _stream(work, stream)
        found = rootstream.access.permissions_of(user, stream_id=stream)
    rows = [{"permission": permission} for permission in found]
    invocation.output.table("permissions", rows, empty="nothing")


@command(app)
def check(
    invocation: Invocation,
    login: Login,
    permission: Annotated[str, typer.Argument(help="Name of one permission.")],
    stream: StreamId = None,
) -> None:
    """Fail unless an account may do this."""
    with invocation.rootstream() as rootstream:
        with rootstream.database.read() as work:
            user = find_user(work, login)
        rootstream.access.require(user, permission, stream_id=stream)
    facts = {"login": login, "permission": permission, "stream_id": stream, "allowed": True}
    invocation.output.result(facts, f"{login} may do {permission}")


@command(app, "delete-expired")
def delete_expired(invocation: Invocation) -> None:
    """Delete grants that have ended; for cron."""
    deleted = 0
    with invocation.rootstream() as rootstream:
        while found := rootstream.run(rootstream.access.delete_expired):
            deleted += found
    invocation.output.result({"deleted": deleted}, f"{deleted} grants deleted")


@command(keys, "issue")
def issue_key(
    invocation: Invocation,
    *,
    login: Login,
    scope: Annotated[
        list[str], typer.Option("--scope", "-s", help="The most it may do; repeatable.")
    ],
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    valid_days: ValidDays = None,
) -> None:
    """Issue a key that acts for an account and print it, this once."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        row, key = rootstream.access.keys.issue(
            work,
            find_user(work, login),
            scopes=scope,
            label=label,
            expires_at=_end(work, valid_days),
        )
        facts = _key(row, work.now)
    invocation.output.result({**facts, "key": str(key)})


@command(keys, "list")
def list_keys(invocation: Invocation, login: Login) -> None:
    """List the keys of an account by their visible prefix."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        found = work.api_keys.list_of_user(find_user(work, login).id)
        rows = [_key(key, work.now) for key in found]
    invocation.output.table("keys", rows, empty="no keys")


@command(keys, "rotate")
def rotate_key(
    invocation: Invocation,
    key_id: KeyId,
    overlap_hours: Annotated[
        float | None,
        typer.Option(min=0, help="How long the old key goes on; default: access.key_overlap."),
    ] = None,
) -> None:
    """Issue the successor of a key and print it, this once; the old one ends by itself."""
    overlap = None if overlap_hours is None else timedelta(hours=overlap_hours)
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        old = work.api_keys.get_one(key_id)
        row, key = rootstream.access.keys.rotate(work, old, overlap=overlap)
        facts = {**_key(row, work.now), "key": str(key), "old_ends_at": _time(old.expires_at)}
    invocation.output.result(facts)


@command(keys, "revoke")
def revoke_key(invocation: Invocation, key_id: KeyId) -> None:
    """Withdraw a key for ever."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        change = rootstream.access.keys.revoke(work, work.api_keys.get_one(key_id))
    invocation.output.result({"id": key_id, "revoked": True, **_when(change)})


def _role(work: UnitOfWork, role: Role) -> dict[str, Any]:
    return {
        "name": role.name,
        "permissions": work.roles.list_permissions(role.id),
        "parents": work.roles.list_parents(role.id),
        "built_in": role.is_builtin,
        "customized_at": _time(role.customized_at),
        "description": role.description,
    }


def _key(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "label": key.label,
        "scopes": key.scopes,
        "state": key.refusal(now) or "valid",
        "expires_at": _time(key.expires_at),
        "last_used_at": _time(key.last_used_at),
    }


def _when(change: AccessChange) -> dict[str, Any]:
    return {"immediate": change.immediate, "effective_by": _time(change.effective_by)}


def _stream(work: UnitOfWork, stream_id: int | None) -> Stream | None:
    return None if stream_id is None else work.streams.get_one(stream_id)


def _end(work: UnitOfWork, days: float | None) -> datetime | None:
    return None if days is None else work.now + timedelta(days=days)


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
