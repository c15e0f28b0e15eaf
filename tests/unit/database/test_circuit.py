"""The circuit opens on consecutive failures, and one probe at a time finds out."""

from __future__ import annotations

import threading

import pytest

from rootstream_db.database.circuit import CircuitBreaker, CircuitState
from rootstream_db.errors import CircuitOpenError, DatabaseUnavailableError


class Time:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def now() -> Time:
    return Time()


@pytest.fixture
def circuit(now: Time) -> CircuitBreaker:
    return CircuitBreaker(failures=3, reset=5.0, monotonic=now)


def fail(circuit: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        circuit.record_failure()


def state(circuit: CircuitBreaker) -> CircuitState:
    """A call, so that the type checker does not expect the state to stay what it was."""
    return circuit.state


def probe(circuit: CircuitBreaker, error: BaseException | None = None) -> bool:
    with circuit.admission() as probing:
        if error is not None:
            raise error
    return probing


def test_it_stays_closed_below_the_limit(circuit: CircuitBreaker):
    fail(circuit, 2)
    assert CircuitState.CLOSED is state(circuit)
    circuit.check()
    assert not probe(circuit)


def test_only_consecutive_failures_count(circuit: CircuitBreaker):
    fail(circuit, 2)
    circuit.record_success()
    fail(circuit, 2)
    assert CircuitState.CLOSED is state(circuit)


def test_it_opens_at_the_limit_and_says_when_to_come_back(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    now.now += 2
    assert CircuitState.OPEN is state(circuit)
    with pytest.raises(CircuitOpenError) as caught:
        circuit.check()
    assert 3.0 == caught.value.retry_after
    with pytest.raises(CircuitOpenError):
        probe(circuit)


def test_after_the_pause_exactly_one_probe_is_admitted(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    now.now += 5
    circuit.check()
    with circuit.admission() as probing:
        assert probing
        assert CircuitState.HALF_OPEN is state(circuit)
        with pytest.raises(CircuitOpenError):
            circuit.check()
        with pytest.raises(CircuitOpenError) as caught:
            probe(circuit)
        assert caught.value.retry_after > 0
    assert CircuitState.CLOSED is state(circuit)


def test_a_failed_probe_opens_it_for_another_pause(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    now.now += 6
    with pytest.raises(DatabaseUnavailableError):
        probe(circuit, DatabaseUnavailableError("gone"))
    assert CircuitState.OPEN is state(circuit)
    with pytest.raises(CircuitOpenError) as caught:
        circuit.check()
    assert 5.0 == caught.value.retry_after


def test_a_probe_that_was_interrupted_leaves_its_place(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    now.now += 5
    with pytest.raises(KeyboardInterrupt):
        probe(circuit, KeyboardInterrupt())
    assert CircuitState.OPEN is state(circuit)
    assert probe(circuit)
    assert CircuitState.CLOSED is state(circuit)


def test_an_error_of_an_ordinary_admission_changes_nothing(circuit: CircuitBreaker):
    for error in (DatabaseUnavailableError("gone"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            probe(circuit, error)
    assert CircuitState.CLOSED is state(circuit)


def test_stragglers_from_before_do_not_decide(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    circuit.record_success()
    assert CircuitState.OPEN is state(circuit)
    now.now += 5
    with circuit.admission():
        fail(circuit, 3)
        circuit.record_success()
        assert CircuitState.HALF_OPEN is state(circuit)
    assert CircuitState.CLOSED is state(circuit)


def test_closing_forgets_the_failures(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    now.now += 5
    probe(circuit)
    fail(circuit, 2)
    assert CircuitState.CLOSED is state(circuit)


def test_of_many_threads_one_becomes_the_probe(circuit: CircuitBreaker, now: Time):
    fail(circuit, 3)
    now.now += 5
    together = threading.Barrier(16)
    admitted: list[bool] = []
    refused: list[CircuitOpenError] = []
    done = threading.Event()

    def call() -> None:
        together.wait(10)
        try:
            with circuit.admission() as probing:
                admitted.append(probing)
                done.wait(10)
        except CircuitOpenError as error:
            refused.append(error)
            if len(refused) == 15:
                done.set()

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [True] == admitted
    assert 15 == len(refused)
