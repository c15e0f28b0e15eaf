"""Where billing accounts and metered usage are found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from rootstream_db.models import BillingAccount, UsageKind, UsageLog
from rootstream_db.repositories.base import Repository


class BillingAccountRepository(Repository[BillingAccount]):
    """Who pays."""

    model = BillingAccount

    def get_by_user(self, user_id: int) -> BillingAccount | None:
        """Return the user's account, or None."""
        return self.session.scalar(select(BillingAccount).where(BillingAccount.user_id == user_id))


class UsageLogRepository(Repository[UsageLog]):
    """Metered quantities; a key at its moment is stored once."""

    model = UsageLog

    def add_once(self, usage: UsageLog) -> UsageLog | None:
        """Store the quantity unless its key is stored for its moment.

        Returns:
            None if it was stored now, otherwise what was stored before.
        """
        columns = {
            "occurred_at": usage.occurred_at,
            "idempotency_key": usage.idempotency_key,
            "billing_account_id": usage.billing_account_id,
            "stream_id": usage.stream_id,
            "kind": usage.kind,
            "quantity": usage.quantity,
        }
        query = insert(UsageLog).values(columns).on_conflict_do_nothing()
        if self.session.scalar(query.returning(UsageLog.idempotency_key)) is not None:
            return None
        return self.get_one((usage.occurred_at, usage.idempotency_key))

    def sum_by_kind(
        self, billing_account_id: int, since: datetime, until: datetime
    ) -> dict[UsageKind, Decimal]:
        """Return the account's sum of each kind from ``since`` up to, not including, ``until``."""
        query = (
            select(UsageLog.kind, func.sum(UsageLog.quantity).label("total"))
            .where(UsageLog.billing_account_id == billing_account_id)
            .where(UsageLog.occurred_at >= since, UsageLog.occurred_at < until)
            .group_by(UsageLog.kind)
        )
        return {row.kind: row.total for row in self.session.execute(query)}

    def list_by_account(
        self, billing_account_id: int, since: datetime, until: datetime, *, limit: int = 1000
    ) -> Sequence[UsageLog]:
        """Return the account's metered quantities of a period, oldest first."""
        query = (
            select(UsageLog)
            .where(UsageLog.billing_account_id == billing_account_id)
            .where(UsageLog.occurred_at >= since, UsageLog.occurred_at < until)
            .order_by(UsageLog.occurred_at, UsageLog.idempotency_key)
        )
        return self.session.scalars(query.limit(limit)).all()
