"""The few pieces of Markdown that the reference pages are made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterable


def table(*headings: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [list(headings), ["---"] * len(headings), *cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def code(text: object) -> str:
    """Return text set as code; nothing stays nothing."""
    return f"`{text}`" if text not in (None, "") else ""


def summary(documented: object) -> str:
    """Return the first paragraph of a docstring (or of what has one) as one line."""
    return paragraph(documented).split("\n\n", maxsplit=1)[0].replace("\n", " ")


def paragraph(documented: object) -> str:
    """Return a whole docstring with its code spans in Markdown."""
    text = documented if isinstance(documented, str) else inspect.getdoc(documented)
    return inspect.cleandoc(text or "").replace("``", "`")
