"""Every setting can be shown, with its source and without secrets."""

from __future__ import annotations

from rootstream_db.settings import Settings, listing

SECRET = "correct-horse-battery"


def listed(**arguments):
    settings = Settings.load(environ={}, **arguments)
    return {item.name: item for item in listing(settings)}


def test_every_setting_is_listed_once_and_described():
    items = listing(Settings())
    assert list(Settings().sources) == [item.name for item in items]
    assert [] == [item.name for item in items if not item.description]


def test_urls_are_shown_without_password_and_other_secrets_as_stars():
    items = listed(
        database_url=f"postgresql://app:{SECRET}@db/x",
        database__replica_urls=[f"postgresql://app:{SECRET}@r1/x", "postgresql://r2/x"],
        ingest__hook_token=SECRET,
    )
    assert "postgresql://app:***@db/x" == items["database.url"].value
    assert "postgresql://app:***@r1/x, postgresql://r2/x" == items["database.replica_urls"].value
    assert "***" == items["ingest.hook_token"].value
    assert SECRET not in repr(items)


def test_values_defaults_variables_and_sources_are_text():
    item = listed(cache__session_ttl="2h")["cache.session_ttl"]
    assert ("7200s", "86400s", "argument") == (item.value, item.default, item.source)
    assert "ROOTSTREAM_CACHE__SESSION_TTL" == item.variable
    assert "" == listed()["database.url"].value
    assert "ROOTSTREAM_DATABASE_URL" == listed()["database.url"].variable
