"""Watches logins: records them, draws conclusions, keeps networks out that attack."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.errors import CacheUnavailableError, RateLimitedError
from rootstream_db.models import RiskLevel, SecurityEvent, SecurityEventKind, User
from rootstream_db.services.accounts.rules import check_ip_address
from rootstream_db.services.rate_limits import Block, Limit, WhenDown
from rootstream_db.services.security_events import rules
from rootstream_db.services.security_events.monitor import SecurityMonitor, event_of, report_of
from rootstream_db.services.security_events.values import (
    Finding,
    GeoPoint,
    GeoResolver,
    LoginFact,
    Report,
    Sighting,
    network_of,
)

if TYPE_CHECKING:
    from rootstream_db.security.login_digests import LoginDigests
    from rootstream_db.services.accounts.watch import LoginAttempt
    from rootstream_db.services.rate_limits import RateLimiter
    from rootstream_db.settings import DetectionSettings
    from rootstream_db.unit_of_work import UnitOfWork

_logger: Final = logging.getLogger(__name__)
_REMEMBERED_LOGINS: Final = 50
"""Good logins of an account that tell which devices and places are known."""

_LOGIN_KINDS: Final = {SecurityEventKind.LOGIN_FAILED, SecurityEventKind.LOGIN_SUCCEEDED}


class LoginMonitor:
    """What ``rs.accounts`` tells of logins, and what is made of it.

    Known and unknown accounts are treated by the same statements, so that recording tells nobody
    which is which. Nothing but ``admit`` can hold a login up or make it fail.

    Args:
        monitor: where events are recorded.
        limits: what slows networks down.
        digests: what logins are recorded by.
        settings: when something is noticed.
    """

    def __init__(
        self,
        monitor: SecurityMonitor,
        limits: RateLimiter,
        digests: LoginDigests,
        settings: DetectionSettings,
    ) -> None:
        self._monitor = monitor
        self._digests = digests
        self._limits = limits
        self._settings = settings
        self._limit = login_limit(settings)
        self._locate: GeoResolver | None = None

    def use_geo(self, resolver: GeoResolver | None) -> None:
        """Tell where addresses are; without it nothing is said about travel."""
        self._locate = resolver

    def let_in(self, ip_address: str) -> str:
        """Forget the failures and the block of an address's network; return the network.

        Raises:
            CacheUnavailableError: Redis is down.
            ValidationError: it is no IP address.
        """
        network = network_of(check_ip_address(ip_address) or "")
        self._limits.forgive(network, self._limit)
        return network

    def admit(self, attempt: LoginAttempt) -> None:
        """Count an attempt of a network; it is given back if the login is good.

        A trusted device is let through: its guesses are counted by themselves, and whoever attacks
        from the same network must not keep its owner out.
        """
        if attempt.ip_address is None or attempt.device is not None:
            return
        decision = self._limits.decide(network_of(attempt.ip_address), self._limit)
        if decision.block_started:
            self._monitor.record(
                Report(
                    kind=SecurityEventKind.ADDRESS_BLOCKED,
                    ip_address=attempt.ip_address,
                    details={"minutes": decision.retry_after // timedelta(minutes=1)},
                )
            )
        if not decision.allowed:
            seconds = decision.retry_after.total_seconds()
            raise RateLimitedError(
                f"too many logins from this network: try again in {math.ceil(seconds)} s",
                retry_after=seconds,
            )

    def failed(
        self, attempt: LoginAttempt, *, user_id: int | None, locked_for: timedelta | None
    ) -> None:
        """Record a refused login and conclude what the network is doing."""
        report = self._report(attempt, SecurityEventKind.LOGIN_FAILED, user_id)

        def write(work: UnitOfWork) -> list[Finding]:
            work.security_events.add(event_of(report, work.now))
            if locked_for is not None:
                details = {"seconds": round(locked_for.total_seconds())}
                locked = replace(report, kind=SecurityEventKind.LOGIN_LOCKED, details=details)
                work.security_events.add(event_of(locked, work.now))
            return self._conclude(work, report)

        self._answer(attempt, self._monitor.beside(report.kind, write) or [])

    def succeeded(self, work: UnitOfWork, attempt: LoginAttempt, user: User) -> None:
        """Record a good login once it is committed, and look whether its owner could make it."""
        report = self._report(attempt, SecurityEventKind.LOGIN_SUCCEEDED, user.id)
        work.after_commit(lambda: self._admitted(attempt, report, user.id), name="record the login")

    def _admitted(self, attempt: LoginAttempt, report: Report, user_id: int) -> None:
        if attempt.ip_address is not None and attempt.device is None:
            self._limits.give_back(network_of(attempt.ip_address), self._limit)
        place = self._place(attempt.ip_address)
        report = replace(report, details={} if place is None else _as_details(place))

        def write(work: UnitOfWork) -> list[Finding]:
            before = work.security_events.list_by_user(
                user_id, kind=SecurityEventKind.LOGIN_SUCCEEDED, limit=_REMEMBERED_LOGINS
            )
            event = work.security_events.add(event_of(report, work.now))
            for finding in self._about(event, before, place):
                work.security_events.add(event_of(report_of(finding, report), work.now))
            return self._conclude(work, report)

        self._answer(attempt, self._monitor.beside(report.kind, write) or [])

    def _about(
        self, event: SecurityEvent, before: Sequence[SecurityEvent], place: GeoPoint | None
    ) -> list[Finding]:
        known = {earlier.user_agent_hash for earlier in before}
        found = [rules.new_device(known, event.user_agent_hash)]
        last = next((seen for seen in map(_sighting, before) if seen is not None), None)
        if place is not None and last is not None:
            here = Sighting(event.occurred_at, place)
            found.append(rules.impossible_travel(last, here, self._settings))
        return [finding for finding in found if finding is not None]

    def _conclude(self, work: UnitOfWork, report: Report) -> list[Finding]:
        """Record what a network's logins amount to, each conclusion once while its block holds."""
        if report.ip_address is None:
            return []
        network, since = network_of(report.ip_address), work.now - self._settings.window
        recent = work.security_events.list_by_network(network, since=since)
        found = rules.judge_network(_facts(recent), self._settings)
        if not found:
            return []
        work.security_events.take_turn(network)
        blocked = work.now - self._settings.block_base
        recent = work.security_events.list_by_network(network, since=blocked)
        told = {(event.kind, event.risk) for event in recent}
        new = [finding for finding in found if (finding.kind, finding.risk) not in told]
        for finding in new:
            cause = replace(report, user_id=_concerned(finding, report))
            work.security_events.add(event_of(report_of(finding, cause), work.now))
        return new

    def _answer(self, attempt: LoginAttempt, found: list[Finding]) -> None:
        if attempt.ip_address is None or not any(finding.blocks_network for finding in found):
            return
        try:
            self._limits.block(network_of(attempt.ip_address), self._limit)
        except CacheUnavailableError as error:
            _logger.warning("a network that attacks logins was not blocked: %s", error)

    def _report(
        self, attempt: LoginAttempt, kind: SecurityEventKind, user_id: int | None
    ) -> Report:
        return Report(
            kind=kind,
            user_id=user_id,
            login_hash=self._digests.of_login(attempt.login),
            ip_address=attempt.ip_address,
            user_agent=attempt.user_agent,
        )

    def _place(self, ip_address: str | None) -> GeoPoint | None:
        if self._locate is None or ip_address is None:
            return None
        try:
            return self._locate(ip_address)
        except Exception:
            _logger.exception("where an address is could not be told")
            return None


def login_limit(settings: DetectionSettings) -> Limit:
    """Return the limit of failed logins of one network."""
    return Limit(
        name="login-network",
        rate=settings.network_attempts,
        per=settings.network_window,
        block=Block(
            after=settings.block_after,
            within=settings.network_window,
            base=settings.block_base,
            longest=settings.block_max,
        ),
        when_down=WhenDown.LOCAL,
    )


def _facts(events: Sequence[SecurityEvent]) -> list[LoginFact]:
    return [
        LoginFact(
            occurred_at=event.occurred_at,
            login=event.login_hash,
            is_known=event.user_id is not None,
            succeeded=event.kind is SecurityEventKind.LOGIN_SUCCEEDED,
        )
        for event in events
        if event.kind in _LOGIN_KINDS and event.login_hash is not None
    ]


def _concerned(finding: Finding, report: Report) -> int | None:
    """Return whose account a conclusion about a network is about: one that was opened, if any."""
    return report.user_id if finding.risk is RiskLevel.CRITICAL else None


def _as_details(place: GeoPoint) -> dict[str, Any]:
    # A tenth of a degree, 11 km, says all the rule needs and not where somebody lives.
    return {"latitude": round(place.latitude, 1), "longitude": round(place.longitude, 1)}


def _sighting(event: SecurityEvent) -> Sighting | None:
    details = event.details
    if "latitude" not in details:
        return None
    return Sighting(event.occurred_at, GeoPoint(details["latitude"], details["longitude"]))
