from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from rootstream_db.errors import ConflictError, ValidationError
from rootstream_db.models import BillingStatus, StreamSession, UsageKind
from rootstream_db.services.billing import BillingManager, meter_broadcast
from rootstream_db.services.event_store import EventStore
from rootstream_db.testing import EPOCH
from tests.factories import make_stream, make_user

HOUR = timedelta(hours=1)


@pytest.fixture
def events(database, clock):
    return EventStore(database, clock=clock)


@pytest.fixture
def billing(events, clock):
    return BillingManager(events, clock=clock)


@pytest.fixture
def user(work):
    return make_user(work)


@pytest.fixture
def account(work, billing, user):
    return billing.open_account(work, user)


@pytest.fixture
def meter(work, billing, account):
    """Meter something unremarkable, but for what is given."""

    def call(**different):
        usage = {
            "kind": UsageKind.EGRESS_BYTES,
            "quantity": 1000,
            "idempotency_key": "k",
            "occurred_at": EPOCH,
        }
        return billing.meter(work, account, **{**usage, **different})

    return call


class TestAccounts:
    def test_an_account_is_opened_once(self, work, billing, user, events):
        account = billing.open_account(work, user, plan="pro", currency="usd")

        assert (user.id, "pro", "USD") == (account.user_id, account.plan, account.currency)
        assert (BillingStatus.ACTIVE, Decimal(0)) == (account.status, account.balance)
        assert account is work.billing_accounts.get_by_user(user.id)
        with pytest.raises(ConflictError, match="already has a billing account"):
            billing.open_account(work, user)
        events.flush(work)
        (opened,) = events.read("User", str(user.id), work=work)
        assert "BillingAccountOpened" == opened.event_type
        assert "USD" == opened.data["currency"]

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"plan": ""}, "plan"),
            ({"plan": "x" * 51}, "plan"),
            ({"plan": "a\0"}, "plan"),
            ({"currency": "EURO"}, "currency"),
            ({"currency": "E1R"}, "currency"),
            ({"currency": "ÄÖÜ"}, "currency"),
        ],
    )
    def test_an_account_that_makes_no_sense_is_refused(self, work, billing, user, arguments, field):
        with pytest.raises(ValidationError) as refused:
            billing.open_account(work, user, **arguments)
        assert field == refused.value.field

    def test_money_records_stay_when_the_person_is_deleted(self, work, user, account, meter):
        meter()
        work.users.delete(user)
        work.session.refresh(account)

        assert account.user_id is None
        sums = work.usage_logs.sum_by_kind(account.id, EPOCH, EPOCH + HOUR)
        assert {UsageKind.EGRESS_BYTES: Decimal(1000)} == sums


class TestMeter:
    def test_the_same_key_counts_once(self, meter, work, billing, account):
        assert meter()
        assert not meter()
        assert not meter(quantity="1000.0004")

        usage = billing.usage(work, account, EPOCH, EPOCH + HOUR)
        assert Decimal(1000) == usage[UsageKind.EGRESS_BYTES]

    @pytest.mark.parametrize(
        "other", [{"quantity": 1001}, {"kind": UsageKind.INGEST_BYTES}, {"stream_id": 7}]
    )
    def test_the_same_key_for_other_usage_is_a_mistake_that_shows(self, meter, other):
        meter()

        with pytest.raises(ConflictError, match="'k' already stands for other usage"):
            meter(**other)

    def test_the_same_key_for_another_account_is_a_mistake_that_shows(self, meter, work, billing):
        meter()
        other = billing.open_account(work, make_user(work))

        with pytest.raises(ConflictError):
            billing.meter(
                work,
                other,
                kind="egress_bytes",
                quantity=1000,
                idempotency_key="k",
                occurred_at=EPOCH,
            )

    @pytest.mark.parametrize(
        ("quantity", "stored"),
        [
            (0, "0"),
            (0.1, "0.100"),
            ("0.0005", "0.000"),
            ("0.0015", "0.002"),
            (Decimal("1e16"), "1e16"),
            (2**53, str(2**53)),
        ],
    )
    def test_quantities_are_exact_to_the_thousandth(
        self, meter, work, billing, account, quantity, stored
    ):
        meter(quantity=quantity)

        usage = billing.usage(work, account, EPOCH, EPOCH + HOUR)
        assert Decimal(stored) == usage[UsageKind.EGRESS_BYTES]

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"quantity": -0.001}, "quantity"),
            ({"quantity": "much"}, "quantity"),
            ({"quantity": float("nan")}, "quantity"),
            ({"quantity": float("inf")}, "quantity"),
            ({"quantity": Decimal(10) ** 17}, "quantity"),
            ({"kind": "love"}, "kind"),
            ({"idempotency_key": ""}, "idempotency_key"),
            ({"idempotency_key": "x" * 201}, "idempotency_key"),
            ({"idempotency_key": "a\0"}, "idempotency_key"),
            ({"occurred_at": datetime(2026, 1, 1)}, "occurred_at"),  # noqa: DTZ001 - the mistake
        ],
    )
    def test_usage_that_cannot_be_is_refused(self, meter, wrong, field):
        with pytest.raises(ValidationError) as refused:
            meter(**wrong)
        assert field == refused.value.field

    def test_usage_sums_by_kind_from_since_up_to_until(self, meter, work, billing, account):
        meter(idempotency_key="before", occurred_at=EPOCH - timedelta(microseconds=1))
        meter(idempotency_key="first", occurred_at=EPOCH)
        meter(idempotency_key="last", occurred_at=EPOCH + HOUR - timedelta(microseconds=1))
        meter(idempotency_key="after", occurred_at=EPOCH + HOUR)
        meter(idempotency_key="other", kind=UsageKind.WATCH_SECONDS, quantity=5)

        usage = billing.usage(work, account, EPOCH, EPOCH + HOUR)

        assert {
            UsageKind.EGRESS_BYTES: Decimal(2000),
            UsageKind.WATCH_SECONDS: Decimal(5),
            UsageKind.INGEST_BYTES: Decimal(0),
            UsageKind.LIVE_SECONDS: Decimal(0),
            UsageKind.RECORDING_BYTES: Decimal(0),
        } == usage

    def test_a_closed_account_is_not_metered_for_broadcasts(self, work, account, user):
        session = ended_session(work, user)
        account.status = BillingStatus.CLOSED
        work.session.flush()

        meter_broadcast(work, session, owner_id=user.id)

        assert {} == work.usage_logs.sum_by_kind(account.id, EPOCH, EPOCH + HOUR)

    def test_a_broadcast_is_metered_once_however_often_it_is_reported(self, work, account, user):
        session = ended_session(work, user)
        for _ in range(2):
            meter_broadcast(work, session, owner_id=user.id)

        assert {
            UsageKind.LIVE_SECONDS: Decimal(60),
            UsageKind.INGEST_BYTES: Decimal(4000),
        } == work.usage_logs.sum_by_kind(account.id, EPOCH, EPOCH + HOUR)

    def test_a_broadcast_that_goes_on_is_not_metered(self, work, account, user):
        session = ended_session(work, user, ended_at=None, end_reason=None)

        meter_broadcast(work, session, owner_id=user.id)

        assert {} == work.usage_logs.sum_by_kind(account.id, EPOCH, EPOCH + HOUR)


@pytest.mark.slow
def test_reports_at_the_same_time_count_once(committed_database, clock):
    billing = BillingManager(EventStore(committed_database, clock=clock), clock=clock)
    with committed_database.transaction() as work:
        account = billing.open_account(work, make_user(work))
    barrier = threading.Barrier(8)

    def report(_):
        barrier.wait(timeout=30)
        return committed_database.run(
            lambda work: billing.meter(
                work,
                account,
                kind="watch_seconds",
                quantity=7,
                idempotency_key="once",
                occurred_at=EPOCH,
            )
        )

    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(report, range(8)))

    assert 1 == counted.count(True)
    with committed_database.read() as work:
        usage = billing.usage(work, account, EPOCH, EPOCH + HOUR)
    assert Decimal(7) == usage[UsageKind.WATCH_SECONDS]


def ended_session(work, user, **different):
    values = {
        "started_at": EPOCH - timedelta(minutes=1),
        "ended_at": EPOCH,
        "end_reason": "stopped",
        "bytes_in": 4000,
    }
    stream = make_stream(work, user)
    return work.stream_sessions.add(StreamSession(stream_id=stream.id, **{**values, **different}))
