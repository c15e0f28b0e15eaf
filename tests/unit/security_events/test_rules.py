"""Attacks are told from accidents by facts alone."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.models import RiskLevel, SecurityEventKind
from rootstream_db.services.security_events import rules
from rootstream_db.services.security_events.values import (
    GeoPoint,
    LoginFact,
    Sighting,
    network_of,
    user_agent_hash,
)
from rootstream_db.settings import DetectionSettings
from rootstream_db.testing import EPOCH

SETTINGS = DetectionSettings()
LONDON, PARIS = GeoPoint(51.5074, -0.1278), GeoPoint(48.8566, 2.3522)
SYDNEY = GeoPoint(-33.8688, 151.2093)


def logins(accounts: int, *, each: int = 1, known: int = 0, good: int = 0) -> list[LoginFact]:
    facts = [
        LoginFact(
            occurred_at=EPOCH,
            login=f"login {account}".encode(),
            is_known=account < known,
            succeeded=False,
        )
        for account in range(accounts)
        for _ in range(each)
    ]
    opened = [
        LoginFact(occurred_at=EPOCH, login=f"good {n}".encode(), is_known=True, succeeded=True)
        for n in range(good)
    ]
    return facts + opened


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ([], False),
        (logins(9, each=3), False),
        (logins(10), True),
        (logins(10, each=3), True),
        (logins(10, each=4), False),
        (logins(1, each=500), False),
        (logins(0, good=50), False),
        (logins(10, known=10), True),
    ],
    ids=["nothing", "nine", "ten", "three each", "four each", "one", "good ones", "all known"],
)
def test_few_guesses_at_many_accounts_are_spraying(facts, found):
    finding = rules.password_spraying(facts, SETTINGS)
    assert found == (finding is not None)
    if finding is not None:
        assert (SecurityEventKind.PASSWORD_SPRAYING, RiskLevel.HIGH, True) == (
            finding.kind,
            finding.risk,
            finding.blocks_network,
        )
        assert 10 == finding.details["accounts"]


@pytest.mark.parametrize(
    ("facts", "risk"),
    [
        (logins(24), None),
        (logins(25), RiskLevel.HIGH),
        (logins(25, good=1), RiskLevel.CRITICAL),
        (logins(50, known=25), RiskLevel.HIGH),
        (logins(51, known=26), None),
        (logins(30, known=30), None),
    ],
    ids=["24 unknown", "25 unknown", "one fits", "half known", "mostly known", "all known"],
)
def test_many_accounts_that_do_not_exist_are_a_stolen_list(facts, risk):
    finding = rules.credential_stuffing(facts, SETTINGS)
    assert risk == (finding.risk if finding else None)


def test_thresholds_are_settings():
    strict = DetectionSettings(spraying_accounts=2, stuffing_accounts=2)
    kinds = {finding.kind for finding in rules.judge_network(logins(2), strict)}
    assert {SecurityEventKind.PASSWORD_SPRAYING, SecurityEventKind.CREDENTIAL_STUFFING} == kinds


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(LONDON, PARIS, 343.6), (LONDON, SYDNEY, 16_993.9), (PARIS, PARIS, 0.0)],
)
def test_distances_are_those_of_the_atlas(one, other, expected):
    assert expected == pytest.approx(rules.great_circle_km(one, other), abs=1)


PLACES = st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180))


@given(PLACES, PLACES)
def test_a_distance_is_the_same_both_ways_and_at_most_half_way_round(one, other):
    there = rules.great_circle_km(one, other)
    assert there == pytest.approx(rules.great_circle_km(other, one), abs=1e-6)
    assert 0 <= there <= math.pi * rules.EARTH_RADIUS_KM


@pytest.mark.parametrize(
    ("place", "hours", "found"),
    [(SYDNEY, 1, True), (SYDNEY, 16.9, True), (SYDNEY, 17.1, False), (PARIS, 0.3, True),
     (PARIS, 0.4, False), (SYDNEY, -1, True), (GeoPoint(51.5, -0.2), 0, False),
     (GeoPoint(52.5, -0.2), 0, False)],
)  # fmt: skip
def test_nobody_travels_faster_than_an_airliner(place, hours, found):
    before = Sighting(EPOCH, LONDON)
    now = Sighting(EPOCH + timedelta(hours=hours), place)
    finding = rules.impossible_travel(before, now, SETTINGS)
    assert found == (finding is not None)
    assert finding is None or RiskLevel.HIGH is finding.risk


@pytest.mark.parametrize(
    ("known", "device", "found"),
    [
        (set(), b"phone", False),
        ({b"laptop"}, b"phone", True),
        ({b"laptop", b"phone"}, b"phone", False),
        ({b"laptop"}, None, False),
        ({None}, b"phone", True),
    ],
    ids=["first ever", "new", "known", "unnamed", "only unnamed before"],
)
def test_a_device_is_new_when_the_account_was_used_from_others(known, device, found):
    assert found == (rules.new_device(known, device) is not None)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.255", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ],
)
def test_addresses_are_counted_by_network(address, network):
    assert network == network_of(address)


def test_a_user_agent_is_kept_as_a_digest():
    assert 32 == len(user_agent_hash("Mozilla \ud800") or b"")
    assert [None, None] == [user_agent_hash(None), user_agent_hash("")]


def test_a_risk_includes_those_above_it():
    assert (RiskLevel.HIGH, RiskLevel.CRITICAL) == RiskLevel.HIGH.at_least
