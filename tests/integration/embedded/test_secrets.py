"""The keys of an embedded folder: random, made once, whole, and read by nobody else."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from rootstream_db import RootStream, Settings
from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.secrets import folder_secrets
from rootstream_db.errors import EmbeddedServerError
from rootstream_db.security.tokens import TokenKind
from rootstream_db.settings import SecuritySettings

SPAWN = multiprocessing.get_context("spawn")


def kept(path: Path) -> tuple[str, str]:
    folder = ServerFolder(path, "pair")
    folder.create()
    found = folder_secrets(folder)
    return found.token_peppers.get_secret_value(), found.master_keys.get_secret_value()


def test_keys_are_random_and_stay(tmp_path: Path):
    first, second = kept(tmp_path / "one"), kept(tmp_path / "two")
    assert 4 == len({*first, *second})
    assert first == kept(tmp_path / "one")
    settings = SecuritySettings(token_peppers=SecretStr(first[0]), master_keys=SecretStr(first[1]))
    assert ([1], [1]) == (list(settings.peppers()), list(settings.masters()))


def test_nobody_else_may_read_them(tmp_path: Path):
    kept(tmp_path)
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in [tmp_path / "secrets", *(tmp_path / "secrets").iterdir()]
    }
    assert {"secrets": 0o700, "token_peppers": 0o600, "master_keys": 0o600} == modes


def test_processes_that_start_together_agree(tmp_path: Path):
    with ProcessPoolExecutor(4, SPAWN) as processes:
        found = list(processes.map(kept, [tmp_path / "new"] * 12))
    assert 1 == len(set(found))


def test_a_process_killed_while_writing_leaves_no_half_a_key(tmp_path: Path):
    kept(tmp_path)
    folder = tmp_path / "secrets"
    (folder / "master_keys").unlink()
    (folder / "master_keys.new").write_text("1:aGFsZiBhIG")
    peppers, masters = kept(tmp_path)
    assert SecuritySettings(master_keys=SecretStr(masters)).masters()
    assert [peppers, masters] == [
        (folder / name).read_text().strip() for name in ("token_peppers", "master_keys")
    ]
    assert not (folder / "master_keys.new").exists()


@pytest.mark.parametrize("link", ["secrets", "secrets/master_keys"])
def test_a_symbolic_link_in_the_way_is_not_followed(tmp_path: Path, link: str):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    if link != "secrets":
        kept(data)
        (data / link).unlink()
    (data / link).symlink_to(elsewhere / "planted")
    with pytest.raises(EmbeddedServerError, match="secrets"):
        kept(data)
    assert [] == list(elsewhere.iterdir())


def test_an_installation_uses_its_own_keys_unless_told_otherwise(folder: Path):
    with RootStream.embedded(folder / "data") as rs:
        token = rs.tokens.issue(TokenKind.SESSION)
    mine = SecretStr(f"7:{'A' * 43}")
    told = Settings(security=SecuritySettings(token_peppers=mine, environment="production"))
    with RootStream.embedded(folder / "data") as rs:
        assert token.digest == rs.tokens.digest(token.text, TokenKind.SESSION)
        master_keys = rs.settings.security.master_keys
        assert master_keys is not None
        assert kept(folder / "data")[1] == master_keys.get_secret_value()
    with RootStream.embedded(folder / "data", settings=told) as rs:
        assert ({7: bytes(32)}, [1]) == (
            rs.settings.security.peppers(),
            list(rs.settings.security.masters()),
        )
