"""The gate is first come, first served, and never loses or invents a permit."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from rootstream_db.database import gate as gate_module
from rootstream_db.database.gate import FifoGate
from rootstream_db.errors import StorageError, StorageTimeoutError

DEADLINE = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        threading.Event().wait(0.001)


def start(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_as_many_as_there_are_permits_enter_without_waiting():
    gate = FifoGate(2)
    gate.enter(0)
    gate.enter(0)
    status = gate.status()
    assert (2, 2, 0, 0) == (status.size, status.in_use, status.waiting, status.waited)


def test_a_full_gate_says_what_to_do_when_time_runs_out():
    gate = FifoGate(1)
    gate.enter(0)
    with pytest.raises(StorageTimeoutError, match=r"all 1 of the pool.*database\.pool_size"):
        gate.enter(0.01)
    assert 0 == gate.status().waiting
    gate.leave()
    gate.enter(0)


def test_waiters_are_served_in_order_of_arrival():
    gate = FifoGate(1)
    gate.enter(0)
    served: list[int] = []

    def visit(number: int) -> None:
        with gate.permit(DEADLINE):
            served.append(number)

    threads = []
    for number in range(10):
        threads.append(start(lambda number=number: visit(number)))  # type: ignore[misc]  # bound now
        until(lambda number=number: gate.status().waiting == number + 1)  # type: ignore[misc]  # bound now
    gate.leave()
    for thread in threads:
        thread.join(DEADLINE)
    assert list(range(10)) == served
    assert 0 == gate.status().in_use


def test_a_newcomer_never_overtakes_a_waiter():
    gate = FifoGate(1)
    gate.enter(0)
    waiter = start(lambda: gate.enter(DEADLINE))
    until(lambda: gate.status().waiting == 1)
    gate.leave()
    with pytest.raises(StorageTimeoutError):
        gate.enter(0)
    waiter.join(DEADLINE)
    assert 1 == gate.status().in_use


def test_a_hand_over_that_races_with_the_time_out_is_kept(monkeypatch: pytest.MonkeyPatch):
    gate = FifoGate(1)
    gate.enter(0)
    # The permit arrives after the sleep ended and before the waiter looks.
    monkeypatch.setattr(gate_module._Waiter, "sleep", lambda waiter, timeout: gate.leave())
    gate.enter(0.001)
    assert 1 == gate.status().in_use
    gate.leave()
    assert 0 == gate.status().in_use


@pytest.mark.parametrize("handed_over", [True, False])
def test_an_interrupted_waiter_passes_its_permit_on(monkeypatch, *, handed_over: bool):
    gate = FifoGate(1)
    gate.enter(0)

    def interrupted(waiter: object, timeout: float) -> None:
        if handed_over:
            gate.leave()
        raise KeyboardInterrupt

    monkeypatch.setattr(gate_module._Waiter, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gate.enter(1)
    status = gate.status()
    assert (0 if handed_over else 1, 0) == (status.in_use, status.waiting)


def test_an_interrupt_while_the_gate_closes_leaves_it_consistent(monkeypatch):
    gate = FifoGate(1)
    gate.enter(0)

    def interrupted(waiter: object, timeout: float) -> None:
        gate.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(gate_module._Waiter, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gate.enter(1)
    assert 0 == gate.status().waiting


def test_the_permit_comes_back_when_the_block_fails():
    gate = FifoGate(1)
    with pytest.raises(ZeroDivisionError), gate.permit(0):
        raise ZeroDivisionError
    assert 0 == gate.status().in_use


def test_closing_turns_waiters_and_newcomers_away():
    gate = FifoGate(1)
    gate.enter(0)
    errors: list[Exception] = []

    def visit() -> None:
        try:
            gate.enter(DEADLINE)
        except StorageError as error:
            errors.append(error)

    waiter = start(visit)
    until(lambda: gate.status().waiting == 1)
    gate.close()
    waiter.join(DEADLINE)
    assert "the database was closed" in str(errors[0])
    with pytest.raises(StorageError, match="closed"):
        gate.enter(0)


def test_waits_are_measured():
    now = [100.0]
    gate = FifoGate(1, monotonic=lambda: now[0])
    gate.enter(0)

    def visit() -> None:
        with gate.permit(DEADLINE):
            pass

    for wait in (3.0, 1.0):
        thread = start(visit)
        until(lambda: gate.status().waiting == 1)
        now[0] += wait
        gate.leave()
        thread.join(DEADLINE)
        gate.enter(0)
    status = gate.status()
    assert (2, 4.0, 3.0) == (status.waited, status.wait_seconds_total, status.wait_seconds_max)


def test_no_permit_is_lost_or_doubled_under_random_time_outs():
    gate = FifoGate(3)
    inside, most, timeouts = 0, 0, 0
    lock = threading.Lock()

    def visit(seed: int) -> None:
        nonlocal inside, most, timeouts
        chance = random.Random(seed)
        for _ in range(200):
            try:
                with gate.permit(chance.choice((0.0, 0.0001, 0.001, 1.0))):
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    if chance.random() < 0.3:
                        threading.Event().wait(0.0002)
                    with lock:
                        inside -= 1
            except StorageTimeoutError:
                with lock:
                    timeouts += 1

    threads = [start(lambda seed=seed: visit(seed)) for seed in range(16)]  # type: ignore[misc]  # bound now
    for thread in threads:
        thread.join(60)
    status = gate.status()
    assert (0, 0) == (status.in_use, status.waiting)
    assert 3 == most
    assert timeouts > 0, "the test met no time-out: it proves less than it says"
