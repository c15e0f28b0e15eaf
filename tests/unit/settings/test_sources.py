"""Where settings come from, and which source wins."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import DatabaseSettings, Settings

URL = "postgresql://app:s3cret@db.example.com/rootstream"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test finds a rootstream.toml of the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(environ: dict[str, str] | None = None, **arguments):
    return Settings.load(environ=environ or {}, **arguments)


def url_of(settings: Settings) -> str | None:
    return settings.database.url.get_secret_value() if settings.database.url else None


def test_without_any_source_every_setting_is_its_default():
    settings = load()
    assert Settings() == settings
    assert {"default"} == set(settings.sources.values())


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE__POOL_SIZE", "7")
    assert 7 == Settings.load().database.pool_size


def test_settings_made_directly_never_look_at_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE__POOL_SIZE", "7")
    assert 10 == Settings().database.pool_size


SOURCES = ["argument", "variable", "toml", "fallback"]


@pytest.mark.parametrize("present", [SOURCES[start:] for start in range(len(SOURCES))])
def test_the_first_source_that_names_a_setting_wins(present: list[str], tmp_path: Path):
    urls = {source: f"postgresql://{source}/db" for source in SOURCES}
    environ = {}
    if "fallback" in present:
        environ["DATABASE_URL"] = urls["fallback"]
    if "variable" in present:
        environ["ROOTSTREAM_DATABASE_URL"] = urls["variable"]
    if "toml" in present:
        (tmp_path / "rootstream.toml").write_text(f'[database]\nurl = "{urls["toml"]}"\n')
    arguments = {"database_url": urls["argument"]} if "argument" in present else {}
    assert urls[present[0]] == url_of(load(environ, **arguments))


@pytest.mark.parametrize(
    ("name", "file"), [("ROOTSTREAM_DATABASE_URL", "_FILE"), ("ROOTSTREAM_DATABASE__URL", "_FILE")]
)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_twin_gives_the_files_content_without_one_newline(name, file, ending, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes((URL + ending).encode())
    settings = load({name + file: str(secret)})
    assert URL == url_of(settings)
    assert f"{name}_FILE ({secret})" == settings.sources["database.url"]


def test_only_one_newline_is_taken_from_a_file(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n\n")
    settings = load({"ROOTSTREAM_INGEST__HOOK_TOKEN_FILE": str(secret)})
    assert settings.ingest.hook_token is not None
    assert "0123456789abcdef\n" == settings.ingest.hook_token.get_secret_value()


@pytest.mark.parametrize(
    "environ",
    [
        {"ROOTSTREAM_DATABASE_URL": URL, "ROOTSTREAM_DATABASE_URL_FILE": "/run/secrets/url"},
        {"ROOTSTREAM_DATABASE_URL": URL, "ROOTSTREAM_DATABASE__URL": URL},
    ],
)
def test_two_variables_for_one_setting_are_refused(environ: dict[str, str]):
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    assert "database.url" == caught.value.setting
    assert all(name in str(caught.value) for name in environ)
    assert "s3cret" not in str(caught.value)


def test_an_empty_variable_counts_as_not_set():
    environ = {"ROOTSTREAM_DATABASE_URL": "", "ROOTSTREAM_DATABASE_URL_FILE": "", "REDIS_URL": ""}
    assert load().sources == load(environ).sources


def test_a_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"ROOTSTREAM_REDIS_URL_FILE: .*No such file"):
        load({"ROOTSTREAM_REDIS_URL_FILE": str(tmp_path / "missing")})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load({"ROOTSTREAM_REDIS_URL_FILE": str(tmp_path / "binary")})


def test_unknown_variables_are_collected_and_not_fatal():
    environ = {
        "ROOTSTREAM_DATABSE_URL": URL,
        "ROOTSTREAM_CONFIG_FILE": "x",
        "ROOTSTREAM_TEST_POSTGRES_BINDIR": "/usr/lib/postgresql/15/bin",
        "OTHER": "x",
    }
    settings = load(environ)
    assert ("ROOTSTREAM_CONFIG_FILE", "ROOTSTREAM_DATABSE_URL") == settings.unknown_variables


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("DATABASE__POOL_TIMEOUT", "500ms", 0.5),
        ("DATABASE__LOCK_TIMEOUT", "15 min", 900.0),
        ("DATABASE__STATEMENT_TIMEOUT", "45", 45.0),
        ("LOGGING__LEVEL", "debug", "DEBUG"),
        ("INGEST__PORT", "9000", 9000),
    ],
)
def test_text_becomes_the_type_of_the_setting(variable, text, value):
    settings = load({f"ROOTSTREAM_{variable}": text})
    section, _, key = variable.lower().partition("__")
    assert value == getattr(getattr(settings, section), key)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90", 90), ("PT15M", 900), ("1.5 h", 5400), ("2d", 172800)],
)
def test_durations_may_carry_a_unit(text: str, seconds: float):
    settings = load({"ROOTSTREAM_CACHE__SESSION_TTL": text})
    assert seconds == settings.cache.session_ttl.total_seconds()


def test_durations_and_seconds_may_be_given_as_timedelta():
    minute = timedelta(minutes=1)
    settings = load(cache__user_ttl=minute, database__pool_timeout=minute)
    assert minute == settings.cache.user_ttl
    assert 60.0 == settings.database.pool_timeout


def test_several_replica_urls_are_split_between_urls_not_between_hosts():
    text = "postgresql://a:1,b:2/db, postgres://c/db\npostgresql://d/db"
    settings = load({"ROOTSTREAM_DATABASE__REPLICA_URLS": text})
    assert ["postgresql://a:1,b:2/db", "postgres://c/db", "postgresql://d/db"] == [
        url.get_secret_value() for url in settings.database.replica_urls
    ]


class TestArguments:
    def test_a_section_may_be_a_mapping_a_model_or_single_names(self):
        as_mapping = load(database={"pool_size": 3})
        as_model = load(database=DatabaseSettings(pool_size=3))
        as_name = load(database__pool_size=3)
        assert as_mapping == as_model == as_name
        assert "argument" == as_model.sources["database.pool_size"]
        assert "default" == as_model.sources["database.pool_timeout"]

    def test_a_single_name_wins_over_its_section(self):
        assert 4 == load(database={"pool_size": 3}, database__pool_size=4).database.pool_size

    def test_none_means_not_given(self):
        environ = {"ROOTSTREAM_DATABASE__POOL_SIZE": "7"}
        assert 7 == load(environ, database__pool_size=None).database.pool_size

    def test_the_urls_have_short_names(self):
        settings = load(database_url=URL, redis_url=SecretStr("redis://cache/0"))
        assert URL == url_of(settings)
        assert "redis://cache/0" == settings.redis.url.get_secret_value()

    def test_sources_of_settings_made_directly_are_arguments(self):
        settings = Settings(database=DatabaseSettings(pool_size=3))
        assert "argument" == settings.sources["database.pool_size"]
        assert "default" == settings.sources["redis.url"]

    def test_something_that_is_no_section_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"database .*not a section"):
            load(database=5)


class TestConfigFile:
    def places(self, tmp_path: Path) -> tuple[dict[str, str], list[Path]]:
        """Return an environment and the usual places in it, the most important first."""
        named = tmp_path / "named.toml"
        xdg = tmp_path / "xdg" / "rootstream-db" / "config.toml"
        xdg.parent.mkdir(parents=True)
        environ = {"ROOTSTREAM_CONFIG": str(named), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
        return environ, [named, tmp_path / "rootstream.toml", xdg]

    def test_the_first_file_of_the_usual_places_is_read(self, tmp_path: Path):
        environ, places = self.places(tmp_path)
        for size, place in enumerate(places, start=1):
            place.write_text(f"[database]\npool_size = {size}\n")
        assert 1 == load(environ).database.pool_size
        del environ["ROOTSTREAM_CONFIG"]
        assert 2 == load(environ).database.pool_size
        places[1].unlink()
        settings = load(environ)
        assert 3 == settings.database.pool_size
        assert places[2] == settings.config_file
        assert str(places[2]) == settings.sources["database.pool_size"]

    def test_the_home_folder_is_the_default_of_xdg(self, tmp_path: Path):
        path = tmp_path / ".config" / "rootstream-db" / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text("[database]\npool_size = 6\n")
        assert 6 == load({"HOME": str(tmp_path)}).database.pool_size

    def test_an_argument_names_another_file(self, tmp_path: Path):
        environ, places = self.places(tmp_path)
        places[0].write_text("[database]\npool_size = 1\n")
        other = tmp_path / "other.toml"
        other.write_text("[database]\npool_size = 9\n")
        assert 9 == load(environ, config_file=other).database.pool_size

    @pytest.mark.parametrize("how", ["argument", "variable"])
    def test_a_named_file_must_exist(self, how: str, tmp_path: Path):
        missing = str(tmp_path / "missing.toml")
        argument = missing if how == "argument" else None
        with pytest.raises(ConfigurationError, match=r"there is no file .*missing\.toml"):
            load({"ROOTSTREAM_CONFIG": missing}, config_file=argument)

    def test_an_unknown_key_is_refused_with_what_may_be_meant(self, tmp_path: Path):
        (tmp_path / "rootstream.toml").write_text("[database]\npoolsize = 3\n")
        with pytest.raises(ConfigurationError) as caught:
            load()
        assert "database.poolsize" == caught.value.setting
        assert "did you mean database.pool_size?" in str(caught.value)
        assert "rootstream.toml" in str(caught.value)

    def test_an_unknown_section_is_refused(self, tmp_path: Path):
        (tmp_path / "rootstream.toml").write_text("[datbase]\nurl = 'x'\n")
        with pytest.raises(ConfigurationError, match="datbase"):
            load()

    def test_a_key_outside_a_section_is_refused(self, tmp_path: Path):
        (tmp_path / "rootstream.toml").write_text("pool_size = 3\n")
        with pytest.raises(ConfigurationError, match=r"pool_size .*not a section"):
            load()

    def test_a_broken_file_is_named(self, tmp_path: Path):
        (tmp_path / "rootstream.toml").write_text("[database\n")
        with pytest.raises(ConfigurationError, match=r"rootstream\.toml is not valid TOML"):
            load()


def test_nothing_configured_names_both_ways():
    with pytest.raises(ConfigurationError) as caught:
        load().require_servers()
    message = str(caught.value)
    assert "ROOTSTREAM_DATABASE_URL" in message
    assert "RootStream.embedded(path)" in message
    assert "database.url" == caught.value.setting


def test_the_server_that_is_missing_is_named():
    with pytest.raises(ConfigurationError, match="where Redis can be reached") as caught:
        load(database_url=URL).require_servers()
    assert "redis.url" == caught.value.setting


@pytest.mark.parametrize(
    "arguments",
    [{"database_url": URL, "redis_url": "redis://cache/0"}, {"embedded__path": "/data"}],
)
def test_urls_or_a_folder_are_enough(arguments: dict[str, Any]):
    load(**arguments).require_servers()
