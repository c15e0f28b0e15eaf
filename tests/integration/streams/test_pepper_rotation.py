"""A pepper changes while streams go on: keys hold until the one they were made with is removed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from rootstream_db import RootStream
from rootstream_db.errors import InvalidCodeError, PermissionDeniedError
from rootstream_db.models import TokenPurpose
from rootstream_db.settings import SecuritySettings
from rootstream_db.testing import settings_for

KEYS = {version: base64.b64encode(bytes([version]) * 32).decode() for version in (1, 2)}


@pytest.fixture
def process(clean_database_url, redis_url, clock) -> Iterator[Callable[..., RootStream]]:
    """Starts processes that know some peppers and issue under one of them."""
    with ExitStack() as running:

        def start(*versions: int, issuing: int | None = None) -> RootStream:
            peppers = ",".join(f"{version}:{KEYS[version]}" for version in versions)
            security = SecuritySettings(token_peppers=SecretStr(peppers), issuing_pepper=issuing)
            settings = settings_for(clean_database_url, redis_url)
            settings = settings.model_copy(update={"security": security})
            return running.enter_context(RootStream(settings, clock=clock))

        yield start


@pytest.fixture
def owner(process):
    rootstream = process(1)
    with rootstream.transaction() as work:
        return rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password="three words and more"
        )


def new_key(rootstream: RootStream, owner) -> str:
    with rootstream.transaction() as work:
        return rootstream.streams.create(work, owner=owner, name="Speedrun")[1]


def publish(rootstream: RootStream, key: str) -> None:
    rootstream.streams.stop(rootstream.streams.start(key, node="edge-1"))


def test_keys_go_on_while_the_pepper_changes_step_by_step(process, owner):
    before = process(1)
    old_key = new_key(before, owner)
    knowing = process(1, 2, issuing=1)
    still_old = new_key(knowing, owner)
    after = process(1, 2)
    new = new_key(after, owner)
    assert ["rsk1_", "rsk1_", "rsk2_"] == [key[:5] for key in (old_key, still_old, new)]
    # Processes of the first two steps run side by side, then those of the last two.
    for rootstream, keys in [
        (before, [old_key, still_old]),
        (knowing, [old_key, still_old, new]),
        (after, [old_key, still_old, new]),
    ]:
        for key in keys:
            publish(rootstream, key)


def test_what_the_removed_pepper_made_is_refused(process, owner):
    before, removed = process(1), process(2)
    key = new_key(before, owner)
    with before.transaction() as work:
        token = before.accounts.issue_token(work, owner, TokenPurpose.VERIFY_EMAIL)
    with pytest.raises(PermissionDeniedError, match="unknown stream key"):
        publish(removed, key)
    with pytest.raises(InvalidCodeError), removed.transaction() as work:
        removed.accounts.verify_email(work, token)
    publish(before, key)
