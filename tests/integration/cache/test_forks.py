"""What a forked child does with locks that a thread of its parent held at that moment.

The thread does not exist in the child, so nobody would ever release them.
"""

from __future__ import annotations

import threading

import pytest

from rootstream_db.cache.circuit import Circuit
from rootstream_db.cache.tally import Tally


def finishes(work) -> bool:
    """Return whether ``work`` gets done, or waits for ever."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_a_tally_can_be_added_to():
    tally = Tally()
    tally._lock.acquire()
    tally.after_fork()
    assert finishes(lambda: tally.add("n"))
    assert 1 == tally["n"]


def test_a_circuit_can_open():
    circuit = Circuit("cache")
    circuit._lock.acquire()
    circuit.after_fork()
    assert finishes(lambda: circuit.failed(ConnectionError()))
    assert circuit.is_open


def test_invalidations_can_be_remembered(fragile_server, fragile_cache):
    fragile_server.kill()
    fragile_cache._remembering.acquire()
    fragile_cache.after_fork()
    assert finishes(lambda: fragile_cache.invalidate("k"))
    assert {"k"} == fragile_cache._remembered


def test_a_load_of_the_parent_is_not_waited_for(cache):
    cache._read_through._loading["k"] = threading.Event()
    cache._read_through.after_fork()
    assert {} == cache._read_through._loading


def test_a_bus_can_be_subscribed_to(bus):
    held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with bus._lock:
            held.set()
            may_end.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    bus.after_fork()
    assert finishes(lambda: bus.subscribe("t", print))
    may_end.set()
    holder.join()


def test_an_unknown_name_of_the_package_is_an_error():
    import rootstream_db.cache

    with pytest.raises(AttributeError, match="nothing"):
        rootstream_db.cache.nothing  # noqa: B018 - the access is what is tested


def test_a_listener_listens_again_to_what_its_parent_wanted(bus, eventually):
    target = (False, b"rs:bus:t")
    bus._listener._wanted.add(target)
    bus._listener.after_fork()
    eventually(lambda: bus._listener.is_confirmed(target))


def test_a_closed_listener_stays_closed(bus):
    bus._listener._wanted.add((False, b"rs:bus:t"))
    bus._listener._closing.set()
    bus._listener.after_fork()
    assert bus._listener.is_closed
    assert bus._listener._thread is None
