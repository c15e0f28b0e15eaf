"""Rotation: everything sealed moves to the new key, in use or not, and what is left is not lost."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import datetime, timedelta

import pytest
from sqlalchemy import LargeBinary, text

from rootstream_db.errors import ConflictError, NotFoundError, UnknownKeyError
from rootstream_db.models import Base, MfaFactor
from rootstream_db.models.mfa import FactorKind
from rootstream_db.security.key_file import MasterKeyFile
from rootstream_db.security.keyring import KeyRing, row_context
from rootstream_db.security.totp import TotpAlgorithm
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.key_rotation import SEALED, SETTLED_AFTER, KeyRotation, Rotation
from rootstream_db.services.mfa.authenticators import PURPOSE
from rootstream_db.services.subject_keys import SubjectKeys
from rootstream_db.services.webhooks import WebhookManager
from rootstream_db.services.webhooks.signing import EndpointSecrets, key_of
from rootstream_db.settings import WebhookSettings
from tests.factories import make_user
from tests.fixtures.doom import doomed, fork_doomed, was_killed

KEYS = {number: bytes([number]) * 32 for number in range(1, 4)}
MAIL = {"email": "ann@example.com"}


class World:
    """Sealed values of every kind, and a ring whose keys can be changed."""

    def __init__(self, database, clock):
        self.database, self.clock = database, clock
        self.keys = {1: KEYS[1]}
        self.ring = KeyRing(lambda: dict(self.keys))
        self.events = self.store()
        self.rotation = KeyRotation(database, lambda: self.ring, self.events, clock=clock)
        self.secrets = EndpointSecrets(lambda: self.ring)

    def store(self) -> EventStore:
        """An event store that knows no key of a person yet."""
        subjects = SubjectKeys(self.database, lambda: self.ring)
        return EventStore(self.database, clock=self.clock, subjects=subjects)

    def add_key(self, number: int) -> None:
        self.keys[number] = KEYS[number]
        self.ring.refresh()

    def add_people(self, count: int) -> None:
        with self.database.transaction() as work:
            for _ in range(count):
                self.events.append(
                    work, "Member", "1", "Joined", {}, personal=MAIL, subject_id=uuid.uuid4()
                )

    def add_factor(self) -> uuid.UUID:
        with self.database.transaction() as work:
            user, factor_id = make_user(work), uuid.uuid4()
            context = row_context("user_mfa", user.id, factor_id)
            sealed = self.ring.seal(b"a shared secret", purpose=PURPOSE, context=context)
            work.session.add(
                MfaFactor(
                    id=factor_id,
                    user_id=user.id,
                    kind=FactorKind.TOTP,
                    label="phone",
                    secret=sealed,
                    secret_key_id=self.ring.key_id(sealed),
                    algorithm=TotpAlgorithm.SHA1,
                    digits=6,
                    period_seconds=30,
                    confirmed_at=work.now,
                )
            )
        return factor_id

    def add_endpoint(self) -> tuple[int, str]:
        webhooks = WebhookManager(
            self.database, self.events, settings=WebhookSettings(), keyring=lambda: self.ring
        )
        with self.database.transaction() as work:
            endpoint, secret = webhooks.add(work, "https://example.com/")
        return endpoint.id, str(secret)

    def by_key(self) -> dict[int, int]:
        return {use.key_id: use.total for use in self.rotation.status() if use.total}

    def all_open(self) -> bool:
        store = self.store()
        personal = store.personal_of_many(store.read("Member", "1"))
        return bool(personal) and all(one == MAIL for one in personal)

    def execute(self, statement: str) -> None:
        with self.database.transaction() as work:
            work.session.execute(text(statement))


@pytest.fixture
def world(committed_database, clock):
    return World(committed_database, clock)


def test_every_sealed_column_is_registered():
    sealed = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and f"{column.name}_key_id" in table.columns
    }
    assert sealed == {str(column) for column in SEALED}


def test_everything_moves_to_the_new_key_and_opens(world):
    world.add_people(7)
    factor_id = world.add_factor()
    endpoint_id, secret = world.add_endpoint()
    world.add_key(2)
    assert {1: 9} == world.by_key()

    seen: list[int] = []
    assert Rotation(key_id=2, resealed=9, broken=(), lost=0) == world.rotation.rotate(
        batch=3, progress=seen.append
    )

    assert 9 == sum(seen)
    del world.keys[1]
    world.ring.refresh()
    assert {2: 9} == world.by_key()
    assert world.all_open()
    with world.database.read() as work:
        factor = work.session.get(MfaFactor, factor_id)
        context = row_context("user_mfa", factor.user_id, factor_id)
        opened = world.ring.open(factor.secret, purpose=PURPOSE, context=context)
        assert (b"a shared secret", 2) == (opened, factor.secret_key_id)
        endpoint = work.webhook_endpoints.get_one(endpoint_id)
        assert key_of(secret) == world.secrets.of(endpoint)


def test_a_second_rotation_finds_nothing_and_a_third_key_all(world):
    world.add_people(5)
    world.add_key(2)
    assert [5, 0] == [world.rotation.rotate().resealed for _ in range(2)]
    world.add_key(3)
    world.add_people(1)
    assert 5 == world.rotation.rotate().resealed
    assert {3: 6} == world.by_key()


def test_a_rotation_is_recorded_and_changes_no_event(world):
    world.add_people(3)
    world.add_key(2)
    before = world.events.anchor()
    world.rotation.rotate()
    *_, last = world.events.read_all()
    assert ("KeysRotated", {"key_id": 2, "resealed": 3}) == (last.event_type, last.data)
    assert world.events.verify(anchors=[before]).ok


def test_secrets_from_before_the_key_ring_are_sealed(world):
    endpoint_id, secret = world.add_endpoint()
    with world.database.transaction() as work:
        row = work.webhook_endpoints.get_one(endpoint_id)
        row.secret, row.secret_key_id = key_of(secret), None
    assert {0: 1} == world.by_key()
    assert 1 == world.rotation.rotate().resealed
    with world.database.read() as work:
        row = work.webhook_endpoints.get_one(endpoint_id)
        assert (1, key_of(secret)) == (row.secret_key_id, world.secrets.of(row))


def test_what_was_erased_is_not_touched(world):
    world.add_people(2)
    with world.database.transaction() as work:
        world.events.subjects.erase(work, next(world.events.read_all()).subject_id)
    world.add_key(2)
    assert 1 == world.rotation.rotate().resealed


def test_a_broken_value_is_named_and_stops_nothing(world):
    world.add_people(4)
    with world.database.transaction() as work:
        [first, *_] = work.session.scalars(
            text("SELECT subject_id FROM subject_keys ORDER BY subject_id")
        )
    world.execute(
        "UPDATE subject_keys SET wrapped = set_byte(wrapped, 40, 255 - get_byte(wrapped, 40)) "
        f"WHERE subject_id = '{first}'"
    )
    world.add_key(2)
    rotation = world.rotation.rotate(batch=2)
    assert (3, (f"subject_keys.wrapped of {first}",)) == (rotation.resealed, rotation.broken)
    assert not rotation.is_complete
    assert {1: 1, 2: 3} == world.by_key()


def test_values_under_a_key_that_is_gone_are_counted_and_kept(world):
    world.add_people(2)
    world.keys = {2: KEYS[2]}
    world.ring.refresh()
    world.add_people(1)
    rotation = world.rotation.rotate()
    assert (0, 2, False) == (rotation.resealed, rotation.lost, rotation.is_complete)
    assert [(1, False, 2), (2, True, 1)] == [
        (use.key_id, use.known, use.total) for use in world.rotation.status()
    ]
    with pytest.raises(UnknownKeyError):
        world.all_open()
    world.add_key(1)
    assert 2 == world.rotation.rotate().resealed
    assert world.all_open()


def test_rows_in_use_are_passed_by_and_come_last(world):
    world.add_people(6)
    world.add_key(2)
    locked, seen = threading.Event(), threading.Event()

    def use_a_row() -> None:
        with world.database.transaction() as work:
            work.session.execute(text("SELECT 1 FROM subject_keys LIMIT 1 FOR UPDATE"))
            locked.set()
            assert seen.wait(30)

    user = threading.Thread(target=use_a_row)
    user.start()
    assert locked.wait(30)

    done = []

    def progress(count: int) -> None:
        done.append(count)
        if sum(done) >= 5:
            seen.set()

    assert 6 == world.rotation.rotate(batch=2, progress=progress).resealed
    user.join()
    assert {2: 6} == world.by_key()


def test_several_rotations_at_once_do_it_once(world):
    world.add_people(60)
    world.add_key(2)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(world.rotation.rotate(batch=5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 60 == sum(rotation.resealed for rotation in results)
    assert world.all_open()


def test_a_rotation_that_dies_anywhere_goes_on_where_it_was(world):
    world.add_people(9)
    step = 0
    for number in (2, 3):
        world.add_key(number)
        died = True
        while died:
            step += 1
            died = doomed(lambda: world.rotation.rotate(batch=2), at=step)
            assert world.all_open()
    assert {3: 9} == world.by_key()
    assert 10 < step


@pytest.mark.slow
# The child only rotates and dies; it never touches what the parent's threads may hold.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_rotation_is_taken_up_again(world):
    world.add_people(40)
    world.add_key(2)
    assert was_killed(fork_doomed(lambda: world.rotation.rotate(batch=4), at=20))
    counts = world.by_key()
    assert {1, 2} == set(counts)
    assert 40 == sum(counts.values())
    assert world.all_open()
    assert counts[1] == world.rotation.rotate().resealed
    assert world.all_open()


# ---- dropping


@pytest.fixture
def file(world, tmp_path):
    """A file with keys 1 and 2, which the world's ring reads."""
    file = MasterKeyFile(tmp_path / "keys")
    file.add()
    file.add()
    world.ring = KeyRing(file, writer=1)
    world.add_people(2)
    world.ring = KeyRing(file)
    settle(file, world.clock() - SETTLED_AFTER)
    return file


def settle(file: MasterKeyFile, moment: datetime) -> None:
    os.utime(file.path, (moment.timestamp(), moment.timestamp()))


def test_a_key_with_values_left_is_not_dropped(world, file):
    with pytest.raises(ConflictError, match=r"under master key 1 \(2 in subject_keys\.wrapped"):
        world.rotation.drop(1, file)
    assert [1, 2] == list(file())


def test_a_key_is_dropped_once_nothing_is_under_it(world, file):
    world.rotation.rotate()
    world.rotation.drop(1, file)
    assert [2] == list(file())
    assert (2,) == world.ring.key_ids
    assert world.all_open()
    settle(file, world.clock() - SETTLED_AFTER)
    with pytest.raises(NotFoundError):
        world.rotation.drop(1, file)


def test_a_key_is_not_dropped_while_somebody_may_not_know_the_new_one(world, file):
    world.rotation.rotate()
    settle(file, world.clock() - SETTLED_AFTER + timedelta(seconds=1))
    with pytest.raises(ConflictError, match="changed a moment ago"):
        world.rotation.drop(1, file)
    settle(file, world.clock() - SETTLED_AFTER)
    world.rotation.drop(1, file)


def test_the_key_that_seals_is_not_dropped(world, file):
    world.rotation.rotate()
    with pytest.raises(ConflictError):
        world.rotation.drop(2, file)
    assert [1, 2] == list(file())
