"""Servers run as the caller, or as somebody with less rights when the caller is root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from rootstream_db.embedded.run_as import RunAs, choose_run_as
from rootstream_db.errors import EmbeddedServerError


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)


def test_a_user_stays_what_they_are(as_user: None, tmp_path: Path) -> None:
    account = choose_run_as(None, tmp_path)
    assert RunAs("54321", 54321, os.getegid(), switch=False) == account
    assert "user" not in account.popen_options()


def test_a_user_cannot_become_somebody_else(as_user: None) -> None:
    assert not choose_run_as("54321").switch
    with pytest.raises(EmbeddedServerError, match="only root"):
        choose_run_as("nobody")


def test_root_drops_user_group_and_extra_groups(as_root: None) -> None:
    nobody = pwd.getpwnam("nobody")
    options = choose_run_as("nobody").popen_options()
    assert {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}.items() <= (
        options.items()
    )


def test_servers_get_a_bare_environment(as_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert {"PATH", "LC_ALL", "TZ"} == set(choose_run_as("nobody").popen_options()["env"])


@pytest.mark.parametrize(
    ("known", "expected"), [({"postgres", "nobody"}, "postgres"), ({"nobody"}, "nobody")]
)
def test_root_prefers_postgres_to_nobody(
    as_root: None, monkeypatch: pytest.MonkeyPatch, known: set[str], expected: str
) -> None:
    nobody = pwd.getpwnam("nobody")

    def lookup(name: str) -> pwd.struct_passwd:
        if name not in known:
            raise KeyError(name)
        return nobody

    monkeypatch.setattr(pwd, "getpwnam", lookup)
    assert expected == choose_run_as(None).name


def test_root_alone_on_a_machine_is_told_to_name_an_account(
    as_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", lookup)
    with pytest.raises(EmbeddedServerError, match="name one with run_as"):
        choose_run_as(None)


def test_a_way_that_can_be_walked_has_no_unreachable_part(tmp_path: Path) -> None:
    own = RunAs("me", os.geteuid(), os.getegid(), switch=False)
    assert own.unreachable_part(tmp_path) is None
    assert str(tmp_path / "missing") == own.unreachable_part(tmp_path / "missing" / "deeper")
