"""A challenge is answered once, whoever answers, and whatever becomes of the answer."""

from __future__ import annotations

import json
from functools import partial

import pytest

from rootstream_db.errors import (
    PasskeyChallengeSpentError,
    PasskeyOriginError,
)
from tests.fixtures.authenticator import Authenticator, b64
from tests.fixtures.mfa import attempts_of, together


def test_a_challenge_is_answered_once(alice, key, begin, finish):
    ceremony = begin(alice)
    answer = key.get(ceremony.options)
    finish(ceremony, answer)
    for again in (answer, key.get(ceremony.options)):
        with pytest.raises(PasskeyChallengeSpentError):
            finish(ceremony, again)


def test_a_wrong_answer_spends_the_challenge_too(alice, key, begin, finish):
    ceremony = begin(alice)
    with pytest.raises(PasskeyOriginError):
        finish(ceremony, key.get(ceremony.options, origin="https://evil.test"))
    with pytest.raises(PasskeyChallengeSpentError):
        finish(ceremony, key.get(ceremony.options))


def test_a_rollback_does_not_bring_a_challenge_back(rs, alice, key, begin, finish):
    ceremony = begin(alice)

    def fail():
        with rs.transaction() as work:
            answer = key.get(ceremony.options)
            rs.mfa.passkeys.finish_authentication(work, ceremony.id, answer)
            raise RuntimeError("the session could not be opened")

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(PasskeyChallengeSpentError):
        finish(ceremony, key.get(ceremony.options))


def test_of_twenty_threads_with_one_answer_one_is_let_in(alice, key, begin, finish):
    ceremony = begin(alice)
    answer = key.get(ceremony.options)
    counted = together(20, [partial(finish, ceremony, answer)] * 20)
    assert {"ok": 1, "auth.passkey_challenge_spent": 19} == counted


def test_a_challenge_runs_out(rs, alice, key, begin, finish, clock):
    ceremony = begin(alice)
    clock.advance(300)
    with pytest.raises(PasskeyChallengeSpentError):
        finish(ceremony, key.get(ceremony.options))
    assert ("passkey", "expired") == attempts_of(rs, alice)[0]


def test_challenges_that_nobody_answered_are_deleted(rs, alice, begin, clock):
    begin(alice)
    begin()
    clock.advance(301)
    with rs.transaction() as work:
        assert 2 == rs.mfa.delete_expired(work)


def test_a_challenge_of_before_a_restore_is_spent(rs, alice, key, begin, finish, clock):
    ceremony = begin(alice)
    clock.advance(10)
    with rs.transaction() as work:
        work.auth_state.next_generation(now=work.now, reason="restored from a backup")
    with pytest.raises(PasskeyChallengeSpentError):
        finish(ceremony, key.get(ceremony.options))
    clock.advance(10)
    ceremony = begin(alice)
    finish(ceremony, key.get(ceremony.options))


def test_a_challenge_for_one_purpose_is_none_for_the_other(
    alice, key, begin, finish, begin_registration, finish_registration
):
    ceremony = begin_registration(alice, "Another")
    with pytest.raises(PasskeyChallengeSpentError):
        finish(ceremony, key.get(ceremony.options))
    ceremony = begin(alice)
    fake = json.dumps({**json.loads(ceremony.options), "user": {"id": b64(b"x")}})
    with pytest.raises(PasskeyChallengeSpentError):
        finish_registration(ceremony, Authenticator().create(fake))
