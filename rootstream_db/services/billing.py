"""Billing: who pays, and the usage that is metered for them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ConflictError, ValidationError
from rootstream_db.models import (
    BillingAccount,
    BillingStatus,
    Recording,
    StreamSession,
    UsageKind,
    UsageLog,
    User,
)
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.services.event_store import EventStore

LARGEST_QUANTITY: Final = Decimal(10) ** 17
"""What NUMERIC(20, 3) holds before the point."""
PRECISION: Final = Decimal("0.001")
MAX_KEY: Final = 200
MAX_PLAN: Final = 50


class BillingManager:
    """Opens billing accounts and meters usage, in the caller's unit of work."""

    def __init__(self, events: EventStore, *, clock: Clock = utc_now) -> None:
        self._events = events
        self._clock = clock

    def open_account(
        self, work: UnitOfWork, user: User, *, plan: str = "free", currency: str = "EUR"
    ) -> BillingAccount:
        """Open the user's billing account; what they use is metered from now on.

        Raises:
            ConflictError: the user has one.
            ValidationError: the plan's name or the currency is not usable.
        """
        if not 1 <= len(plan) <= MAX_PLAN or not plan.isprintable():
            raise ValidationError(f"a plan's name has 1 to {MAX_PLAN} characters", field="plan")
        if len(currency) != len("EUR") or not (currency.isascii() and currency.isalpha()):
            raise ValidationError("a currency is three letters (ISO 4217)", field="currency")
        if work.billing_accounts.get_by_user(user.id) is not None:
            raise ConflictError("the user already has a billing account", user_id=user.id)
        account = BillingAccount(user_id=user.id, plan=plan, currency=currency.upper())
        work.billing_accounts.add(account)
        data = {"billing_account_id": account.id, "plan": plan, "currency": account.currency}
        self._events.append(
            work, "User", str(user.id), "BillingAccountOpened", data, user_id=user.id
        )
        return account

    def meter(
        self,
        work: UnitOfWork,
        account: BillingAccount,
        *,
        kind: UsageKind | str,
        quantity: Decimal | float | str,
        idempotency_key: str,
        occurred_at: datetime,
        stream_id: int | None = None,
    ) -> bool:
        """Count a quantity once, however often it is reported with the same key and moment.

        The unit is part of the kind: bytes or seconds.

        Args:
            work: the caller's unit of work.
            account: who pays.
            kind: what is metered.
            quantity: how much, rounded to thousandths; never negative.
            idempotency_key: the name of this one quantity.
            occurred_at: when it was used up; a repeated report must carry the same moment.
            stream_id: the stream it was used for.

        Returns:
            Whether it was counted now; False if it was counted before.

        Raises:
            ValidationError: the quantity is negative, or an argument is not usable.
            ConflictError: the key already stands for another quantity, kind or account.
        """
        usage = UsageLog(
            occurred_at=_aware(occurred_at),
            idempotency_key=_key(idempotency_key),
            billing_account_id=account.id,
            stream_id=stream_id,
            kind=_kind(kind),
            quantity=_quantity(quantity),
        )
        return _add_once(work, usage)

    def usage(
        self, work: UnitOfWork, account: BillingAccount, since: datetime, until: datetime
    ) -> dict[UsageKind, Decimal]:
        """Return the sum of each kind from ``since`` up to, not including, ``until``.

        Kinds without usage are there with zero.
        """
        sums = work.usage_logs.sum_by_kind(account.id, _aware(since), _aware(until))
        return {kind: sums.get(kind, Decimal(0)) for kind in UsageKind}


def meter_broadcast(work: UnitOfWork, session: StreamSession, *, owner_id: int) -> None:
    """Meter an ended session's time and bytes, if its owner has an open billing account."""
    account = _open_account(work, owner_id)
    if account is None or session.ended_at is None:
        return
    lasted = session.ended_at - session.started_at
    quantities = {
        UsageKind.LIVE_SECONDS: _quantity(lasted.total_seconds()),
        UsageKind.INGEST_BYTES: _quantity(session.bytes_in),
    }
    for kind, quantity in quantities.items():
        usage = UsageLog(
            occurred_at=session.ended_at,
            idempotency_key=f"session:{session.id}:{kind}",
            billing_account_id=account.id,
            stream_id=session.stream_id,
            kind=kind,
            quantity=quantity,
        )
        _add_once(work, usage)


def meter_recording(
    work: UnitOfWork, recording: Recording, *, owner_id: int, added_bytes: int
) -> None:
    """Meter the bytes a recording took up, if its owner has an open billing account."""
    account = _open_account(work, owner_id)
    if account is None:
        return
    usage = UsageLog(
        occurred_at=work.now,
        # With the size, so that a file that grew is metered for what it grew by.
        idempotency_key=f"recording:{recording.id}:{recording.size_bytes}",
        billing_account_id=account.id,
        stream_id=recording.stream_id,
        kind=UsageKind.RECORDING_BYTES,
        quantity=_quantity(added_bytes),
    )
    _add_once(work, usage)


def _open_account(work: UnitOfWork, user_id: int) -> BillingAccount | None:
    account = work.billing_accounts.get_by_user(user_id)
    return None if account is None or account.status is BillingStatus.CLOSED else account


def _add_once(work: UnitOfWork, usage: UsageLog) -> bool:
    known = work.usage_logs.add_once(usage)
    if known is None:
        return True
    if _what(known) != _what(usage):
        raise ConflictError(
            f"the idempotency key {usage.idempotency_key!r} already stands for other usage",
            constraint="pk_usage_logs",
        )
    return False


def _what(usage: UsageLog) -> tuple[object, ...]:
    return usage.billing_account_id, usage.kind, usage.quantity, usage.stream_id


def _quantity(value: Decimal | float | str) -> Decimal:
    try:
        # Through text, so that 0.1 is a tenth and not the nearest binary fraction.
        quantity = Decimal(str(value))
        if quantity.is_finite() and 0 <= quantity < LARGEST_QUANTITY:
            return quantity.quantize(PRECISION)
    except InvalidOperation as error:
        raise ValidationError(f"{value!r} is not a number", field="quantity") from error
    raise ValidationError(
        f"a metered quantity lies from 0 to {LARGEST_QUANTITY}, not at {value}", field="quantity"
    )


def _key(idempotency_key: str) -> str:
    if not 1 <= len(idempotency_key) <= MAX_KEY or not idempotency_key.isprintable():
        raise ValidationError(
            f"an idempotency key is 1 to {MAX_KEY} printable characters", field="idempotency_key"
        )
    return idempotency_key


def _kind(kind: UsageKind | str) -> UsageKind:
    try:
        return UsageKind(kind)
    except ValueError as error:
        known = ", ".join(UsageKind)
        raise ValidationError(f"usage is one of {known}, not {kind!r}", field="kind") from error


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValidationError("a moment of usage needs a time zone", field="occurred_at")
    return moment
