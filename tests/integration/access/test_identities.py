"""Identities at other sites: which account they open, and what never links them to one."""

from __future__ import annotations

import threading

import pytest

from rootstream_db.errors import (
    ConflictError,
    IdentityRefusedError,
    InvalidCredentialsError,
    LastLoginWayError,
    NotFoundError,
    SessionRevokedError,
    ValidationError,
)
from rootstream_db.testing import EPOCH
from tests.factories import make_user

ISSUER = "https://id.example.com"
PROVED = {"email": "dana@example.com", "email_verified": True}


@pytest.fixture
def identities(access):
    return access.identities


@pytest.fixture
def dana(rootstream):
    """An account whose address is proved."""
    with rootstream.transaction() as work:
        return make_user(work, email="dana@example.com", verified_at=EPOCH)


@pytest.fixture
def login(rootstream, identities):
    def call(subject="7", **claims):
        with rootstream.transaction() as work:
            return identities.login_or_link(work, ISSUER, subject, **claims)

    return call


@pytest.fixture
def link(rootstream, identities):
    def call(user, subject="7", **claims):
        with rootstream.transaction() as work:
            return identities.link(work, user, ISSUER, subject, **claims)

    return call


def refused(call, *arguments, **claims):
    with pytest.raises(IdentityRefusedError) as caught:
        call(*arguments, **claims)
    return caught.value.reason


def test_a_linked_identity_opens_its_account_whatever_its_address_is_now(
    rootstream, login, link, user, dana, clock
):
    link(user, email="old@example.com")
    clock.advance(5)

    assert user.id == login().id
    # The address of another account, proved: it is the identity that counts.
    found = login(**PROVED)
    assert user.id == found.id
    assert clock() == found.last_login_at
    with rootstream.transaction() as work:
        (identity,) = work.external_identities.list_of_user(user.id)
    assert ("dana@example.com", clock()) == (identity.email, identity.last_login_at)


def test_an_address_proved_on_both_sides_links(login, dana, events_of):
    assert dana.id == login(email="Dana@EXAMPLE.com", email_verified=True).id
    assert dana.id == login().id

    seen = [(kind, data) for kind, data in events_of("User", dana.id)]
    assert "IdentityLinked" == seen[0][0]
    assert seen[0][1]["automatic"] is True
    assert ("SecurityNoticeDue", {"about": "IdentityLinked"}) == seen[1]
    assert ["IdentityUsed", "IdentityUsed"] == [kind for kind, _ in seen[2:]]
    assert "dana@" not in str(seen).lower()


def test_an_address_that_the_issuer_has_not_proved_never_links(login, dana):
    assert "email_unverified" == refused(login, email="dana@example.com")
    assert "email_unverified" == refused(login, email="dana@example.com", email_verified=False)


def test_whether_an_account_has_an_unproved_address_is_not_told(login, dana):
    there = refused(login, email="dana@example.com")
    assert there == refused(login, email="nobody@example.com")


def test_an_account_whose_own_address_is_unproved_is_never_linked(rootstream, login):
    with rootstream.transaction() as work:
        make_user(work, email="dana@example.com")

    assert "account_unverified" == refused(login, **PROVED)


def test_without_an_account_there_is_nothing_to_link_to(login):
    assert "no_account" == refused(login)
    assert "no_account" == refused(login, **PROVED)


def test_a_closed_account_is_not_opened(rootstream, login, link, dana):
    link(dana)
    with rootstream.transaction() as work:
        rootstream.accounts.deactivate(work, dana)

    assert "account_closed" == refused(login)
    assert "account_closed" == refused(login, "8", **PROVED)
    with rootstream.transaction() as work:
        assert 1 == len(work.external_identities.list_of_user(dana.id))


def test_an_identity_is_of_its_issuer(rootstream, identities, link, user):
    link(user)
    with rootstream.transaction() as work, pytest.raises(IdentityRefusedError):
        identities.login_or_link(work, "https://other.example.com", "7")


def test_an_identity_opens_one_account_only(link, user, dana):
    first = link(user)

    assert first.id == link(user).id
    with pytest.raises(ConflictError, match="opens another account"):
        link(dana)


def test_of_two_accounts_that_link_an_identity_at_once_one_gets_it(
    rootstream, identities, user, dana
):
    barrier, outcomes = threading.Barrier(2), []

    def try_to_link(account):
        barrier.wait()
        try:
            with rootstream.transaction() as work:
                identities.link(work, account, ISSUER, "7")
        except ConflictError:
            outcomes.append("refused")
        else:
            outcomes.append("linked")

    threads = [threading.Thread(target=try_to_link, args=(one,)) for one in (user, dana)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["linked", "refused"] == sorted(outcomes)


def test_many_first_logins_at_once_link_once(rootstream, login, dana):
    barrier, opened, failed = threading.Barrier(6), [], []

    def enter():
        barrier.wait()
        try:
            opened.append(login(**PROVED).id)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failed
    assert [dana.id] * 6 == opened
    with rootstream.transaction() as work:
        assert 1 == len(work.external_identities.list_of_user(dana.id))


def test_linking_proves_the_accounts_own_address_if_the_issuer_did(rootstream, link, user):
    link(user, "1", email=user.email, email_verified=False)
    link(user, "2", email="other@example.com", email_verified=True)
    with rootstream.transaction() as work:
        assert not work.users.get_one(user.id).is_verified

    link(user, "3", email=user.email.upper(), email_verified=True)
    with rootstream.transaction() as work:
        assert work.users.get_one(user.id).is_verified


def test_an_account_without_a_password_logs_in_by_its_identity_alone(rootstream, identities, login):
    with rootstream.transaction() as work:
        erin = rootstream.accounts.register(
            work, username="erin", email="erin@example.com", password=None
        )
        identities.link(work, erin, ISSUER, "9", email="erin@example.com", email_verified=True)

    assert erin.id == login("9").id
    for guess in ("!", "", "correct horse battery staple"):
        with pytest.raises(InvalidCredentialsError), rootstream.transaction() as work:
            rootstream.accounts.authenticate(work, "erin", guess)


def test_the_last_way_to_log_in_stays(rootstream, identities):
    with rootstream.transaction() as work:
        erin = rootstream.accounts.register(
            work, username="erin", email="erin@example.com", password=None
        )
        first = identities.link(work, erin, ISSUER, "1")
        second = identities.link(work, erin, ISSUER, "2")
    with rootstream.transaction() as work:
        identities.unlink(work, work.external_identities.get_one(first.id))
    with (
        pytest.raises(LastLoginWayError, match="only way to log in"),
        rootstream.transaction() as work,
    ):
        identities.unlink(work, work.external_identities.get_one(second.id))


def test_of_the_last_two_ways_one_stays_though_both_go_at_once(rootstream, identities):
    with rootstream.transaction() as work:
        erin = rootstream.accounts.register(
            work, username="erin", email="erin@example.com", password=None
        )
        linked = [identities.link(work, erin, ISSUER, str(number)) for number in range(2)]
    barrier, refusals = threading.Barrier(2), []

    def leave(identity):
        barrier.wait()
        try:
            with rootstream.transaction() as work:
                identities.unlink(work, work.external_identities.get_one(identity.id))
        except LastLoginWayError as error:
            refusals.append(error)

    threads = [threading.Thread(target=leave, args=(one,)) for one in linked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(refusals)


def test_unlinking_ends_the_sessions_of_the_account_but_the_one_it_was_asked_for_in(
    rootstream, identities, login, link, user, events_of
):
    link(user)
    with rootstream.transaction() as work:
        here, there = (rootstream.sessions.create(work, user) for _ in range(2))
    with rootstream.transaction() as work:
        identity = work.external_identities.get_by_subject(ISSUER, "7")
        identities.unlink(work, identity, keep=here.session.id)

    assert user.id == rootstream.sessions.validate(here.token).user_id
    with pytest.raises(SessionRevokedError):
        rootstream.sessions.validate(there.token)
    assert "no_account" == refused(login)
    seen = [kind for kind, _ in events_of("User", user.id) if "Session" not in kind]
    assert ["IdentityLinked", "SecurityNoticeDue", "IdentityUnlinked", "SecurityNoticeDue"] == seen


@pytest.mark.parametrize(
    ("who", "field"),
    [
        (("", "7"), "issuer"),
        (("x" * 513, "7"), "issuer"),
        ((ISSUER, ""), "subject"),
        ((ISSUER, "a\0b"), "subject"),
        ((ISSUER, "ä"), "subject"),
        ((ISSUER, "7" * 256), "subject"),
    ],
)
def test_what_cannot_be_an_identity_is_refused(rootstream, identities, user, who, field):
    with rootstream.transaction() as work:
        for call in (
            lambda: identities.login_or_link(work, *who),
            lambda: identities.link(work, user, *who),
        ):
            with pytest.raises(ValidationError) as caught:
                call()
            assert field == caught.value.field


def test_an_address_that_is_none_links_nothing(login):
    with pytest.raises(ValidationError, match="e-mail"):
        login(email="no address", email_verified=True)


def test_an_account_that_is_gone_is_not_linked(rootstream, identities, user):
    with rootstream.transaction() as work:
        rootstream.accounts.delete(work, user)
    with pytest.raises(NotFoundError), rootstream.transaction() as work:
        identities.link(work, user, ISSUER, "7")
