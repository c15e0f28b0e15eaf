"""16: garbage in the place of a token is refused by its form, everywhere, without a look-up."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from rootstream_db import RootStream
from rootstream_db.errors import AuthenticationError, PermissionDeniedError
from rootstream_db.security.tokens import TokenKind
from rootstream_db.settings import AccountSettings, DatabaseSettings, RedisSettings, Settings
from tests.factories import MINT

GOOD = MINT.issue(TokenKind.SESSION).text
GARBAGE = {
    "empty": "",
    "none": None,
    "number": 7,
    "bytes": GOOD.encode(),
    "list": list(GOOD),
    "megabyte": "rss1_" + "A" * 1_000_000,
    "nul": GOOD[:20] + "\0" + GOOD[21:],
    "unicode digits": "rss1_" + "\u0661" * 49,
    "full-width": GOOD.translate({ord(digit): 0xFEE0 + ord(digit) for digit in "0123456789"}),
    "surrogates": "\ud800" * 54,
    "leading space": " " + GOOD,
    "trailing line end": GOOD + "\n",
    "one character changed": GOOD[:-8] + ("A" if GOOD[-8] != "A" else "B") + GOOD[-7:],
    "swapped neighbours": GOOD[:10] + GOOD[11] + GOOD[10] + GOOD[12:],
    "cut": GOOD[:-1],
    "upper case": GOOD.upper(),
    "injection": "rss1_' OR '1'='1",
    "unknown pepper": MINT.issue(TokenKind.SESSION).text.replace("rss1_", "rss2_"),
    "another kind": MINT.issue(TokenKind.MFA_CHALLENGE).text,
}


@pytest.fixture
def nowhere():
    """A data layer whose every look-up fails, so that one which is made shows."""
    settings = Settings(
        database=DatabaseSettings(url=SecretStr("postgresql://nobody@127.0.0.1:1/none")),
        redis=RedisSettings(url=SecretStr("redis://127.0.0.1:1")),
        accounts=AccountSettings(argon2_profile="cheapest-for-tests"),
    )
    with RootStream(settings) as rootstream:
        yield rootstream


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize(
    "use",
    [
        lambda rs, token: rs.sessions.validate(token),
        lambda rs, token: rs.sessions.rotate(token),
        lambda rs, token: rs.sessions.refresh(token),
        lambda rs, token: rs.access.keys.authenticate(token),
        lambda rs, token: rs.streams.start(token, node="a"),
    ],
    ids=["validate", "rotate", "refresh", "api key", "stream key"],
)
def test_16_garbage_is_refused_without_asking_anybody(nowhere, use, name):
    with pytest.raises((AuthenticationError, PermissionDeniedError)) as caught:
        use(nowhere, GARBAGE[name])
    assert GOOD[5:40] not in f"{caught.value!r}{caught.value.as_dict()}"


@pytest.mark.parametrize("name", GARBAGE)
def test_16_garbage_redeems_nothing(rootstream, name):
    use = [rootstream.accounts.verify_email, lambda work, token: rootstream.accounts.reset_password(
        work, token, "a good long pass phrase")]  # fmt: skip
    for act in use:
        with pytest.raises(AuthenticationError), rootstream.transaction() as work:
            act(work, GARBAGE[name])


def test_16_a_good_token_that_was_never_issued_is_looked_up_and_refused(rootstream):
    for act, kind in (
        (rootstream.sessions.validate, TokenKind.SESSION),
        (rootstream.access.keys.authenticate, TokenKind.API_KEY),
    ):
        with pytest.raises(AuthenticationError):
            act(MINT.issue(kind).text)
