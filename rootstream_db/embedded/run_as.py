"""Choose the account a server runs as, and make sure that account can reach what it needs.

PostgreSQL refuses to run as root, so root drops to an unprivileged account. No account is ever
created and no folder above ours ever changes its mode: what cannot be reached is copied (programs)
or refused with a way out (data).
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rootstream_db.errors import EmbeddedServerError

_WALK = 'for step; do cd -- "$step" 2>/dev/null || { printf %s "$step"; exit 1; }; done'


@dataclass(frozen=True)
class RunAs:
    """The account server processes run as; ``switch`` is false when it is the caller's own."""

    name: str
    uid: int
    gid: int
    switch: bool

    def popen_options(self) -> dict[str, Any]:
        """Return the Popen arguments that start a process as this account, in a bare world.

        All three of user, group and extra groups change: dropping only the user would leave the
        server with the files of root's groups.
        """
        options: dict[str, Any] = {
            "cwd": "/",
            "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            "umask": 0o077,
        }
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    @property
    def has_name(self) -> bool:
        """Return whether the account is known to the machine, not just a number."""
        return self.name != str(self.uid)

    def own(self, path: Path) -> None:
        """Make ``path`` belong to this account; nothing happens when it is the caller's."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def unreachable_part(self, path: Path) -> str | None:
        """Return the first folder on the way to ``path`` this account may not enter, or None."""
        steps = [str(step) for step in (*reversed(path.parents), path)]
        walked = subprocess.run(
            ["/bin/sh", "-c", _WALK, "sh", *steps],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **self.popen_options(),
        )
        return None if walked.returncode == 0 else os.fsdecode(walked.stdout)


def choose_run_as(explicit: str | None, *places: Path) -> RunAs:
    """Return the account for a server: ``explicit``, the owner of ``places``, or a fallback.

    A process that is not root stays what it is. For root, the owner of the first existing place
    is taken unless that is root, then ``postgres``, then ``nobody``.

    Raises:
        EmbeddedServerError: the account does not exist, is root, or the caller may not switch.
    """
    if os.geteuid() != 0:
        return _own_account(explicit)
    if explicit is not None:
        return _root_drops_to(explicit)
    for place in places:
        if place.exists() and (uid := place.stat().st_uid) != 0:
            return _account_of(uid, place.stat().st_gid)
    for name in ("postgres", "nobody"):
        if _exists(name):
            return _root_drops_to(name)
    raise EmbeddedServerError(
        "servers do not run as root, and this machine has neither a postgres nor a nobody account: "
        "name one with run_as"
    )


def _own_account(explicit: str | None) -> RunAs:
    own = _account_of(os.geteuid(), os.getegid(), switch=False)
    if explicit is not None and explicit not in {own.name, str(own.uid)}:
        raise EmbeddedServerError(
            f"only root can start a server as {explicit}; this process runs as {own.name}",
            run_as=explicit,
        )
    return own


def _account_of(uid: int, gid: int, *, switch: bool = True) -> RunAs:
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return RunAs(str(uid), uid, gid, switch=switch)
    return RunAs(account.pw_name, uid, account.pw_gid if switch else gid, switch=switch)


def _root_drops_to(name: str) -> RunAs:
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedServerError(
            f"there is no account called {name} on this machine (run_as)", run_as=name
        ) from None
    if account.pw_uid == 0:
        raise EmbeddedServerError(
            "servers do not run as root: name an unprivileged account with run_as", run_as=name
        )
    return RunAs(name, account.pw_uid, account.pw_gid, switch=True)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
