"""Signatures: the specification's own vector, and keys that never show."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.webhooks.signing import headers_for, key_of, new_secret

# The vector of the reference libraries at github.com/standard-webhooks/standard-webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_vector_of_the_specification_comes_out():
    sent_at = datetime.fromtimestamp(TIMESTAMP, UTC)
    assert {
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": SIGNATURE,
    } == headers_for(key_of(SECRET), MESSAGE, sent_at, BODY)


def test_a_new_secret_holds_256_bits_and_does_not_show():
    secret = new_secret()
    assert 32 == len(key_of(secret))
    assert secret != new_secret()
    assert secret.removeprefix("whsec_") not in repr(secret)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_täst",
    ],
)
def test_what_is_no_secret_is_refused_without_being_repeated(secret):
    with pytest.raises(ValidationError) as caught:
        key_of(secret)
    assert "secret" == caught.value.field
    assert caught.value.__cause__ is None
    shown = secret.removeprefix("whsec_")
    assert not shown or shown not in str(caught.value)
