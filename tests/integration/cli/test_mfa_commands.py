"""``rootstream-db mfa`` and ``user unlock``, from the enrolment to the reset."""

from __future__ import annotations

import io
import stat

import pytest
import zxingcpp
from PIL import Image

from rootstream_db.errors import InvalidCodeError, InvalidCredentialsError
from tests.fixtures.mfa import app_of
from tests.integration.cli.test_commands import PASSWORD, as_json, register, run

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def configured(clean_database_url, redis_url, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE", "cheapest-for-tests")


def enroll(label="Phone"):
    """Enrol an app by the command line; return the app."""
    register()
    made = as_json("mfa", "enroll", "alice", "--label", label)
    app = app_of(made["uri"])
    confirmed = as_json("mfa", "confirm", made["enrollment_id"], stdin=f"{app.now()}\n")
    assert ("totp", label) == (confirmed["kind"], confirmed["label"])
    return app


def test_an_app_is_enrolled_and_shown():
    enroll()
    shown = as_json("mfa", "status", "alice@example.com")
    assert (True, True, 0, 0) == (
        shown["enabled"],
        shown["required"],
        shown["backup_codes_left"],
        shown["trusted_devices"],
    )
    assert ["Phone"] == [one["label"] for one in shown["factors"]]
    assert [("enrollment", "accepted")] == [
        (one["method"], one["outcome"]) for one in shown["attempts"]
    ]
    told = run("mfa", "status", "alice").stdout
    assert "factor: Phone (totp)" in told
    assert "enrollment accepted" in told


def test_a_person_sees_a_qr_code_and_what_to_do_next():
    register()
    told = run("mfa", "enroll", "alice").stdout
    assert "█▀" in told
    assert "rootstream-db mfa confirm " in told
    again = run("mfa", "qr", "alice").stdout
    assert told == again


def test_the_code_can_be_written_to_a_file_of_ones_own(tmp_path):
    register()
    made = as_json("mfa", "enroll", "alice")
    path = tmp_path / "code.png"
    assert 0 == run("mfa", "qr", "alice", "--format", "png", "--output", str(path)).exit_code
    (found,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(path.read_bytes())))
    assert made["uri"] == found.text
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    # Never over something that is there, whose mode and readers are not ours.
    again = run("mfa", "qr", "alice", "--format", "png", "--output", str(path))
    assert 2 == again.exit_code
    assert "File exists" in again.stderr


@pytest.mark.parametrize("arguments", [("--format", "png"), ("--output", "code.svg")])
def test_a_picture_goes_to_a_file_and_nothing_else_does(arguments):
    assert 2 == run("mfa", "qr", "alice", *arguments).exit_code


def test_a_confirmed_secret_is_not_shown_again():
    app = enroll()
    result = run("mfa", "qr", "alice")
    assert 10 == result.exit_code
    for command in (("mfa", "status", "alice"), ("user", "show", "alice")):
        assert app.secret not in run(*command, "--json").stdout


def test_a_wrong_code_is_one_line_and_exit_1():
    register()
    made = as_json("mfa", "enroll", "alice")
    result = run("mfa", "confirm", made["enrollment_id"], stdin="000\n")
    assert (1, "error: the code is wrong") == (result.exit_code, result.stderr.strip())
    assert 2 == run("mfa", "confirm", made["enrollment_id"], stdin="").exit_code


def test_a_reset_has_to_be_meant():
    enroll()
    refused = run("mfa", "reset", "alice")
    assert 2 == refused.exit_code
    assert "--yes" in refused.stderr
    assert as_json("mfa", "status", "alice")["enabled"]
    assert {"removed": 1} == as_json("mfa", "reset", "alice", "--yes")
    assert not as_json("mfa", "status", "alice")["enabled"]


def test_an_operator_unlocks_login_and_second_factor(rootstream):
    enroll()
    with rootstream.transaction() as work:
        user = work.users.get_by_username("alice")
    for _ in range(5):
        with rootstream.transaction() as work:
            with pytest.raises(InvalidCodeError):
                rootstream.mfa.verify_totp(work, user, "wrong")
            with pytest.raises(InvalidCredentialsError):
                rootstream.accounts.authenticate(work, "alice", "wrong")
    with rootstream.transaction() as work:
        assert ["totp"] == [*rootstream.mfa.status(work, user).locked_until]

    assert 0 == run("user", "unlock", "alice").exit_code

    with rootstream.transaction() as work:
        assert {} == rootstream.mfa.status(work, user).locked_until
        assert user.id == rootstream.accounts.authenticate(work, "alice", PASSWORD).id
    told = [event.event_type for event in rootstream.events.read("User", str(user.id))]
    assert {"LoginUnlocked", "MfaUnlocked"} <= set(told)


def test_what_ran_out_is_deleted(rootstream):
    register()
    with rootstream.transaction() as work:
        # The fixture's clock stands in the past: this has long run out for the command.
        rootstream.mfa.enroll(work, work.users.get_by_username("alice"))
    assert {"deleted": 1} == as_json("mfa", "delete-expired")
    assert {"deleted": 0} == as_json("mfa", "delete-expired")


def test_an_unknown_account_is_exit_10():
    for command in (("mfa", "status"), ("mfa", "enroll"), ("user", "unlock")):
        assert 10 == run(*command, "nobody").exit_code
