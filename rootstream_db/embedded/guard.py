"""Who still uses an owned server: counted by the kernel, so that no way of dying is missed.

Everyone who uses the server holds the write end of a FIFO in its folder. A small shell process,
the guard, holds the read end: end-of-file means the last user has gone, by ``stop()``, by an
exception or by SIGKILL, and the guard stops the server. It outlives the thread that started it,
which Linux' parent-death signal does not.

A process that joins a running server asks the guard for an answer. Without it, the guard might
have seen the end-of-file just before and be about to stop the server under the newcomer.

Beside the FIFO, every user holds a shared flock on ``.users``: a user who leaves in good order
learns from it whether it was the last, and then stops the server itself and waits for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import subprocess

from rootstream_db.embedded.folder import ServerFolder, try_lock
from rootstream_db.embedded.process import Deadline, disown, is_server, reap
from rootstream_db.errors import EmbeddedServerError

_ANSWER_SECONDS = 10.0

# Reads one request a line until the last writer has gone, then stops the server if the pid is
# still the server's: SIGINT, and SIGQUIT after a minute (ten where sleep knows
# no fractions). $1 pid, $2 an argument that only the
# server has, $3 the folder for answers, which are never written through what is there already.
_GUARD = r"""
set -C
is_server() {
    if [ -r /proc/self/cmdline ]; then
        tr '\0' '\n' < "/proc/$1/cmdline" | grep -qxF -e "$2"
    else
        ps -ww -p "$1" -o args= | grep -qF -e "$2"
    fi
}
while read -r answer request; do
    : > "$3/$answer"
    if [ "$request" = dismiss ]; then exit 0; fi
done
exec < /dev/null
if is_server "$1" "$2"; then kill -INT "$1"; fi
rounds=0
while is_server "$1" "$2"; do
    sleep 0.1 || sleep 1
    rounds=$((rounds + 1))
    if [ "$rounds" = 600 ]; then kill -QUIT "$1"; fi
    if [ "$rounds" = 700 ]; then exit 1; fi
done
"""


class Membership:
    """One process's share in an owned server. Every method is called under the folder's lock."""

    def __init__(self, folder: ServerFolder) -> None:
        self._fifo = folder.path / ".guard"
        self._folder = folder
        self._users: int | None = None
        self._writer: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def announce(self) -> None:
        """Mark the folder's server as owned, before it starts: a crash in between then shows."""
        if not self.owned():
            self._fifo.unlink(missing_ok=True)
            os.mkfifo(self._fifo, 0o600)
            self._folder.give_to_owner(self._fifo)

    def enter(self, pid: int, mark: str) -> None:
        """Use the server this process has just started: a new guard watches over it."""
        self._lock_users()
        self._ask("dismiss")  # the guard of a server that crashed, if users of it remain
        Deadline(_ANSWER_SECONDS).wait(lambda: not self._has_guard())
        self._start_guard(pid, mark)

    def join(self, pid: int, mark: str) -> bool:
        """Use a server that runs already; False means it is going down or belongs to nobody.

        A server without a FIFO is shared: there is nothing to hold, it stays.
        """
        if not self.owned():
            return True
        self._lock_users()
        if self._ask("join", keep=True):
            return True
        if self.is_last() or not is_server(pid, mark):
            self.leave()
            return False
        # Its guard was killed, its users live: they still hold the FIFO, so a new guard will do.
        self._lock_users()
        self._start_guard(pid, mark)
        return True

    def release(self) -> bool:
        """Make the server shared: no guard will stop it; False means it is going down already."""
        if not self.owned():
            return True
        dismissed = self._ask("dismiss")
        self._fifo.unlink(missing_ok=True)
        if dismissed:
            return True
        self._lock_users()
        unused = self.is_last()
        self.leave()
        return not unused

    def owned(self) -> bool:
        """Return whether the server is an owned one; another process may have made it shared."""
        try:
            return stat.S_ISFIFO(self._fifo.lstat().st_mode)
        except FileNotFoundError:
            return False

    def is_last(self) -> bool:
        """Return whether nobody else uses the server; the own share in the count may end here."""
        return self._users is not None and try_lock(self._users)

    def leave(self, *, explicitly: bool = True) -> None:
        """Give up the share; when it was the last, the guard sees to a server still running.

        Args:
            explicitly: give the lock up too; a forked child must not, it is its parent's.
        """
        self._let_go(explicitly=explicitly)
        disown(self._guard)
        self._guard = None

    def disband(self) -> None:
        """Give up the share in a server that has stopped, and send its guard home."""
        self._ask("dismiss")
        self._let_go(explicitly=True)
        reap(self._guard)
        self._guard = None

    def _let_go(self, *, explicitly: bool) -> None:
        users, writer, self._users, self._writer = self._users, self._writer, None, None
        if users is not None:
            if explicitly:  # because a child forked in the meantime may hold the same lock open
                fcntl.flock(users, fcntl.LOCK_UN)
            os.close(users)
        if writer is not None:
            os.close(writer)

    def _lock_users(self) -> None:
        if self._users is None:
            self._users = self._folder.open_private(".users")
        fcntl.flock(self._users, fcntl.LOCK_SH)

    def _ask(self, request: str, *, keep: bool = False) -> bool:
        """Return whether a guard answered; ``keep`` then holds on to the write end."""
        writer = self._open_fifo(os.O_WRONLY)
        if writer is None:
            return False
        for stale in self._folder.path.glob(".answer-*"):  # asked by somebody who was killed
            stale.unlink()
        answer = self._folder.path / f".answer-{secrets.token_hex(8)}"
        answered = False
        try:
            os.write(writer, f"{answer.name} {request}\n".encode())
            Deadline(_ANSWER_SECONDS).wait(lambda: answer.exists() or not self._has_guard())
            answered = answer.exists()
        except BrokenPipeError:
            answered = False
        finally:
            answer.unlink(missing_ok=True)
            if answered and keep:
                self._writer = writer
            else:
                os.close(writer)
        return answered

    def _has_guard(self) -> bool:
        writer = self._open_fifo(os.O_WRONLY)
        if writer is not None:
            os.close(writer)
        return writer is not None

    def _start_guard(self, pid: int, mark: str) -> None:
        reader = self._open_fifo(os.O_RDONLY)
        if reader is None:
            raise EmbeddedServerError(f"{self._fifo} has gone", path=self._fifo)
        try:
            self._writer = self._open_fifo(os.O_WRONLY)
            os.set_blocking(reader, True)
            arguments = (str(pid), mark, str(self._folder.path))
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "rootstream-guard", *arguments],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            )
        finally:
            os.close(reader)

    def _open_fifo(self, flags: int) -> int | None:
        """Open the FIFO without blocking; None when there is none or nobody reads it."""
        try:
            return os.open(self._fifo, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ENOENT}:
                return None
            raise
