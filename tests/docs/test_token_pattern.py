"""The pattern people copy into their scanner is the one the package's tokens have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rootstream_db.security.tokens import SCAN_PATTERN, TokenKind
from tests.factories import MINT

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "find-leaked-tokens.md"
TEXT = PAGE.read_text(encoding="utf-8")
(PUBLISHED,) = re.findall(r"^    (rs\[a-z\].*)$", TEXT, re.MULTILINE)


def test_the_published_pattern_is_the_one_in_the_code():
    assert SCAN_PATTERN == PUBLISHED


@pytest.mark.parametrize("kind", list(TokenKind))
def test_the_published_pattern_finds_every_kind_and_the_page_names_it(kind: TokenKind):
    token = MINT.issue(kind).text
    assert [token] == re.findall(PUBLISHED, f"token={token}&x")
    assert f"| `{kind.value}1_` |" in TEXT
