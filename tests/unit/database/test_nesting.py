"""Units inside units cannot wait for each other in a circle."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from rootstream_db.database.nesting import Level, Nesting
from rootstream_db.errors import StorageError


@pytest.fixture
def nesting() -> Nesting:
    return Nesting()


def test_an_outer_unit_uses_the_main_pool_every_time(nesting: Nesting):
    for _ in range(2):
        with nesting.entered(independent=False) as level:
            assert Level.OUTER is level


def test_units_inside_another_climb(nesting: Nesting):
    with nesting.entered(independent=False):
        for _ in range(2):
            with nesting.entered(independent=False) as inner:
                assert Level.NESTED is inner
                with nesting.entered(independent=True) as innermost:
                    assert Level.INDEPENDENT is innermost


@pytest.mark.parametrize("outer", [True, False])
def test_an_independent_unit_may_stand_alone_or_inside_an_outer_one(nesting, *, outer: bool):
    around = nesting.entered(independent=False) if outer else nullcontext()
    with around, nesting.entered(independent=True) as level:
        assert Level.INDEPENDENT is level


@pytest.mark.parametrize("independent", [True, False])
def test_nothing_is_opened_inside_an_independent_unit(nesting: Nesting, *, independent: bool):
    with (
        nesting.entered(independent=True),
        pytest.raises(StorageError, match="inside an independent one: pass the `work`"),
        nesting.entered(independent=independent),
    ):
        pytest.fail("it was opened")


def test_two_nested_units_are_one_too_many(nesting: Nesting):
    with (
        nesting.entered(independent=False),
        nesting.entered(independent=False),
        pytest.raises(StorageError, match="inside a nested one"),
        nesting.entered(independent=False),
    ):
        pytest.fail("it was opened")


def test_blocks_may_end_in_any_order(nesting: Nesting):
    first = nesting.entered(independent=False)
    second = nesting.entered(independent=False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(StorageError), nesting.entered(independent=False):
        pytest.fail("the nested unit still runs")
    second.__exit__(None, None, None)
    assert {} == nesting._held


def test_threads_do_not_count_for_each_other(nesting: Nesting):
    seen: list[Level] = []

    def other() -> None:
        with nesting.entered(independent=False) as level:
            seen.append(level)

    with nesting.entered(independent=False):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
    assert [Level.OUTER] == seen


def test_a_block_left_by_another_thread_is_left_all_the_same(nesting: Nesting):
    block = nesting.entered(independent=False)
    block.__enter__()
    thread = threading.Thread(target=lambda: block.__exit__(None, None, None))
    thread.start()
    thread.join(10)
    with nesting.entered(independent=False) as level:
        assert Level.OUTER is level
    assert {} == nesting._held


def test_an_error_inside_ends_the_unit(nesting: Nesting):
    with pytest.raises(ZeroDivisionError), nesting.entered(independent=False):
        raise ZeroDivisionError
    assert {} == nesting._held
