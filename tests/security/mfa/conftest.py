"""Somebody with a passkey in software, at a site that takes passkeys."""

from __future__ import annotations

import pytest

from rootstream_db.settings import MfaSettings
from tests.factories import make_user
from tests.fixtures.authenticator import Authenticator

ORIGIN = "https://live.example.com"
SETTINGS = MfaSettings(passkey_rp_id="example.com", passkey_origins=(ORIGIN,))


@pytest.fixture
def rs(rootstream):
    """The data layer with passkeys set up."""
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": SETTINGS})
    return rootstream


@pytest.fixture
def alice(rs):
    """An account."""
    with rs.transaction() as work:
        return make_user(work, username="alice")


@pytest.fixture
def begin(rs):
    """Ask for a signature."""

    def begin(user=None):
        with rs.transaction() as work:
            return rs.mfa.passkeys.begin_authentication(work, user)

    return begin


@pytest.fixture
def finish(rs):
    """Answer with one."""

    def finish(ceremony, answer):
        with rs.transaction() as work:
            return rs.mfa.passkeys.finish_authentication(work, ceremony.id, answer)

    return finish


@pytest.fixture
def begin_registration(rs):
    """Ask for a passkey."""

    def begin(user, label="Passkey"):
        with rs.transaction() as work:
            return rs.mfa.passkeys.begin_registration(work, user, label=label)

    return begin


@pytest.fixture
def finish_registration(rs):
    """Answer with one."""

    def finish(ceremony, answer):
        with rs.transaction() as work:
            return rs.mfa.passkeys.finish_registration(work, ceremony.id, answer)

    return finish


@pytest.fixture
def key(alice, begin_registration, finish_registration):
    """A passkey of alice's."""
    made = Authenticator()
    ceremony = begin_registration(alice)
    finish_registration(ceremony, made.create(ceremony.options))
    return made
