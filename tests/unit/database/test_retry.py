"""A unit is run again only when that is safe and promises better luck."""

from __future__ import annotations

import pytest

from rootstream_db.database.retry import delay, may_run_again, retry
from rootstream_db.errors import (
    CircuitOpenError,
    ConflictError,
    DatabaseUnavailableError,
    ReadOnlyDatabaseError,
    RootStreamError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
)

UNKNOWN = DatabaseUnavailableError("lost during COMMIT", commit_outcome="unknown")


class Unit:
    """Fails with each of the errors in turn, then returns how often it ran."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.runs


def run(unit: Unit, *, attempts: int = 3, idempotent: bool = False) -> tuple[int, list[float]]:
    pauses: list[float] = []
    result = retry(
        unit, attempts=attempts, idempotent=idempotent, sleep=pauses.append, jitter=lambda: 1.0
    )
    return result, pauses


def test_a_unit_that_works_runs_once():
    assert (1, []) == run(Unit())


@pytest.mark.parametrize(
    "error",
    [TransientStorageError("x"), DatabaseUnavailableError("x"), ReadOnlyDatabaseError("x")],
)
def test_passing_failures_are_run_again(error: Exception):
    result, pauses = run(Unit(error, error))
    assert 3 == result
    assert 2 == len(pauses)


@pytest.mark.parametrize(
    "error",
    [
        ConflictError("x"),
        StorageError("x"),
        StorageTimeoutError("x"),
        CircuitOpenError("x", retry_after=1),
        UNKNOWN,
        ValueError("x"),
    ],
)
def test_other_failures_are_not(error: Exception):
    unit = Unit(error)
    with pytest.raises(type(error)):
        run(unit)
    assert 1 == unit.runs


def test_an_unknown_commit_is_run_again_if_twice_is_as_good_as_once():
    assert 2 == run(Unit(UNKNOWN), idempotent=True)[0]


def test_the_last_failure_is_raised_when_the_attempts_are_used_up():
    errors = [TransientStorageError(str(number)) for number in range(5)]
    unit = Unit(*errors)
    with pytest.raises(TransientStorageError, match="2"):
        run(unit, attempts=3)
    assert 3 == unit.runs


def test_one_attempt_means_no_second():
    unit = Unit(TransientStorageError("x"))
    with pytest.raises(TransientStorageError):
        run(unit, attempts=1)
    assert 1 == unit.runs


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (TransientStorageError("x"), [0.01, 0.02, 0.04, 0.08]),
        (DatabaseUnavailableError("x"), [0.2, 0.4, 0.8, 1.6]),
    ],
)
def test_pauses_double(error: RootStreamError, pauses: list[float]):
    assert pauses == pytest.approx([delay(error, n, jitter=lambda: 1.0) for n in range(1, 5)])


def test_pauses_are_spread_over_their_upper_half_and_bounded():
    error = DatabaseUnavailableError("x")
    assert 0.1 == pytest.approx(delay(error, 1, jitter=lambda: 0.0))
    assert 5.0 == delay(error, 50, jitter=lambda: 1.0)
    assert len({delay(error, 3, jitter=__import__("random").random) for _ in range(20)}) > 1


def test_an_open_circuit_is_never_waited_out():
    error = CircuitOpenError("x", retry_after=1)
    assert not may_run_again(error, idempotent=True)
