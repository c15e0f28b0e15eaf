"""How long a server lives: with its users, in whichever order and way they go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis, guard
from rootstream_db.embedded.endpoint import Mode
from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.guard import Membership
from rootstream_db.embedded.process import is_server
from rootstream_db.errors import EmbeddedServerError
from tests.fixtures.embedded_user import Server, User

Make = Callable[..., Server]
NewUser = Callable[..., User]
Until = Callable[[Callable[[], bool]], None]

# What does not depend on the kind of server is proved with the one that starts faster.
with_redis = pytest.mark.parametrize("kind", [EmbeddedRedis], indirect=True)


def pid_of(server: Server) -> int | None:
    running = server._running()
    return running.pid if running else None


def guard_of(server: Server) -> int:
    """Return the pid of the process that waits for the last user to go."""
    for file in list(Path("/proc").glob("[0-9]*/cmdline")):
        try:
            arguments = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"rootstream-guard" in arguments and os.fsencode(server.path) in arguments:
            return int(file.parent.name)
    pytest.fail("no guard runs")


def test_a_server_stops_with_its_block(make: Make) -> None:
    with make() as server:
        assert server.is_running()
    assert not server.is_running()


@with_redis
def test_starting_twice_and_stopping_twice_changes_nothing(make: Make) -> None:
    server = make().start()
    pid = pid_of(server)
    assert pid == pid_of(server.start())
    server.stop()
    server.stop()
    assert not server.is_running()


@with_redis
def test_a_server_that_is_not_started_has_no_address(make: Make) -> None:
    server = make()
    assert isinstance(server, EmbeddedRedis)
    with pytest.raises(EmbeddedServerError, match="is not started"):
        _ = server.url


def test_the_server_dies_with_a_killed_owner(make: Make, user: NewUser, until: Until) -> None:
    owner = user()
    owner.tell("start")
    owner.kill()
    until(lambda: not make().is_running())


def test_the_server_stops_when_its_owner_exits(make: Make, kind: type[Server]) -> None:
    path = str(make().path)
    program = f"from rootstream_db.embedded import *; {kind.__name__}({path!r}).start()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (make().path / "server.log").exists()
    assert not make().is_running()


@with_redis
def test_the_server_outlives_the_thread_that_started_it(make: Make, user: NewUser) -> None:
    owner = user()
    started = owner.tell("start in a thread")
    assert owner.tell("is_running") == started
    assert pid_of(make()) == started["pid"]


@with_redis
def test_an_adopter_leaves_the_server_to_its_owner(make: Make, user: NewUser) -> None:
    with make() as server:
        adopter = user()
        assert pid_of(server) == adopter.tell("start")["pid"]
        assert pid_of(server) == adopter.tell("stop")["pid"]
        adopter.kill()
        assert server.is_running()


@with_redis
def test_a_killed_adopter_leaves_the_server_to_its_owner(make: Make, user: NewUser) -> None:
    with make() as server:
        adopter = user()
        adopter.tell("start")
        adopter.kill()
        assert pid_of(server) == user().tell("start")["pid"]


@with_redis
def test_adopters_keep_the_server_when_its_owner_leaves(make: Make, user: NewUser) -> None:
    server = make().start()
    pid = pid_of(server)
    adopter = user()
    adopter.tell("start")
    server.stop()
    assert pid == adopter.tell("is_running")["pid"]
    assert adopter.tell("stop")["pid"] is None


def test_adopters_keep_the_server_when_its_owner_is_killed(
    make: Make, user: NewUser, until: Until
) -> None:
    owner, first, second = user(), user(), user()
    pid = owner.tell("start")["pid"]
    first.tell("start")
    owner.kill()
    assert pid == second.tell("start")["pid"]
    first.kill()
    assert pid == second.tell("is_running")["pid"]
    second.kill()
    until(lambda: not make().is_running())


@with_redis
def test_two_handles_in_one_process_count_twice(make: Make) -> None:
    first, second = make().start(), make().start()
    first.stop()
    assert second.is_running()
    second.stop()
    assert not second.is_running()


def test_six_processes_that_start_at_once_share_one_server(
    make: Make, user: NewUser, until: Until
) -> None:
    users = [user() for _ in range(6)]
    for each in users:
        each.ask("start")
    pids = {each.answer()["pid"] for each in users}
    assert 1 == len(pids)
    for each in users[:3]:
        each.tell("stop")
    for each in users[3:]:
        each.kill()
    until(lambda: not make().is_running())


@with_redis
def test_users_that_come_and_go_always_find_a_server(make: Make, user: NewUser) -> None:
    """Whoever comes while the last one leaves gets a server that stays, old or new."""
    users = [user() for _ in range(4)]
    for each in users:
        each.ask("start")
    for each in users:
        each.answer()
    for leaver, other in ((0, 1), (1, 2), (2, 3), (3, 0)) * 3:
        users[other].tell("stop")
        users[leaver].ask("stop")
        users[other].ask("start")
        users[leaver].answer()
        started = users[other].answer()
        assert started["pid"] is not None
        assert is_server(started["pid"], str(make()._folder.data))


@with_redis
def test_a_killed_user_does_not_take_the_server_from_a_newcomer(make: Make, user: NewUser) -> None:
    """The guard is about to stop the server at the very moment somebody joins."""
    for _ in range(5):
        owner, newcomer = user(), user()
        owner.tell("start")
        owner.kill(wait=False)
        pid = newcomer.tell("start")["pid"]
        assert pid == newcomer.tell("is_running")["pid"]
        newcomer.tell("stop")


def test_a_guard_that_does_not_answer_is_not_counted_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen the last user go, and is about to stop the server under the newcomer."""
    monkeypatch.setattr(guard, "_ANSWER_SECONDS", 0.05)
    members = Membership(ServerFolder(folder, "test"))
    members.announce()
    reader = os.open(folder / ".guard", os.O_RDONLY | os.O_NONBLOCK)
    assert not members.join(os.getpid(), "pytest")
    os.close(reader)


POSTGRES_TRACES = [".lock", ".life", "data.init-*", "data", "server.log", "data/postmaster.pid"]
REDIS_TRACES = [".life", "data", ".guard", "server.log", "endpoint.json", "data/redis.pid"]


@pytest.mark.parametrize(
    ("kind", "trace"),
    [
        *((EmbeddedPostgres, trace) for trace in POSTGRES_TRACES),
        *((EmbeddedRedis, trace) for trace in REDIS_TRACES),
    ],
    ids=[*POSTGRES_TRACES, *(f"redis-{trace}" for trace in REDIS_TRACES)],
)
def test_a_first_start_killed_at_any_point_is_made_good_by_the_next(
    folder: Path, until: Until, kind: type[Server], trace: str
) -> None:
    killed = User(kind, str(folder / "server"), {})
    killed.ask("start")
    until(lambda: any((folder / "server").glob(trace)))
    killed.close()
    with kind(folder / "server") as server:
        assert server._refusal(server._started()) is None
    assert [] == list(server.path.glob("data.init-*"))


def test_a_shared_server_outlives_everybody(make: Make, user: NewUser) -> None:
    starter = user(mode="shared")
    pid = starter.tell("start")["pid"]
    starter.tell("stop")
    starter.kill()
    with make() as adopter:
        assert pid == pid_of(adopter)
    assert pid == pid_of(make())
    make().shutdown()
    assert not make().is_running()


@with_redis
def test_adopting_in_mode_shared_makes_a_server_shared(make: Make, user: NewUser) -> None:
    owner = user()
    pid = owner.tell("start")["pid"]
    make(mode="shared").start().stop()
    owner.kill()
    with make() as later:
        assert pid == pid_of(later)
    make().shutdown()


@with_redis
def test_a_new_guard_replaces_one_that_was_killed(make: Make, user: NewUser, until: Until) -> None:
    owner = user()
    pid = owner.tell("start")["pid"]
    killed = guard_of(make())
    os.kill(killed, signal.SIGKILL)
    with make() as newcomer:
        assert pid == pid_of(newcomer)
        assert killed != guard_of(newcomer)
    assert pid == owner.tell("is_running")["pid"]
    owner.kill()
    until(lambda: not make().is_running())


@with_redis
def test_a_server_without_a_guard_can_be_made_shared(make: Make, user: NewUser) -> None:
    owner = user()
    pid = owner.tell("start")["pid"]
    os.kill(guard_of(make()), signal.SIGKILL)
    make(mode="shared").start().stop()
    owner.kill()
    assert pid == pid_of(make())
    make().shutdown()


@with_redis
@pytest.mark.parametrize("mode", ["owned", "shared"])
def test_a_server_nobody_looks_after_is_replaced(make: Make, user: NewUser, mode: Mode) -> None:
    owner = user()
    orphan = owner.tell("start")["pid"]
    os.kill(guard_of(make()), signal.SIGKILL)
    owner.kill()
    assert orphan == pid_of(make())
    with make(mode=mode) as server:
        assert pid_of(server) not in {None, orphan}
    make().shutdown()


@pytest.mark.parametrize(("mark", "ends"), [("300", True), ("another server", False)])
def test_the_guard_stops_nothing_but_the_server(
    folder: Path, until: Until, *, mark: str, ends: bool
) -> None:
    """A number in use again after the server's end may belong to anything."""
    members = Membership(ServerFolder(folder, "test"))
    with subprocess.Popen(["/bin/sleep", "300"]) as process:
        members.announce()
        members.enter(process.pid, mark)
        watching = members._guard
        assert watching is not None
        members.leave()
        until(lambda: watching.poll() is not None)
        assert ends == (process.poll() is not None)
        process.kill()


def test_users_of_a_crashed_server_share_the_one_that_replaces_it(
    make: Make, user: NewUser, until: Until
) -> None:
    first, second = user(), user()
    crashed = first.tell("start")["pid"]
    second.tell("start")
    os.kill(crashed, signal.SIGKILL)
    until(lambda: not make().is_running())
    pid = second.tell("start")["pid"]
    assert crashed != pid
    second.kill()
    assert pid == first.tell("start")["pid"]
    first.kill()
    until(lambda: not make().is_running())


@with_redis
@pytest.mark.parametrize("end", ["fork and exit", "fork and stop"])
def test_a_forked_child_does_not_stop_its_parents_server(
    make: Make, user: NewUser, end: str
) -> None:
    owner = user()
    pid = owner.tell("start")["pid"]
    answer = owner.tell(end)
    assert pid == answer["pid"]
    assert answer["url"] is not None
    assert owner.tell("stop")["pid"] is None


@with_redis
def test_a_forked_child_can_use_the_server_in_its_own_right(
    make: Make, user: NewUser, until: Until
) -> None:
    owner = user()
    pid = owner.tell("start")["pid"]
    child = owner.tell("fork a user")["child"]
    assert pid == owner.tell("stop")["pid"]
    os.kill(child, signal.SIGKILL)
    until(lambda: not make().is_running())


def test_a_removed_folder_does_not_leave_a_server_behind(make: Make) -> None:
    server = make().start()
    running = server._running()
    assert running is not None
    server.path.rename(server.path.with_name("moved"))
    server.stop()
    assert not is_server(running.pid, server._mark())


def test_an_end_that_is_held_up_is_forced_after_the_deadline(copied: Path) -> None:
    """A hanging archive_command holds up an orderly shutdown; the deadline ends it."""
    settings = {"archive_mode": "on", "archive_command": "sleep 300"}
    server = EmbeddedPostgres(copied, settings=settings, stop_timeout=0.3)
    with server, psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CREATE TABLE kept ()")
    assert not server.is_running()
    with EmbeddedPostgres(copied) as server, psycopg.connect(server.url()) as connection:
        connection.execute("SELECT FROM kept")
