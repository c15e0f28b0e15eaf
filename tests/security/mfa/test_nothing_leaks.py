"""Shared secrets, codes and tokens: absent from rows, Redis, logs, errors and reprs."""

from __future__ import annotations

import base64
import json
import logging
import re
import traceback

import pytest
import redis

from rootstream_db.errors import RootStreamError
from tests.fixtures.mfa import enroll
from tests.security.test_accounts_secrets import every_text_stored


@pytest.fixture
def lived(rootstream, clock, caplog):
    """A life with second factors; returns its secrets and everything errors and logs said."""
    caplog.set_level(logging.DEBUG)
    mfa, said = rootstream.mfa, []
    person = enroll(rootstream, clock)
    secrets = [str(person.secret), person.wrong(), person.code(), person.code(60)]

    def fail(method, *args):
        with pytest.raises(RootStreamError) as caught, rootstream.transaction() as work:
            getattr(mfa, method)(work, person.user, *args)
        said.append("".join(traceback.format_exception_only(caught.value)))
        said.append(repr(caught.value) + json.dumps(caught.value.as_dict()))

    with rootstream.transaction() as work:
        enrollment = mfa.enroll(work, person.user, label="Tablet")
        codes = mfa.generate_backup_codes(work, person.user)
        said += [repr(enrollment), repr(codes), repr(mfa), repr(vars(mfa))]
        said += [repr(mfa.list_enrollments(work, person.user))]
    secrets += [str(enrollment.secret), str(enrollment.uri), *map(str, codes)]
    proof = person.verify(person.code())
    with rootstream.transaction() as work:
        device = mfa.trust_device(work, person.user, proof)
        said += [repr(device), repr(proof)]
    secrets.append(str(device.token))
    fail("verify_totp", person.code())
    fail("verify_totp", person.wrong())
    fail("verify_totp", person.code(60))
    person.consume(codes[0])
    fail("consume_backup_code", codes[0])
    fail("consume_backup_code", codes[1][:-1] + ("0" if codes[1][-1] != "0" else "1"))
    fail("verify_trusted_device", device.token[:-1])
    said.append(caplog.text)
    return secrets, "\n".join(said)


def test_no_secret_is_said_by_any_error_log_or_repr(lived):
    secrets, said = lived
    # As a word of its own: any six digits occur somewhere in an id.
    assert [] == [one for one in secrets if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", said)]


def test_no_secret_is_stored_anywhere(lived, rootstream, redis_url):
    secrets, _ = lived
    with rootstream.transaction() as work:
        stored = every_text_stored(work)
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter("*"))
        stored += repr([(key, client.dump(key)) for key in keys])
    assert "MfaFactorAdded" in stored
    # Six digits occur by chance in any long row of digits; what is longer does not.
    long = [secret for secret in secrets if len(secret) > 6]
    assert 14 == len(long)
    assert [] == [secret for secret in long if secret in stored]
    assert [] == [secret for secret in long if secret.encode().hex() in stored]
    seeds = [base64.b32decode(secret) for secret in (secrets[0], secrets[4])]
    assert [] == [seed for seed in seeds if seed.hex() in stored]
