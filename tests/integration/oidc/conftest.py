from __future__ import annotations

import pytest

from tests.fixtures.id_tokens import make_verifier
from tests.fixtures.issuer import KeyServer, SigningKey


@pytest.fixture(scope="session")
def key():
    return SigningKey("RS256", "one")


@pytest.fixture(scope="session")
def other_key():
    return SigningKey("RS256", "two")


@pytest.fixture
def server(key):
    with KeyServer() as server:
        server.keys = [key.jwk]
        yield server


@pytest.fixture
def verifier(server, clock):
    return make_verifier(server, clock)
