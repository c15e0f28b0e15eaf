"""Peppers and master keys: their written form, their absence, and that they are never shown."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import SecuritySettings, Settings, listing
from rootstream_db.settings import security as module

ONE = bytes(range(32))
TWO = bytes(range(100, 140))
BOTH_DIALECTS = b"\xfb\xff" * 16


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def security(**values: str) -> SecuritySettings:
    return SecuritySettings(**values)  # type: ignore[arg-type]  # pydantic wraps the text


@pytest.fixture(autouse=True)
def warned_of_nothing_yet():
    module._warn_once.cache_clear()


def test_keys_are_read_with_their_numbers():
    settings = security(
        token_peppers=f"1:{text(ONE)},2:{text(TWO)}",
        master_keys=f"1:{text(TWO[:32])} 7:{text(ONE)}",
    )
    assert {1: ONE, 2: TWO} == settings.peppers()
    assert {1: TWO[:32], 7: ONE} == settings.masters()


@pytest.mark.parametrize(
    "written",
    [
        base64.b64encode(BOTH_DIALECTS).decode(),
        base64.urlsafe_b64encode(BOTH_DIALECTS).decode(),
        base64.urlsafe_b64encode(BOTH_DIALECTS).decode().rstrip("="),
    ],
)
def test_every_common_form_of_base64_is_read(written: str):
    assert {1: BOTH_DIALECTS} == security(token_peppers=f"1:{written}").peppers()


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("token_peppers", "", "there is no key"),
        ("token_peppers", " , ", "there is no key"),
        ("token_peppers", text(ONE), "key 1 is not of the form"),
        ("token_peppers", f"0:{text(ONE)}", "key 1 is not of the form"),
        ("token_peppers", f"01:{text(ONE)}", "key 1 is not of the form"),
        ("token_peppers", f"-1:{text(ONE)}", "key 1 is not of the form"),
        ("token_peppers", f"٣:{text(ONE)}", "key 1 is not of the form"),
        ("token_peppers", f"1:{text(ONE)}\n2:{text(ONE)[:-4]}!", "key 2 is not of the form"),
        ("token_peppers", f"1:{text(ONE)[:-3]}", "key 1 is not base64"),
        ("token_peppers", f"1:{text(ONE[:31])}", "31 bytes, at least 32"),
        ("token_peppers", f"1:{text(ONE)},1:{text(TWO)}", "the number 1 is given twice"),
        ("token_peppers", f"100:{text(ONE)}", "numbers go up to 99"),
        ("master_keys", f"1:{text(TWO)}", "40 bytes, not 32"),
        ("master_keys", f"32768:{text(ONE)}", "numbers go up to 32767"),
    ],
)
def test_a_wrong_key_is_explained_and_not_shown(name: str, wrong: str, reason: str):
    with pytest.raises(ConfigurationError, match=reason) as caught:
        security(**{name: wrong})
    assert name == caught.value.setting
    shown = f"{caught.value!r} {caught.value} {caught.value.context}"
    assert text(ONE)[:12] not in shown
    assert text(TWO)[:12] not in shown


@pytest.mark.parametrize(
    ("name", "read"), [("token_peppers", "peppers"), ("master_keys", "masters")]
)
def test_production_refuses_to_go_without_a_key(name: str, read: str):
    settings = security(environment="production")
    with pytest.raises(
        ConfigurationError, match=f"ROOTSTREAM_SECURITY__{name.upper()}_FILE"
    ) as caught:
        getattr(settings, read)()
    assert f"security.{name}" == caught.value.setting


def test_development_goes_on_with_a_known_key_and_says_so_once(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        first, again = security().peppers(), SecuritySettings().peppers()
    assert first == again
    assert {1: 32} == {number: len(key) for number, key in first.items()}
    (record,) = caplog.records
    assert "security.token_peppers is not set" in record.getMessage()


def test_the_two_known_keys_differ():
    assert security().peppers() != security().masters()


def test_keys_come_from_files_like_every_setting(tmp_path: Path):
    path = tmp_path / "peppers"
    path.write_text(f"1:{text(ONE)}\n2:{text(TWO)}\n")
    settings = Settings.load(
        environ={"ROOTSTREAM_SECURITY__TOKEN_PEPPERS_FILE": str(path)},
        security__environment="production",
    )
    assert {1: ONE, 2: TWO} == settings.security.peppers()


def test_keys_are_masked_everywhere():
    settings = Settings(
        security=security(token_peppers=f"1:{text(ONE)}", master_keys=f"1:{text(ONE)}")
    )
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert text(ONE) not in shown + repr(listing(settings))
