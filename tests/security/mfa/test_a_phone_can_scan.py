"""A QR code is for a camera: another program reads ours, and what it reads logs in."""

from __future__ import annotations

import io
from xml.etree import ElementTree as ET

import pytest
import zxingcpp
from PIL import Image

from rootstream_db.errors import ValidationError
from tests.factories import make_user
from tests.fixtures.mfa import app_of

LIGHT, DARK = 255, 0
HALVES = {"█": (LIGHT, LIGHT), "▀": (LIGHT, DARK), "▄": (DARK, LIGHT), " ": (DARK, DARK)}
"""What a dark terminal shows for a block character: its upper and its lower half."""


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return make_user(work, username="alice", email="alice@example.com")


@pytest.fixture
def enrollment(rootstream, alice):
    with rootstream.transaction() as work:
        return rootstream.mfa.enroll(work, alice, label="Phone")


def scanned(picture):
    """Return what a camera app reads in a picture."""
    (found,) = zxingcpp.read_barcodes(picture)
    return found.text


def screenshot(lines):
    """Return a picture of lines of block characters."""
    rows = [[HALVES[character][half] for character in line] for line in lines for half in range(2)]
    picture = Image.new("L", (len(rows[0]), len(rows)))
    picture.putdata([shade for row in rows for shade in row])
    return picture.resize((picture.width * 4, picture.height * 4), Image.Resampling.NEAREST)


def test_what_a_phone_reads_from_the_png_logs_in(rootstream, alice, enrollment, clock):
    png = rootstream.mfa.qr_code(enrollment.uri, format="png")
    phone = app_of(scanned(Image.open(io.BytesIO(png))))

    with rootstream.transaction() as work:
        rootstream.mfa.confirm(work, enrollment.id, phone.at(clock()))
    clock.advance(30)
    with rootstream.transaction() as work:
        proof = rootstream.mfa.verify_totp(work, alice, phone.at(clock()))
    assert alice.id == proof.user_id
    assert ("RootStream", "alice") == (phone.issuer, phone.name)


def test_a_phone_reads_the_terminal(rootstream, enrollment):
    drawn = rootstream.mfa.qr_code(enrollment.uri, format="terminal")

    assert "\x1b" not in drawn
    assert enrollment.uri == scanned(screenshot(drawn.splitlines()))


def test_the_svg_is_an_element_for_a_page(rootstream, enrollment):
    drawn = rootstream.mfa.qr_code(enrollment.uri)
    root = ET.fromstring(drawn)  # noqa: S314 - our own text
    assert "svg" == root.tag.rpartition("}")[2]
    # Nothing that a page's content security policy would refuse.
    assert not {"script", "style", "href"} & {one.tag.rpartition("}")[2] for one in root.iter()}
    assert enrollment.secret not in drawn


def test_names_that_need_escaping_are_read_as_they_are(rootstream):
    settings = rootstream.settings.mfa.model_copy(update={"issuer": "Söhne & Töchter: TV"})
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": settings})
    with rootstream.transaction() as work:
        uri = rootstream.mfa.enroll(work, make_user(work, username="a.b-c_d")).uri
    png = rootstream.mfa.qr_code(uri, format="png")
    phone = app_of(scanned(Image.open(io.BytesIO(png))))

    assert ("Söhne & Töchter: TV", "a.b-c_d") == (phone.issuer, phone.name)


def test_there_is_no_other_format(rootstream, enrollment):
    with pytest.raises(ValidationError, match="svg, png or terminal"):
        rootstream.mfa.qr_code(enrollment.uri, format="jpeg")
