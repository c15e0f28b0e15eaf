"""The page of the error tree."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from rootstream_db.errors import RootStreamError
from scripts.reference.markdown import code, summary, table

INTRODUCTION = """\
# Errors

Every error raised on purpose is a `RootStreamError`. `code` is stable and meant for programs;
`retryable` says whether the same call may succeed if simply made again. All of them are importable
from `rootstream_db.errors`.
"""


def render() -> str:
    """Return the page."""
    rows = [_row(error, depth) for error, depth in _tree(RootStreamError)]
    headings = ("error", "code", "severity", "retryable", "attributes", "meaning")
    return "\n".join([INTRODUCTION, *table(*headings, rows=rows)])


def _tree(error: type[RootStreamError], depth: int = 0) -> Iterator[tuple[type, int]]:
    yield error, depth
    for child in error.__subclasses__():
        # Errors that other modules derive for themselves are not part of the tree.
        if child.__module__.startswith("rootstream_db.errors"):
            yield from _tree(child, depth + 1)


def _row(error: type[RootStreamError], depth: int) -> list[str]:
    parameters = inspect.signature(error).parameters
    return [
        "&emsp;" * depth + code(error.__name__),
        code(error.code),
        error.severity.value,
        "yes" if error.retryable else "",
        ", ".join(code(name) for name in parameters if name not in {"message", "context"}),
        summary(error),
    ]
