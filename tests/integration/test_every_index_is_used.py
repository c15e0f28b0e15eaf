"""Every index is there for a query: each one is shown to be scanned by a call of the package.

The scans are counted by PostgreSQL itself, inside functions and partitions too. Sequential scans
are off, because on a table with few rows they always win.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rootstream_db.database import Database
from rootstream_db.models import (
    BillingAccount,
    CounterFlush,
    Recording,
    Stream,
    StreamSession,
    TrustedDevice,
    UserToken,
    WebhookEndpoint,
)
from rootstream_db.models.users import TokenPurpose
from rootstream_db.repositories.event_proofs import EventProofRepository
from rootstream_db.repositories.snapshots import SnapshotRepository
from rootstream_db.services.event_store import EventStore
from rootstream_db.settings import DatabaseSettings
from rootstream_db.testing import EPOCH
from tests.factories import make_session, make_stream, make_user
from tests.fixtures.servers import WORKER, clone

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootstream_db.models import User
    from rootstream_db.unit_of_work import UnitOfWork

DIGEST = b"\1" * 32
LATER = EPOCH + timedelta(days=1)

ONLY_IDENTITY = {
    "pk_mfa_attempts": "nobody asks for one attempt: they are read by account",
}
"""Primary keys whose readers are not written yet: a table needs one all the same."""


@dataclass
class World:
    """One row of everything."""

    work: UnitOfWork
    events: EventStore
    user: User
    stream: Stream
    session: StreamSession
    recording: Recording
    account: BillingAccount


QUERIES: dict[str, Callable[[World], Any]] = {
    # Accounts
    "pk_users": lambda w: w.work.users.lock(w.user.id),
    "uq_users_public_id": lambda w: w.work.users.get_by_public_id(w.user.public_id),
    "uq_users_username_lower": lambda w: w.work.users.get_by_username("nobody"),
    "uq_users_email_lower": lambda w: w.work.users.get_by_email("nobody@example.com"),
    "pk_user_tokens": lambda w: w.work.user_tokens.get(0),
    "uq_user_tokens_token_hash": lambda w: w.work.user_tokens.get_by_hash(DIGEST),
    "ix_user_tokens_user_id": lambda w: w.work.user_tokens.void(w.user.id),
    "pk_login_throttle": lambda w: w.work.login_throttle.clear([DIGEST]),
    "pk_sessions": lambda w: w.work.sessions.get(0),
    "uq_sessions_token_hash": lambda w: w.work.sessions.get_by_token(DIGEST),
    "ix_sessions_user_id_open": lambda w: w.work.sessions.list_open(w.user.id, now=EPOCH),
    "ix_sessions_expires_at": lambda w: w.work.sessions.delete_expired(EPOCH),
    # Access
    "pk_access_state": lambda w: w.work.roles.hold_still(),
    "pk_roles": lambda w: w.work.roles.get(0),
    "uq_roles_name": lambda w: w.work.roles.get_by_name("none"),
    "pk_role_permissions": lambda w: w.work.roles.list_permissions(0),
    "pk_role_parents": lambda w: w.work.roles.remove_parent(0, 1),
    "ix_role_parents_parent_id": lambda w: w.work.roles.list_children(0),
    "pk_role_grants": lambda w: w.work.role_grants.remove(0),
    "uq_role_grants_user_id_role_id_stream_id": lambda w: w.work.role_grants.list_of_user(0),
    "ix_role_grants_role_id": lambda w: w.work.role_grants.list_of_role(0),
    "ix_role_grants_stream_id": lambda w: w.work.role_grants.list_of_stream(w.stream.id),
    "ix_role_grants_expires_at": lambda w: w.work.role_grants.delete_expired(EPOCH),
    "pk_access_versions": lambda w: w.work.access.load(w.user.id, EPOCH),
    "pk_api_keys": lambda w: w.work.api_keys.get(0),
    "uq_api_keys_key_hash": lambda w: w.work.api_keys.get_by_hash(DIGEST),
    "ix_api_keys_user_id": lambda w: w.work.api_keys.list_of_user(w.user.id),
    "pk_external_identities": lambda w: w.work.external_identities.get(0),
    "uq_external_identities_issuer_subject": lambda w: w.work.external_identities.get_by_subject(
        "https://id.example", "1"
    ),
    "ix_external_identities_user_id": lambda w: w.work.external_identities.list_of_user(w.user.id),
    "pk_auth_state": lambda w: w.work.auth_state.get(1),
    "pk_session_invalidations": lambda w: w.work.session_invalidations.take(),
    # Second factors
    "pk_user_mfa": lambda w: w.work.mfa_factors.get(uuid.uuid4()),
    "uq_user_mfa_user_id_label": lambda w: w.work.mfa_factors.list_by_user(w.user.id),
    "uq_user_mfa_credential_id": lambda w: w.work.mfa_factors.find_credential(DIGEST),
    "ix_user_mfa_enrollment_expires_at": lambda w: w.work.mfa_factors.delete_expired(EPOCH),
    "pk_mfa_recovery_codes": lambda w: w.work.recovery_codes.spend(0, now=EPOCH),
    "uq_mfa_recovery_codes_user_id_slot": lambda w: w.work.recovery_codes.list_by_user(w.user.id),
    "pk_passkey_challenges": lambda w: w.work.passkey_challenges.take(uuid.uuid4()),
    "ix_passkey_challenges_expires_at": lambda w: w.work.passkey_challenges.delete_expired(EPOCH),
    "pk_trusted_devices": lambda w: w.work.trusted_devices.revoke(0, user_id=w.user.id),
    "uq_trusted_devices_token_hash": lambda w: w.work.trusted_devices.find_owner(DIGEST, now=EPOCH),
    "ix_trusted_devices_user_id": lambda w: w.work.trusted_devices.list_by_user(
        w.user.id, now=EPOCH
    ),
    "ix_trusted_devices_expires_at": lambda w: w.work.trusted_devices.delete_expired(EPOCH),
    "pk_security_events": lambda w: w.work.security_events.list_newest(since=EPOCH),
    "ix_security_events_user_id_occurred_at": lambda w: w.work.security_events.list_by_user(1),
    "ix_security_events_network_occurred_at": lambda w: w.work.security_events.list_by_network(
        "192.0.2.0/24", since=EPOCH
    ),
    "ix_mfa_attempts_user_id_attempted_at": lambda w: w.work.mfa_attempts.list_by_user(w.user.id),
    "pk_mfa_throttle": lambda w: w.work.mfa_throttle.list_by_user(w.user.id),
    "pk_subject_keys": lambda w: w.work.subject_keys.find_wrapped([uuid.uuid4()]),
    "ix_subject_keys_erased_at_subject_id": lambda w: w.work.subject_keys.list_erased(),
    "ix_event_log_subject_id_position": lambda w: list(w.events.about(uuid.uuid4(), work=w.work)),
    # Billing
    "pk_billing_accounts": lambda w: w.work.billing_accounts.get(0),
    "uq_billing_accounts_user_id": lambda w: w.work.billing_accounts.get_by_user(w.user.id),
    "pk_usage_logs": lambda w: w.work.usage_logs.get((EPOCH, "none")),
    "ix_usage_logs_billing_account_id_occurred_at": lambda w: w.work.usage_logs.sum_by_kind(
        w.account.id, EPOCH, LATER
    ),
    # Streams
    "pk_streams": lambda w: w.work.streams.get(0),
    "uq_streams_public_id": lambda w: w.work.streams.get_by_public_id(w.stream.public_id),
    "ix_streams_owner_id": lambda w: w.work.streams.list_by_owner(w.user.id),
    "pk_stream_keys": lambda w: w.work.stream_keys.record_use(0, EPOCH),
    "uq_stream_keys_key_hash": lambda w: w.work.stream_keys.get_with_stream(DIGEST),
    "ix_stream_keys_stream_id": lambda w: w.work.stream_keys.list_by_stream(w.stream.id),
    "pk_stream_live": lambda w: w.work.stream_live.lock(w.stream.id),
    "pk_stream_totals": lambda w: w.work.stream_totals.list_by_streams([w.stream.id]),
    "pk_stream_sessions": lambda w: w.work.stream_sessions.lock_one(w.session.id),
    "ix_stream_sessions_stream_id_started_at": lambda w: w.work.stream_sessions.get_latest(
        w.stream.id
    ),
    "uq_stream_sessions_stream_id_open": lambda w: w.work.stream_live.lock_overdue(LATER, limit=9),
    "pk_viewer_sessions": lambda w: w.work.viewer_sessions.get((EPOCH, uuid.uuid4())),
    "ix_viewer_sessions_stream_id_started_at": lambda w: w.work.viewer_sessions.list_by_stream(
        w.stream.id
    ),
    "ix_viewer_sessions_user_id_started_at": lambda w: w.work.viewer_sessions.list_by_user(
        w.user.id
    ),
    "pk_counter_flushes": lambda w: w.work.counter_flushes.get(uuid.uuid4()),
    "ix_counter_flushes_flushed_at": lambda w: w.work.counter_flushes.delete_before(EPOCH),
    "pk_recordings": lambda w: w.work.recordings.get(0),
    "uq_recordings_file_path": lambda w: w.work.recordings.get_by_path("/none"),
    "ix_recordings_stream_id_created_at": lambda w: w.work.recordings.list_by_stream(w.stream.id),
    "ix_recordings_stream_session_id": lambda w: w.work.recordings.list_by_session(w.session.id),
    "ix_recordings_expires_at": lambda w: w.work.recordings.lock_expired(LATER, limit=9),
    # Webhooks
    "pk_webhook_relay": lambda w: w.work.webhook_relay.take(),
    "pk_webhook_endpoints": lambda w: w.work.webhook_endpoints.lock(0),
    "ix_webhook_endpoints_owner_id": lambda w: w.work.webhook_endpoints.list_by_owner(w.user.id),
    "pk_webhook_deliveries": lambda w: w.work.webhook_deliveries.lock(0),
    "uq_webhook_deliveries_endpoint_id_position": lambda w: (
        w.work.webhook_deliveries.list_of_endpoint(0, before_position=9)
    ),
    "ix_webhook_deliveries_endpoint_id_due": lambda w: w.work.webhook_deliveries.claim(
        LATER, until=LATER, failing=False, per_endpoint=1, limit=9
    ),
    "ix_webhook_deliveries_finished_at": lambda w: w.work.webhook_deliveries.delete_finished(LATER),
    "pk_webhook_attempts": lambda w: w.work.webhook_attempts.list_of_delivery(0),
    # Events
    "pk_event_log_head": lambda w: w.events.flush(w.work),
    "pk_event_stream": lambda w: w.events.flush(w.work),
    "pk_event_log": lambda w: next(w.events.read_all(), None),
    "uq_event_log_event_id": lambda w: w.work.events.list_stored_ids([uuid.uuid4()]),
    "uq_event_log_aggregate_type_aggregate_id_version": lambda w: list(
        w.events.read("User", str(w.user.id), work=w.work)
    ),
    "ix_event_log_user_id_position": lambda w: list(w.events.audit_trail(w.user.id)),
    "pk_event_archive": lambda w: next(w.events.read_all(after_position=99), None),
    "pk_event_archive_aggregate": lambda w: list(w.events.read("None", "1")),
    "pk_event_archive_subject": lambda w: list(w.events.about(uuid.uuid4())),
    "pk_event_archive_user": lambda w: list(w.events.audit_trail(w.user.id)),
    "pk_event_archived_id": lambda w: w.work.events.list_stored_ids([uuid.uuid4()]),
    "pk_snapshots": lambda w: SnapshotRepository(w.work.session).get_latest(
        "User", "1", state_schema=1
    ),
    "pk_event_commit": lambda w: EventProofRepository(w.work.session).get_start(1),
    # Projections
    "pk_projection_checkpoints": lambda w: w.work.checkpoints.lock_free(
        "none", owner="nobody", now=EPOCH
    ),
    "pk_stream_stats_day": lambda w: w.work.stream_stats.list_days(
        w.stream.id, since=EPOCH.date(), until=LATER.date()
    ),
    "pk_activity_feed": lambda w: w.work.activity.list_for_user(
        w.user.id, before_position=None, limit=9
    ),
}
"""Index by index, a call of the package that needs it."""


@pytest.fixture(scope="module")
def untouched(servers, template):
    """A database without dead rows: what other tests left behind would sway the planner."""
    engine = create_engine(clone(servers, template, f"indexes_{WORKER}"), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def database(untouched, clock):
    settings = DatabaseSettings(url=SecretStr("postgresql://nowhere.invalid/none"))
    with untouched.begin() as transaction:
        with Database.joined_to(untouched, settings, clock=clock) as database:
            yield database
        transaction.rollback()


@pytest.fixture
def work(database):
    with database.transaction() as work:
        yield work


@pytest.fixture
def world(work, database, clock):
    user = make_user(work)
    stream = make_stream(work, user)
    session = work.stream_sessions.add(StreamSession(stream_id=stream.id, started_at=EPOCH))
    recording = work.recordings.add(
        Recording(
            stream_id=stream.id,
            stream_session_id=session.id,
            file_path="/tmp/a.flv",
            size_bytes=1,
            sha256=DIGEST,
            expires_at=EPOCH,
        )
    )
    account = work.billing_accounts.add(BillingAccount(user_id=user.id))
    make_session(work, user, token_hash=DIGEST)
    work.session_invalidations.put([DIGEST], rotated=False)
    work.user_tokens.add(
        UserToken(
            user_id=user.id,
            purpose=TokenPurpose.VERIFY_EMAIL,
            token_hash=DIGEST,
            expires_at=LATER,
        )
    )
    work.counter_flushes.add(
        CounterFlush(flush_id=uuid.uuid4(), flushed_at=EPOCH, streams=1, increments=1)
    )
    work.trusted_devices.add(
        TrustedDevice(
            user_id=user.id,
            token_hash=DIGEST,
            label="Phone",
            auth_epoch=0,
            generation=1,
            last_used_at=EPOCH,
            expires_at=LATER,
        )
    )
    work.webhook_endpoints.add(
        WebhookEndpoint(url="https://a", event_types=[], secret=DIGEST, after_position=0)
    )
    role = work.roles.get_one_by_name("viewer")
    work.role_grants.put(user.id, role.id, None, granted_by=None, expires_at=LATER)
    events = EventStore(database, clock=clock)
    events.append(work, "User", str(user.id), "Happened", {}, user_id=user.id)
    return World(work, events, user, stream, session, recording, account)


@pytest.mark.parametrize("index", sorted(QUERIES))
def test_an_index_is_scanned_by_the_query_it_is_there_for(world, index):
    session = world.work.session
    session.flush()
    session.execute(text("SET LOCAL enable_seqscan = off"))
    before = scans(session, index)

    QUERIES[index](world)

    assert before < scans(session, index)


def test_there_is_no_index_without_a_query(work):
    assert set(indexes(work.session)) == {*QUERIES, *ONLY_IDENTITY}


def test_only_primary_keys_may_wait_for_their_query(work):
    assert set(ONLY_IDENTITY).isdisjoint(QUERIES)
    assert all(name.startswith("pk_") for name in ONLY_IDENTITY)


def test_a_query_that_needs_no_index_would_be_noticed(world):
    before = scans(world.work.session, "ix_streams_owner_id")
    world.work.streams.list_by_ids([world.stream.id])

    assert before == scans(world.work.session, "ix_streams_owner_id")


def indexes(session):
    """Return the indexes of all tables but Alembic's own; partitions share their parent's."""
    found = session.scalars(
        text(
            """
            SELECT index.relname FROM pg_index
            JOIN pg_class index ON index.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
            WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
            AND t.relname <> 'alembic_version'
            """
        )
    )
    return found.all()


def scans(session, index):
    """Return how often this transaction scanned an index, or its twins on partitions."""
    return session.scalar(
        text(
            """
            SELECT sum(pg_stat_get_xact_numscans(relid))
            FROM pg_partition_tree(CAST(:index AS regclass))
            """
        ),
        {"index": index},
    ) or session.scalar(
        text("SELECT pg_stat_get_xact_numscans(CAST(:index AS regclass))"), {"index": index}
    )
