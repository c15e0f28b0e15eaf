"""Units inside units cannot wait for each other in a circle."""

from __future__ import annotations

import threading

import pytest

from rootstream_db.database.nesting import Nesting
from rootstream_db.errors import StorageError


@pytest.fixture
def nesting() -> Nesting:
    return Nesting()


def test_an_outer_unit_uses_the_main_pool(nesting: Nesting):
    with nesting.entered(side=False) as on_side:
        assert not on_side
    with nesting.entered(side=False) as on_side:
        assert not on_side


def test_a_unit_inside_another_uses_the_side_pool(nesting: Nesting):
    with nesting.entered(side=False):
        for _ in range(2):
            with nesting.entered(side=False) as on_side:
                assert on_side


@pytest.mark.parametrize("third_on_side", [True, False])
def test_nothing_is_opened_inside_the_side_pool(nesting: Nesting, *, third_on_side: bool):
    with (
        nesting.entered(side=True) as on_side,
        pytest.raises(StorageError, match="pass the `work`"),
        nesting.entered(side=third_on_side),
    ):
        pass
    assert on_side


def test_threads_do_not_count_for_each_other(nesting: Nesting):
    seen: list[bool] = []

    def other() -> None:
        with nesting.entered(side=False) as on_side:
            seen.append(on_side)

    with nesting.entered(side=False):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
    assert [False] == seen


def test_a_block_left_by_another_thread_is_left_all_the_same(nesting: Nesting):
    block = nesting.entered(side=False)
    block.__enter__()
    thread = threading.Thread(target=lambda: block.__exit__(None, None, None))
    thread.start()
    thread.join(10)
    with nesting.entered(side=False) as on_side:
        assert not on_side
    assert {} == nesting._on_side


def test_an_error_inside_ends_the_unit(nesting: Nesting):
    with pytest.raises(ZeroDivisionError), nesting.entered(side=False):
        raise ZeroDivisionError
    assert {} == nesting._on_side
