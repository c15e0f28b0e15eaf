"""docs/reference/ is written from the code and says what the code says."""

from __future__ import annotations

import pytest

from scripts import generate_reference


@pytest.mark.parametrize("name", generate_reference.PAGES)
def test_the_page_is_up_to_date(name: str):
    assert not generate_reference.is_stale(name), (
        f"{generate_reference.page(name).name} is stale: run scripts/generate_reference.py"
    )


def test_a_changed_page_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(generate_reference, "REFERENCE", tmp_path)
    page = generate_reference.page("errors")
    page.write_text(generate_reference.rendered("errors"), encoding="utf-8")
    assert not generate_reference.is_stale("errors")

    page.write_text(page.read_text(encoding="utf-8").replace("high", "low"), encoding="utf-8")

    assert generate_reference.is_stale("errors")
