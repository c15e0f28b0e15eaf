from __future__ import annotations

import logging

import pytest

from rootstream_db.cache.circuit import Admission, Circuit

OUTAGE = ConnectionError("refused")


class Stopwatch:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def circuit(stopwatch: Stopwatch) -> Circuit:
    return Circuit("cache", pause=1.0, monotonic=stopwatch)


def test_calls_go_through_while_nothing_failed(circuit):
    assert [Admission.GO] * 3 == [circuit.admit() for _ in range(3)]
    assert not circuit.is_open


def test_after_a_failure_calls_are_refused(circuit):
    circuit.failed(OUTAGE)
    assert Admission.REFUSED is circuit.admit()
    assert circuit.is_open


def test_after_a_pause_one_call_probes_and_others_are_still_refused(circuit, stopwatch):
    circuit.failed(OUTAGE)
    stopwatch.now += 1.0
    assert [Admission.PROBE, Admission.REFUSED] == [circuit.admit(), circuit.admit()]


def test_a_failed_probe_starts_another_pause(circuit, stopwatch):
    circuit.failed(OUTAGE)
    stopwatch.now += 1.0
    circuit.admit()
    circuit.failed(OUTAGE)
    stopwatch.now += 0.9
    assert Admission.REFUSED is circuit.admit()


def test_a_good_probe_lets_everybody_through(circuit, stopwatch):
    circuit.failed(OUTAGE)
    stopwatch.now += 1.0
    circuit.admit()
    circuit.recovered()
    assert Admission.GO is circuit.admit()


def test_an_outage_is_logged_once_and_its_end_once(circuit, stopwatch, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(5):
        circuit.failed(OUTAGE)
        circuit.admit()
    stopwatch.now += 2.5
    circuit.recovered()
    circuit.recovered()
    assert [
        "cache: Redis is unavailable, going on without it: refused",
        "cache: Redis is back after 2.5 s; 5 calls went without it",
    ] == [record.getMessage() for record in caplog.records]


def test_a_second_outage_is_logged_again(circuit, caplog):
    for _ in range(2):
        circuit.failed(OUTAGE)
        circuit.recovered()
    assert 2 == sum("unavailable" in record.getMessage() for record in caplog.records)
