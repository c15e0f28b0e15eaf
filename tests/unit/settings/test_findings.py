"""Every doubt is raised by the configuration that deserves it, and by no good one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from rootstream_db.errors import Severity
from rootstream_db.settings import Settings, findings
from rootstream_db.settings.rules import RULES

KEY = base64.b64encode(bytes(range(32))).decode()
GOOD: dict[str, Any] = {
    "database_url": "postgresql://app:pw@db.example.com/rootstream?sslmode=verify-full",
    "database__sslrootcert": "system",
    "redis_url": "rediss://:pw@cache.example.com/0",
    "accounts__min_password_length": 15,
    "security__environment": "production",
    "security__token_peppers": f"1:{KEY}",
    "security__master_keys": f"1:{KEY}",
}
REMOTE = "postgresql://app:pw@db.example.com/rootstream"

DOUBTFUL: dict[str, dict[str, Any]] = {
    "no-servers": {"database_url": None},
    "embedded-ignored": {"embedded__path": "/data"},
    "embedded-servers": {"embedded__path": "/data", "database_url": None, "redis_url": None},
    "pooler-without-direct-url": {"database__pooler": "pgbouncer"},
    "pooler-not-declared": {"database_url": "postgresql://localhost:6432/x"},
    "replica-is-primary": {"database__replica_urls": [GOOD["database_url"]]},
    "half-a-client-certificate": {"database__sslcert": "/etc/client.crt"},
    "lease-outlives-grace": {"streams__lease_ttl": "30s"},
    "lease-too-short": {"streams__lease_ttl": "4s"},
    "lockout-backwards": {"accounts__lockout_base": "20 min"},
    "password-in-clear": {"database_url": REMOTE},
    "server-not-verified": {"database_url": f"{REMOTE}?sslmode=require"},
    "no-authority": {"database__sslrootcert": None},
    "redis-in-clear": {"redis_url": "redis://:pw@cache.example.com/0"},
    "redis-without-password": {"redis_url": "rediss://cache.example.com/0"},
    "no-token-peppers": {"security__token_peppers": None},
    "no-master-keys": {"security__master_keys": None},
    "public-keys": {
        "database_url": "postgresql://localhost/x",
        "security__environment": "development",
        "security__token_peppers": None,
    },
    "public-keys-on-remote-servers": {
        "security__environment": "development",
        "security__master_keys": None,
    },
    "weak-password-hash": {"accounts__argon2_profile": "cheapest-for-tests"},
    "short-passwords": {"accounts__min_password_length": 12},
    "hooks-without-token": {"ingest__host": "0.0.0.0"},  # noqa: S104 - what the doubt is about
    "large-pool": {"database__pool_size": 51},
    "no-time-limit": {"database__statement_timeout": 0},
    "lock-limit-without-effect": {"database__lock_timeout": 30},
    "reads-without-limit": {
        "database__pooler": "pgbouncer",
        "database__direct_url": "postgresql:///x",
    },
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def ids(**over: Any) -> list[str]:
    settings = Settings.load(environ={}, **{**GOOD, **over})
    return [finding.id for finding in findings(settings)]


def test_a_good_configuration_has_no_findings():
    assert [] == ids()


@pytest.mark.parametrize("name", sorted(DOUBTFUL))
def test_a_doubtful_configuration_is_found(name: str):
    assert name in ids(**DOUBTFUL[name])


def test_every_rule_has_an_example_here_or_below():
    assert {rule.id for rule in RULES} == {*DOUBTFUL, "readable-secrets"}


def test_every_rule_names_a_setting_that_exists():
    known = {*Settings().sources, "config_file"}
    assert [] == [rule.id for rule in RULES if rule.setting not in known]


def test_local_servers_need_no_tls():
    assert [] == ids(
        database_url="postgresql://app:pw@localhost/x", redis_url="redis://localhost/0"
    )


def test_a_mode_in_the_url_counts_before_the_setting():
    url = f"{REMOTE}?sslmode=disable"
    assert "password-in-clear" in ids(database_url=url, database__sslmode="verify-full")


def test_embedded_servers_bring_keys_of_their_own():
    embedded = {"embedded__path": "/data", "database_url": None, "redis_url": None}
    for environment in ("development", "production"):
        assert ["embedded-servers"] == ids(
            **embedded,
            security__environment=environment,
            security__token_peppers=None,
            security__master_keys=None,
        )


@pytest.mark.parametrize(("mode", "found"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_with_secrets_that_others_can_read_is_found(
    mode: int, tmp_path: Path, *, found: bool
):
    path = tmp_path / "rootstream.toml"
    path.write_text(f'[redis]\nurl = "{GOOD["redis_url"]}"\n')
    path.chmod(mode)
    assert found == ("readable-secrets" in ids(redis_url=None))


def test_a_readable_file_without_secrets_is_no_finding(tmp_path: Path):
    path = tmp_path / "rootstream.toml"
    path.write_text("[database]\npool_size = 9\n")
    path.chmod(0o644)
    assert [] == ids()


def test_unknown_variables_are_findings():
    settings = Settings.load(environ={"ROOTSTREAM_DATABSE_URL": "x"}, **GOOD)
    (finding,) = findings(settings)
    assert ("unknown-variable", "schema") == (finding.id, finding.category)
    assert "ROOTSTREAM_DATABSE_URL" in finding.message


def test_the_most_severe_comes_first():
    severities = [
        finding.severity
        for finding in findings(Settings.load(environ={}, database_url=REMOTE, redis_url=None))
    ]
    order = list(Severity)
    assert sorted(severities, key=order.index, reverse=True) == severities
    assert Severity.CRITICAL == severities[0]
