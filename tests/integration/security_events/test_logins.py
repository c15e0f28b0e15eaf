"""Logins are recorded and judged, and networks that attack are kept out."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db import RootStream
from rootstream_db.errors import InvalidCredentialsError, RateLimitedError, TooManyAttemptsError
from rootstream_db.models import RiskLevel, SecurityEventKind
from rootstream_db.services.security_events import GeoPoint
from rootstream_db.settings import DetectionSettings, RedisSettings
from rootstream_db.testing import settings_for

KIND = SecurityEventKind
PASSWORD = "correct horse battery staple"
HOME, ATTACKER = "198.51.100.7", "203.0.113.9"


@pytest.fixture
def site(clean_database_url, redis_url, clock):
    settings = settings_for(clean_database_url, redis_url)
    detection = DetectionSettings(network_attempts=60, block_after=3)
    with RootStream(settings.model_copy(update={"detection": detection}), clock=clock) as rs:
        yield rs


@pytest.fixture
def alice(site):
    with site.transaction() as work:
        return site.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )


def log_in(site, login="alice", password=PASSWORD, address=HOME, agent="Firefox"):
    # No two logins at one instant, so that events have an order.
    site.clock.advance(0.001)
    with site.transaction() as work:
        return site.accounts.authenticate(
            work, login, password, ip_address=address, user_agent=agent
        )


def guess(site, login, address=ATTACKER, password="wrong"):
    with pytest.raises(InvalidCredentialsError):
        log_in(site, login, password, address)


def told(site, *kinds):
    events = site.security.list_events(limit=1000)
    return [event for event in reversed(events) if not kinds or event.kind in kinds]


def test_good_and_wrong_logins_are_recorded(site, alice):
    log_in(site)
    guess(site, "alice")
    guess(site, "nobody")
    good, wrong, unknown = told(site)
    assert [KIND.LOGIN_SUCCEEDED, KIND.LOGIN_FAILED, KIND.LOGIN_FAILED] == [
        event.kind for event in (good, wrong, unknown)
    ]
    assert [alice.id, alice.id, None] == [event.user_id for event in (good, wrong, unknown)]
    assert [HOME, ATTACKER] == [good.ip_address, wrong.ip_address]
    assert good.login_hash == wrong.login_hash != unknown.login_hash


def test_a_login_that_is_not_committed_is_not_recorded(site, alice):
    with pytest.raises(KeyError), site.transaction() as work:
        site.accounts.authenticate(work, "alice", PASSWORD, ip_address=HOME)
        raise KeyError
    assert [] == told(site)


def test_a_lockout_is_recorded_and_so_is_what_comes_after(site, alice):
    for _ in range(5):
        guess(site, "alice")
    with pytest.raises(TooManyAttemptsError):
        log_in(site, "alice", "wrong", ATTACKER)
    (locked,) = told(site, KIND.LOGIN_LOCKED)
    assert (alice.id, RiskLevel.MEDIUM, {"seconds": 30}) == (
        locked.user_id,
        locked.risk,
        locked.details,
    )
    assert 6 == len(told(site, KIND.LOGIN_FAILED))


def test_changes_of_an_account_are_recorded(site, alice):
    with site.transaction() as work:
        site.accounts.change_password(
            work, alice, current=PASSWORD, new="another horse, another staple"
        )
        site.accounts.deactivate(work, alice)
    assert {(KIND.PASSWORD_CHANGED, alice.id), (KIND.ACCOUNT_CLOSED, alice.id)} == {
        (event.kind, event.user_id) for event in told(site)
    }


def test_spraying_is_noticed_once_and_its_network_kept_out(site, alice):
    for account in range(9):
        guess(site, f"customer{account}")
    assert [] == told(site, KIND.PASSWORD_SPRAYING)
    guess(site, "alice")
    (spraying,) = told(site, KIND.PASSWORD_SPRAYING)
    assert (RiskLevel.HIGH, "203.0.113.0/24", None) == (
        spraying.risk,
        spraying.network,
        spraying.user_id,
    )
    assert {"accounts": 10, "attempts": 10} == {
        name: spraying.details[name] for name in ("accounts", "attempts")
    }
    for address in (ATTACKER, "203.0.113.200"):
        with pytest.raises(RateLimitedError, match="from this network: try again in 900 s"):
            log_in(site, address=address)
    assert alice.id == log_in(site, address=HOME).id


def test_a_network_that_goes_on_after_its_block_is_kept_out_for_longer(site, clock):
    for account in range(10):
        guess(site, f"customer{account}")
    clock.advance(15 * 60)
    guess(site, "one-more")
    with pytest.raises(RateLimitedError) as caught:
        log_in(site, address=ATTACKER)
    assert 1800 == pytest.approx(caught.value.retry_after, abs=1)


def test_a_stolen_list_that_opens_an_account_is_critical(site, alice, clock):
    careless = site.settings.detection.model_copy(update={"spraying_accounts": 1000})
    settings = site.settings.model_copy(update={"detection": careless})
    with RootStream(settings, clock=clock) as patient:
        for account in range(24):
            guess(patient, f"customer{account}")
        log_in(patient, address=ATTACKER)
        guess(patient, "customer24")
        assert "203.0.113.0/24" == patient.login_monitor.let_in(ATTACKER)
        log_in(patient, address=ATTACKER)
    assert [RiskLevel.CRITICAL] == [event.risk for event in told(site, KIND.CREDENTIAL_STUFFING)]


def test_good_logins_do_not_count_against_a_network(site, alice):
    for _ in range(70):
        log_in(site)
    assert alice.id == log_in(site).id


def test_failures_of_a_network_are_limited_and_excess_blocks_it(site):
    refused = 0
    for attempt in range(70):
        try:
            guess(site, f"customer{attempt % 5}")
        except (RateLimitedError, TooManyAttemptsError) as error:
            refused += isinstance(error, RateLimitedError)
    assert 10 == refused
    (blocked,) = told(site, KIND.ADDRESS_BLOCKED)
    assert ({"minutes": 15}, RiskLevel.MEDIUM) == (blocked.details, blocked.risk)


def test_a_new_device_is_noticed_from_the_second_on(site, alice):
    log_in(site, agent="Firefox")
    log_in(site, agent="Firefox")
    log_in(site, agent="Chrome")
    log_in(site, agent="Chrome")
    log_in(site, agent=None)
    (event,) = told(site, KIND.NEW_DEVICE)
    assert (alice.id, RiskLevel.MEDIUM) == (event.user_id, event.risk)


def test_impossible_travel_is_noticed_where_places_are_known(site, alice, clock):
    places = {HOME: GeoPoint(51.5, -0.1), ATTACKER: GeoPoint(-33.9, 151.2)}
    site.login_monitor.use_geo(places.get)
    log_in(site, address=HOME)
    clock.advance(3600)
    log_in(site, address="192.0.2.1")
    log_in(site, address=ATTACKER)
    (event,) = told(site, KIND.IMPOSSIBLE_TRAVEL)
    assert (alice.id, RiskLevel.HIGH, 60) == (event.user_id, event.risk, event.details["minutes"])
    assert 16_000 < event.details["distance_km"] < 18_000


def test_a_resolver_that_fails_holds_no_login_up(site, alice):
    def broken(address):
        raise OSError("no such file")

    site.login_monitor.use_geo(broken)
    assert alice.id == log_in(site).id
    assert [KIND.LOGIN_SUCCEEDED] == [event.kind for event in told(site)]


def test_a_record_that_cannot_be_written_holds_no_login_up(site, alice):
    with site.transaction() as work:
        work.session.execute(text("LOCK TABLE security_events IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        assert alice.id == log_in(site).id
        guess(site, "alice")
        assert 10 > time.monotonic() - started
    assert 2 == site.security.lost


def test_logins_work_while_redis_is_down(site, alice, clock):
    nowhere = RedisSettings(url=SecretStr("redis://127.0.0.1:1"))
    with RootStream(site.settings.model_copy(update={"redis": nowhere}), clock=clock) as lonely:
        assert alice.id == log_in(lonely).id
        for account in range(12):
            guess(lonely, f"customer{account}")
    assert 1 == len(told(site, KIND.PASSWORD_SPRAYING))
    assert 0 == lonely.security.lost


def test_parallel_guesses_are_concluded_about_once(site):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda account: _try(site, f"customer{account}"), range(40)))
    assert 1 == len(told(site, KIND.PASSWORD_SPRAYING))


def _try(site, login):
    with pytest.raises((InvalidCredentialsError, RateLimitedError)):
        log_in(site, login, "wrong", ATTACKER)
