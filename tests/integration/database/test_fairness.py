"""Under saturation every thread gets its turn, and nested units cannot lock each other out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.errors import StorageError, StorageTimeoutError
from rootstream_db.unit_of_work import UnitOfWork


def jain(counts: list[int]) -> float:
    """Jain's index: 1 when everybody got the same, 1/n when one got all."""
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


def select_one(work: UnitOfWork) -> None:
    work.session.execute(text("SELECT 1"))


def run_all(targets: list[Callable[[], None]]) -> list[BaseException]:
    """Run every target in a thread of its own and return what they raised."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - the test looks at all of them
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


def test_64_threads_on_8_connections_get_equal_turns(make: Callable[..., Database]):
    db = make(pool_size=8)
    counts = [0] * 64
    together = threading.Barrier(64)
    stop = threading.Event()

    def loop(number: int) -> None:
        together.wait(30)
        while not stop.is_set():
            with db.read() as work:
                select_one(work)
            counts[number] += 1
            # Ends by work done, not by time: a loaded machine takes longer and proves the same.
            if sum(counts) >= 64 * 15:
                stop.set()

    errors = run_all([lambda number=number: loop(number) for number in range(64)])  # type: ignore[misc]  # bound now
    assert [] == errors
    assert jain(counts) >= 0.95, counts
    status = db.pool_status()
    assert (8, 0, 0) == (status.size, status.in_use, status.waiting)
    assert status.waited > 64
    assert 0 < status.wait_seconds_max <= status.wait_seconds_total


def test_a_full_pool_says_so_after_its_time_out(make: Callable[..., Database]):
    db = make(pool_size=1, pool_timeout=0.1)
    errors: list[StorageTimeoutError] = []

    def visit() -> None:
        with pytest.raises(StorageTimeoutError, match="all 1 of the pool") as caught, db.read():
            pass
        errors.append(caught.value)

    with db.transaction():
        status = db.pool_status()
        assert (1, 1) == (status.size, status.in_use)
        assert [] == run_all([visit])
    assert 1 == len(errors)
    assert [] == run_all([lambda: select_in(db)])


def select_in(db: Database) -> None:
    with db.read() as work:
        select_one(work)


def test_waiting_threads_are_counted(make: Callable[..., Database], until: Callable[..., None]):
    db = make(pool_size=1)
    thread = threading.Thread(target=lambda: select_in(db))
    with db.transaction():
        thread.start()
        until(lambda: db.pool_status().waiting == 1)
    thread.join(20)
    status = db.pool_status()
    assert (0, 1) == (status.waiting, status.waited)


class TestNesting:
    def test_nested_units_of_every_thread_finish_on_a_saturated_pool(
        self, make: Callable[..., Database]
    ):
        db = make(pool_size=4, pool_timeout=20)
        together = threading.Barrier(4)
        seen: list[int] = []

        def nested() -> None:
            with db.transaction() as outer:
                select_one(outer)
                together.wait(10)  # now every connection of the pool is held
                with db.transaction() as inner:
                    select_one(inner)
                seen.append(1)

        started = time.monotonic()
        assert [] == run_all([nested] * 4)
        assert 4 == len(seen)
        assert time.monotonic() - started < 20, "somebody waited for the time-out"

    @pytest.mark.parametrize("third", ["transaction", "read"])
    @pytest.mark.parametrize("second", ["transaction", "read", "independent"])
    def test_a_third_level_is_refused_at_once(self, db: Database, second: str, third: str):
        with (
            db.transaction(),
            getattr(db, second)(),
            pytest.raises(StorageError, match="pass the `work`"),
            getattr(db, third)(),
        ):
            pytest.fail("it was opened")

    def test_three_levels_of_every_thread_finish_on_saturated_pools(
        self, make: Callable[..., Database]
    ):
        db = make(pool_size=3, pool_timeout=20)
        together = threading.Barrier(3)
        seen: list[int] = []

        def climb() -> None:
            with db.transaction() as outer:
                select_one(outer)
                together.wait(10)
                with db.transaction() as nested:
                    select_one(nested)
                    with db.independent() as innermost:
                        select_one(innermost)
                seen.append(1)

        assert [] == run_all([climb] * 3)
        assert 3 == len(seen)

    def test_an_inner_unit_is_a_transaction_of_its_own(self, db: Database):
        with pytest.raises(ZeroDivisionError), db.transaction() as outer:
            select_one(outer)
            with db.transaction() as inner:
                inner.session.execute(text("INSERT INTO item (id, name) VALUES (1, 'a')"))
            raise ZeroDivisionError
        with db.read() as work:
            assert 1 == work.session.execute(text("SELECT count(*) FROM item")).scalar_one()

    def test_the_next_unit_after_a_nested_one_is_an_outer_one(self, make: Callable[..., Database]):
        db = make(pool_size=1)
        for _ in range(3):
            with db.read() as outer, db.read() as inner:
                select_one(outer)
                select_one(inner)
        assert 0 == db.pool_status().in_use
