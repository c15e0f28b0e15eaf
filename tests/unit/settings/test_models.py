"""Settings are frozen, keep secrets and explain what is wrong with them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic import ValidationError as PydanticValidationError

from rootstream_db import settings as settings_package
from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import DatabaseSettings, IngestSettings, RedisSettings, Settings

SECRET = "correct-horse-battery"
URL = f"postgresql://app:{SECRET}@db.example.com/rootstream"


def test_settings_cannot_be_changed():
    with pytest.raises(PydanticValidationError, match="frozen"):
        Settings().database.pool_size = 3


def test_every_wrong_setting_is_named_at_once_with_its_source():
    environ = {
        "ROOTSTREAM_DATABASE__POOL_SIZE": "many",
        "ROOTSTREAM_REDIS__RETRIES": "-1",
        "DATABASE_URL": f"mysql://app:{SECRET}@db/x",
    }
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environ=environ)
    message = str(caught.value)
    assert "3 settings" in message
    for name, source in [
        ("database.url", "DATABASE_URL"),
        ("database.pool_size", "ROOTSTREAM_DATABASE__POOL_SIZE"),
        ("redis.retries", "ROOTSTREAM_REDIS__RETRIES"),
    ]:
        assert f"{name} (from {source}): " in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "wrong",
    [
        f"mysql://app:{SECRET}@db/x",
        f"app:{SECRET}@db/x",
        f"postgresql://app:{SECRET}#1@db/x",
        f"postgresql://app:{SECRET}@db:port/x",
        f"postgresql://app:{SECRET}@db:99999/x",
        f"postgresql://app:{SECRET}@[::1/x",
        f"postgresql://app@/x?host=a&port={SECRET}",
        f"postgresql://app:pw@db/x#{SECRET}",
    ],
)
def test_a_wrong_url_is_explained_without_its_password(wrong: str):
    with pytest.raises(ConfigurationError) as caught:
        DatabaseSettings(url=SecretStr(wrong))
    shown = repr(caught.value) + str(caught.value) + repr(caught.value.context)
    assert "url" in shown
    assert SECRET not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("type_", [42, b"bytes", ["list"]])
def test_a_secret_of_the_wrong_type_is_not_shown(type_: object):
    with pytest.raises(ConfigurationError) as caught:
        DatabaseSettings(url=type_)  # type: ignore[arg-type]  # that is the test
    assert "42" not in str(caught.value)


def test_secrets_are_masked_everywhere():
    settings = Settings(
        database=DatabaseSettings(
            url=SecretStr(URL), direct_url=SecretStr(URL), replica_urls=(SecretStr(URL),)
        ),
        redis=RedisSettings(url=SecretStr(f"redis://:{SECRET}@cache/0")),
        ingest=IngestSettings(hook_token=SecretStr(SECRET)),
    )
    loaded = Settings.load(environ={"ROOTSTREAM_DATABASE_URL": URL}, ingest__hook_token=SECRET)
    for shown in (settings, loaded):
        assert SECRET not in f"{shown!r} {shown} {shown.model_dump()} {shown.model_dump_json()}"
        assert SECRET not in f"{shown.sources} {shown._gathered!r}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_is_a_postgresql_url(scheme: str):
    url = DatabaseSettings(url=SecretStr(f"{scheme}://db/x")).url
    assert url is not None


def test_problems_of_nested_sections_carry_their_full_name():
    with pytest.raises(ConfigurationError) as caught:
        Settings(database={"pool_size": 0}, redis={"url": "http://x"})  # type: ignore[arg-type]  # that is the test
    assert [
        "database.pool_size",
        "redis.url",
    ] == [name for name, _ in caught.value.context["problems"]]


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigurationError, match="pool_sise: there is no such setting"):
        DatabaseSettings(pool_sise=3)  # type: ignore[call-arg]  # that is the test


def test_settings_survive_pickling():
    settings = Settings.load(environ={"ROOTSTREAM_DATABASE_URL": URL})
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own bytes
    assert settings == copy
    assert hash(settings) == hash(copy)
    assert settings.sources == copy.sources


def test_importing_settings_loads_no_engine():
    # Without the package's own __init__, which offers Database and so loads SQLAlchemy.
    code = f"""
import sys, types
package = sys.modules["rootstream_db"] = types.ModuleType("rootstream_db")
package.__path__ = [{str(Path(settings_package.__file__).parents[1])!r}]
import rootstream_db.settings
print([name for name in ("sqlalchemy", "psycopg", "redis", "alembic") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
