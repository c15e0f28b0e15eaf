from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.cache import keys
from rootstream_db.cache.keys import Keys, KeySpec
from rootstream_db.errors import ValidationError
from rootstream_db.settings import CacheSettings

TABLE = Keys("rs", CacheSettings())


def test_a_key_has_the_prefix_and_its_parts():
    assert "rs:live:7" == TABLE.key(keys.LIVE_STATUS, stream_id=7)


def test_a_key_knows_how_long_its_value_lives():
    assert timedelta(hours=1) == TABLE.key(keys.LIVE_STATUS, stream_id=7).ttl
    assert timedelta(hours=24) == TABLE.key(keys.SESSION, token_hash="ab").ttl
    assert timedelta(minutes=5) == TABLE.key(keys.VIEWER_COUNT, stream_id=7).ttl


def test_a_configured_lifetime_replaces_the_default():
    table = Keys("rs", CacheSettings(live_status_ttl=timedelta(minutes=2)))
    assert timedelta(minutes=2) == table.key(keys.LIVE_STATUS, stream_id=7).ttl


@pytest.mark.parametrize("parts", [{}, {"stream": 7}, {"stream_id": 7, "more": 1}])
def test_wrong_parts_are_refused(parts):
    with pytest.raises(ValidationError, match="live_status is made of stream_id"):
        TABLE.key(keys.LIVE_STATUS, **parts)


@given(st.text(max_size=200), st.text(max_size=200))
def test_different_parts_never_make_the_same_key(one, other):
    same = TABLE.key(keys.USER, user_id=one) == TABLE.key(keys.USER, user_id=other)
    assert (one == other) is same


@given(st.text(max_size=200))
def test_no_part_can_bring_its_own_hash_tag_wildcard_or_separator(part):
    key = TABLE.key(keys.USER, user_id=part).removeprefix("rs:user:").removeprefix("sha256:")
    assert not set(key) & set("{}*?[]: \x00\n")


def test_a_megabyte_long_part_makes_a_short_key():
    assert 100 > len(TABLE.key(keys.USER, user_id="x" * 1_000_000))


def test_names_and_patterns_of_the_table_are_unique():
    assert len(keys.TABLE) == len({spec.name for spec in keys.TABLE})
    assert len(keys.TABLE) == len({spec.pattern for spec in keys.TABLE})


def test_every_spec_of_the_module_is_in_the_table():
    defined = {value for value in vars(keys).values() if isinstance(value, KeySpec)}
    assert defined == set(keys.TABLE)


def test_the_reference_page_shows_every_key_with_its_lifetime():
    page = TABLE.as_markdown()
    for spec in keys.TABLE:
        assert f"| `{spec.name}` |" in page
    assert "`rs:live:<stream_id>` | string | 3600 s (`cache.live_status_ttl`)" in page
    assert "until deleted" in page
