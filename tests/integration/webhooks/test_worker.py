"""The process that relays and delivers: soon, through outages, to an orderly end; and over TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rootstream_db.models import DeliveryState
from rootstream_db.services.event_store import EventStore, Wakeup
from rootstream_db.services.webhooks import WebhookManager, WebhookWorker
from rootstream_db.settings import WebhookSettings
from tests.fixtures.receiver import Receiver

SETTINGS = WebhookSettings(poll_interval=0.02, workers=4)


@pytest.fixture
def working(webhooks):
    """A worker that runs in a thread."""
    worker = WebhookWorker(webhooks, SETTINGS)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, as the paths of its two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "cert").write_bytes(made.public_bytes(pem))
    (tmp_path / "key").write_bytes(key.private_bytes(pem, form, none))
    return tmp_path / "cert", tmp_path / "key"


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_an_event_is_delivered_soon_after_its_commit(working, add, happen, receiver):
    add(receiver.url(), event_types=["Happened"])
    for number in range(1, 6):
        happen()
        wait_for(lambda number=number: len(receiver.received) == number)


def test_the_word_of_new_events_ends_the_pause_of_the_relay(
    committed_database, clock, bus, add, receiver, monkeypatch
):
    monkeypatch.setattr("rootstream_db.services.event_store.following.FIRST_WAIT", 3600.0)
    monkeypatch.setattr("rootstream_db.services.event_store.wakeup.INTERVAL", 0.0)
    events = EventStore(committed_database, clock=clock, wakeup=Wakeup(bus))
    patient = WebhookSettings(poll_interval=3600, workers=4)
    worker = WebhookWorker(
        WebhookManager(committed_database, events, settings=patient, clock=clock), patient
    )
    add(receiver.url(), event_types=["Happened"])
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for number in range(1, 4):
            with committed_database.transaction() as work:
                events.append(work, "Thing", "1", "Happened", {})
            wait_for(lambda number=number: len(receiver.received) == number)
    finally:
        worker.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_an_outage_is_logged_once_and_outlasted(
    working, webhooks, add, happen, receiver, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    add(receiver.url(), event_types=["Happened"])
    tried = []

    def fail() -> int:
        tried.append(1)
        raise ConnectionError("no database")

    with monkeypatch.context() as broken:
        broken.setattr(webhooks, "relay", fail)
        wait_for(lambda: len(tried) > 3)
    happen()
    wait_for(lambda: len(receiver.received) == 1)
    lines = [record.message for record in caplog.records if "webhook relay" in record.message]
    assert ["webhook relay fails, trying on: no database", "webhook relay works again"] == lines


def test_a_receiver_proves_who_it_is(
    committed_database, webhooks, managed, add, happen, clock, certificate
):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    with Receiver(tls=tls) as receiver:
        endpoint, secret = add(receiver.url(), event_types=["Happened"])
        happen()
        webhooks.relay()
        webhooks.deliver()
        assert [] == receiver.received

        clock.advance(60)
        managed(ca_file=certificate[0]).deliver()
        [request] = receiver.received
    assert request.is_signed_with(secret)
    with committed_database.read() as work:
        [delivery] = work.webhook_deliveries.list_of_endpoint(endpoint.id)
        first, _ = work.webhook_attempts.list_of_delivery(delivery.id)
    assert DeliveryState.DELIVERED == delivery.state
    assert "certificate refused: self-signed certificate" == first.error


def test_a_certificate_for_another_name_is_refused(
    committed_database, managed, add, happen, certificate
):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    with Receiver(tls=tls) as receiver:
        endpoint, _ = add(receiver.url(host="localhost"), event_types=["Happened"])
        happen()
        webhooks = managed(ca_file=certificate[0])
        webhooks.relay()
        webhooks.deliver()
        assert [] == receiver.received
    with committed_database.read() as work:
        [delivery] = work.webhook_deliveries.list_of_endpoint(endpoint.id)
        [attempt] = work.webhook_attempts.list_of_delivery(delivery.id)
    assert "Hostname mismatch" in attempt.error
