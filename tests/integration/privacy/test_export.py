"""The copy of a person's data: all of it, hers alone, and no secret."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from rootstream_db.audit import acting
from rootstream_db.errors import NotFoundError
from rootstream_db.models import Base
from rootstream_db.repositories.personal_records import SECTIONS, UNLINKED
from rootstream_db.services.privacy import export

ELSEWHERE = {
    "event_log": "events have a section of their own",
    "event_archive_user": "an index into archived events",
    "activity_feed": "made of events",
    "access_versions": "a number for caches",
    "passkey_challenges": "a random number that lives for minutes",
    "mfa_throttle": "a count of attempts, which has no history",
}
"""Tables that name accounts and are no section of an export, and why."""


def exported(rs, user) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(rs.access.export_user(user.id)))
    return found


def test_every_table_that_names_accounts_is_exported_or_has_a_reason():
    naming = {
        table.name
        for table in Base.metadata.tables.values()
        if any(key.column.table.name == "users" for key in table.foreign_keys)
        or {"user_id", "owner_id"} & set(table.columns.keys())
    }
    assert naming | {"users"} <= {section.table.name for section in SECTIONS} | set(ELSEWHERE)


def test_every_table_that_names_accounts_without_a_foreign_key_is_erased_or_has_a_reason():
    linked = {
        table.name
        for table in Base.metadata.tables.values()
        if any(key.column.table.name == "users" for key in table.foreign_keys)
    }
    naming = {table.name for table in Base.metadata.tables.values() if "user_id" in table.columns}
    unlinked = {model.__tablename__ for model in UNLINKED}
    assert naming - linked <= unlinked | set(ELSEWHERE)


def test_a_person_gets_everything(rootstream, ann):
    document = exported(rootstream, ann.user)
    assert (1, str(ann.user.public_id)) == (document["format"], document["subject_id"])
    [account] = document["account"]
    assert ("ann_smith", "ann@mail.example") == (account["username"], account["email"])
    [session] = document["sessions"]
    assert "192.0.2.77" == session["ip_address"]
    assert [ann.stream.name] == [stream["name"] for stream in document["streams"]]
    assert sorted(ann.files) == sorted(one["file_path"] for one in document["recordings"])
    assert 1 == len(document["stream_sessions"]) == len(document["stream_keys"])
    assert 1 == len(document["watched"]) == len(document["webhooks"])
    assert ["7.000"] == [one["quantity"] for one in document["usage"]]
    assert "192.0.2.77" in str(document["security_events"])


def test_events_come_once_in_order_with_personal_fields_opened(rootstream, ann):
    events = exported(rootstream, ann.user)["events"]
    positions = [event["position"] for event in events]
    assert sorted(set(positions)) == positions
    registered = events[0]
    assert "UserRegistered" == registered["type"]
    told = {"username": "ann_smith", "email": "ann@mail.example", "display_name": "Ann Smith"}
    assert told == registered["personal"]
    logged_in = next(event for event in events if event["type"] == "UserLoggedIn")
    assert {"ip_address": "192.0.2.77"} == logged_in["personal"]
    assert {"ip_address": "192.0.2.77", "user_agent": "AnnBrowser"} == logged_in["origin"]
    assert {"StreamCreated", "WebhookAdded"} <= {event["type"] for event in events}


def test_nobody_gets_what_is_said_about_others(rootstream, ann, bob):
    request = acting(user_id=ann.user.id, ip_address="192.0.2.77")
    with request, rootstream.transaction() as work:
        rootstream.accounts.update_profile(work, bob, display_name="Robert Jones")
    hers, his = exported(rootstream, ann.user), exported(rootstream, bob)
    assert "Robert" not in str(hers)
    assert "192.0.2.77" not in str(his)
    assert "ProfileUpdated" in str(hers["events"])
    assert {"display_name": "Robert Jones"} == his["events"][-1]["personal"]


def test_no_secret_is_in_it(rootstream, ann):
    document = b"".join(rootstream.privacy.export_user(ann.user.id)).decode()
    with rootstream.database.read() as work:
        digests = work.session.scalars(text("SELECT encode(token_hash, 'hex') FROM sessions"))
        for secret in (ann.session_token, "argon2", *digests):
            assert secret not in document
    assert "password_hash" not in document
    assert '"secret"' not in document


def test_it_is_made_page_by_page(rootstream, ann, monkeypatch):
    whole = exported(rootstream, ann.user)
    monkeypatch.setattr(export, "BATCH", 1)
    assert whole | {"exported_at": None} == exported(rootstream, ann.user) | {"exported_at": None}


def test_the_pieces_are_small_however_much_there_is(rootstream, ann):
    with rootstream.transaction() as work:
        for number in range(300):
            rootstream.events.append(
                work,
                "Member",
                "1",
                "Happened",
                {"n": number, "text": "x" * 1000},
                user_id=ann.user.id,
            )
    assert 3000 > max(map(len, rootstream.privacy.export_user(ann.user.id)))


def test_nobody_has_no_copy(rootstream):
    with pytest.raises(NotFoundError):
        rootstream.privacy.export_user(0)


def test_somebody_with_nothing_gets_empty_sections(rootstream, bob):
    document = exported(rootstream, bob)
    assert [] == document["streams"] == document["usage"]
    assert uuid.UUID(document["subject_id"]) == bob.public_id
