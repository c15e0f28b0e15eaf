"""Everything stored about one person, section by section, and what no foreign key would delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, LargeBinary, Table, delete, inspect, select, tuple_
from sqlalchemy.orm import Session

from rootstream_db.models import (
    ApiKey,
    BillingAccount,
    ExternalIdentity,
    MfaAttempt,
    MfaFactor,
    MfaThrottle,
    Recording,
    RecordingStatus,
    RecoveryCode,
    RoleGrant,
    SecurityEvent,
    Stream,
    StreamKey,
    StreamSession,
    StreamTotals,
    TrustedDevice,
    UsageLog,
    User,
    UserSession,
    UserToken,
    ViewerSession,
    WebhookEndpoint,
)
from rootstream_db.models.base import Base

SECRET_COLUMNS: Final = frozenset({"password_hash"})
"""Columns of text that prove something; those of bytes (digests, sealed values) all do."""

UNLINKED: Final = (SecurityEvent, MfaAttempt, MfaThrottle)
"""Tables that name accounts without a foreign key, so that deleting one leaves them as they are."""


@dataclass(frozen=True)
class Section:
    """Rows of one table that are about a person."""

    name: str
    model: type[Base]
    about: Callable[[int], ColumnElement[bool]]

    @property
    def table(self) -> Table:
        """The table."""
        table = inspect(self.model).local_table
        if not isinstance(table, Table):
            raise TypeError(f"{self.model.__name__} is not stored in a table of its own")
        return table

    @property
    def columns(self) -> Sequence[Column[Any]]:
        """The columns that a person may have a copy of: all but secrets and their digests."""
        return [
            column
            for column in self.table.columns
            if not isinstance(column.type, LargeBinary) and column.name not in SECRET_COLUMNS
        ]


def _of_streams(column: Any) -> Callable[[int], ColumnElement[bool]]:
    return lambda user_id: column.in_(select(Stream.id).where(Stream.owner_id == user_id))


def _of_bills(user_id: int) -> ColumnElement[bool]:
    accounts = select(BillingAccount.id).where(BillingAccount.user_id == user_id)
    return UsageLog.billing_account_id.in_(accounts)


def _named(model: Any, column: str = "user_id") -> Callable[[int], ColumnElement[bool]]:
    return lambda user_id: getattr(model, column) == user_id


SECTIONS: Final = (
    Section("account", User, _named(User, "id")),
    Section("one_time_tokens", UserToken, _named(UserToken)),
    Section("external_identities", ExternalIdentity, _named(ExternalIdentity)),
    Section("roles", RoleGrant, _named(RoleGrant)),
    Section("api_keys", ApiKey, _named(ApiKey)),
    Section("second_factors", MfaFactor, _named(MfaFactor)),
    Section("backup_codes", RecoveryCode, _named(RecoveryCode)),
    Section("trusted_devices", TrustedDevice, _named(TrustedDevice)),
    Section("second_factor_attempts", MfaAttempt, _named(MfaAttempt)),
    Section("sessions", UserSession, _named(UserSession)),
    Section("security_events", SecurityEvent, _named(SecurityEvent)),
    Section("streams", Stream, _named(Stream, "owner_id")),
    Section("stream_keys", StreamKey, _of_streams(StreamKey.stream_id)),
    Section("stream_totals", StreamTotals, _of_streams(StreamTotals.stream_id)),
    Section("stream_sessions", StreamSession, _of_streams(StreamSession.stream_id)),
    Section("recordings", Recording, _of_streams(Recording.stream_id)),
    Section("watched", ViewerSession, _named(ViewerSession)),
    Section("webhooks", WebhookEndpoint, _named(WebhookEndpoint, "owner_id")),
    Section("billing_accounts", BillingAccount, _named(BillingAccount)),
    Section("usage", UsageLog, _of_bills),
)
"""In this order a person gets them."""


class PersonalRecordRepository:
    """Reads and deletes by person, across tables."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def list_rows(
        self,
        section: Section,
        user_id: int,
        *,
        after: tuple[Any, ...] | None = None,
        limit: int,
    ) -> tuple[list[dict[str, Any]], tuple[Any, ...] | None]:
        """Return a page of a section, and where the next one begins; None after the last."""
        keys = tuple(section.table.primary_key)
        columns = list(section.columns)
        query = select(*columns, *keys).where(section.about(user_id))
        if after is not None:
            query = query.where(tuple_(*keys) > after)
        rows = self.session.execute(query.order_by(*keys).limit(limit)).all()
        # SQLAlchemy's names are a kind of str that JSON encoders refuse as keys.
        names = [str(column.name) for column in columns]
        found = [dict(zip(names, row, strict=False)) for row in rows]
        return found, tuple(rows[-1][len(names) :]) if len(rows) == limit else None

    def list_recording_files(self, user_id: int) -> Sequence[str]:
        """Return the files that a person's recordings left on disk."""
        query = select(Recording.file_path).where(
            _of_streams(Recording.stream_id)(user_id),
            Recording.status != RecordingStatus.DELETED,
        )
        return self.session.scalars(query.order_by(Recording.file_path)).all()

    def delete_unlinked(self, user_id: int) -> int:
        """Delete what names an account without a foreign key; return how many rows."""
        deleted = 0
        for model in UNLINKED:
            statement = delete(model).where(model.user_id == user_id).returning(model.user_id)
            deleted += len(
                self.session.execute(
                    statement, execution_options={"synchronize_session": False}
                ).all()
            )
        return deleted
