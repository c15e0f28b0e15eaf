"""Where webhooks may go: https, or this machine; public addresses, or networks that were named."""

from __future__ import annotations

import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.webhooks.addresses import Target, refusal, target_of
from rootstream_db.settings import Settings, WebhookSettings

PUBLIC = target_of("https://hooks.example.com/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/")),
        ("https://example.com:8443/a?b=c#d", Target("https", "example.com", 8443, "/a?b=c")),
        ("http://127.0.0.1:80/in", Target("http", "127.0.0.1", 80, "/in")),
        ("http://localhost/in", Target("http", "localhost", 80, "/in")),
        ("http://[::1]:8080/in", Target("http", "::1", 8080, "/in")),
    ],
)
def test_a_url_is_taken_apart(url, expected):
    assert expected == target_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://example.com/",
        "http://localhost.example.com/",
        "http://10.0.0.1/",
        "https://",
        "https://user:hunter22@example.com/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Evil: 1",
        "https://exämple.com/",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_any_other_url_is_refused_without_being_repeated(url):
    with pytest.raises(ValidationError) as caught:
        target_of(url)
    assert "url" == caught.value.field
    assert "hunter22" not in str(caught.value)


def test_a_target_shows_no_path_because_it_may_be_a_secret():
    target = target_of("https://example.com:444/T0000/secret?key=1")
    assert "Target('https://example.com:444')" == repr(target)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "::",
    ],
)
def test_a_public_name_does_not_lead_inside(address):
    assert refusal(PUBLIC, address, WebhookSettings()) is not None


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_a_public_address_is_allowed(address):
    assert refusal(PUBLIC, address, WebhookSettings()) is None


def test_this_machine_is_reached_by_its_own_name_unless_that_is_switched_off():
    here = target_of("http://127.0.0.1:8000/")
    assert refusal(here, "127.0.0.1", WebhookSettings()) is None
    reason = refusal(here, "127.0.0.1", WebhookSettings(allow_loopback=False))
    assert reason == "it is on this machine (webhooks.allow_loopback)"


def test_networks_that_were_named_are_reached():
    settings = Settings.load(
        environ={"ROOTSTREAM_WEBHOOKS__ALLOWED_NETWORKS": "10.20.0.0/16, fd00::/8"}
    ).webhooks
    assert refusal(PUBLIC, "10.20.3.4", settings) is None
    assert refusal(PUBLIC, "fd00::1", settings) is None
    assert refusal(PUBLIC, "10.21.0.1", settings) is not None
