"""The kinds of URL, each against a real server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from redis.connection import AbstractConnection

from rootstream_db.cache.client import RedisCache
from rootstream_db.cache.pubsub import EventBus
from rootstream_db.errors import CacheUnavailableError
from rootstream_db.settings import CacheSettings, RedisSettings
from tests.fixtures.redis_process import RedisProcess


def cache_at(url: str) -> RedisCache:
    return RedisCache(RedisSettings(url=SecretStr(url)), ttls=CacheSettings())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def tcp_port():
    """A server that listens on the loopback too."""
    port = free_port()
    server = RedisProcess("--port", str(port), "--bind", "127.0.0.1").start()
    yield port
    server.remove()


def test_tcp_with_a_logical_database(tcp_port):
    with (
        cache_at(f"redis://127.0.0.1:{tcp_port}/3") as cache,
        cache_at(f"redis://127.0.0.1:{tcp_port}/4") as other,
    ):
        cache.set("k", 1)
        assert b"1" == cache.get("k")
        assert other.get("k") is None
        assert f"RedisCache(127.0.0.1:{tcp_port})" == repr(cache)


def test_a_unix_socket_with_a_logical_database(steady_server):
    with cache_at(f"{steady_server.url}?db=3") as cache, cache_at(steady_server.url) as other:
        cache.set("k3", 1)
        assert other.get("k3") is None
        cache.delete("k3")


@pytest.fixture
def sentinel_port(tcp_port):
    """A real Sentinel that watches the server under the name ``main``."""
    port = free_port()
    watch = f"sentinel monitor main 127.0.0.1 {tcp_port} 1\n"
    options = ("--sentinel", "--port", str(port), "--bind", "127.0.0.1")
    server = RedisProcess(*options, config=watch).start()
    yield port
    server.remove()


def test_sentinel_leads_to_the_primary(tcp_port, sentinel_port, eventually):
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel_port}/main/2"
    with cache_at(url) as cache, cache_at(f"redis://127.0.0.1:{tcp_port}/2") as direct:
        cache.set("k", 1)
        assert b"1" == direct.get("k")
        assert 2 == cache.increment("k")


def test_the_bus_finds_its_way_through_sentinel(sentinel_port, eventually):
    url = SecretStr(f"redis+sentinel://127.0.0.1:{sentinel_port}/main")
    got = []
    with EventBus(RedisSettings(url=url)) as bus:
        bus.subscribe("t", lambda topic, payload: got.append(payload))
        bus.publish("t", {"n": 1})
        eventually(lambda: [{"n": 1}] == got)


def test_a_service_the_sentinels_do_not_know_is_an_outage(sentinel_port):
    with (
        cache_at(f"redis+sentinel://127.0.0.1:{sentinel_port}/nosuch") as cache,
        pytest.raises(CacheUnavailableError, match="nosuch"),
    ):
        cache.get("k")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for ``localhost`` that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


@pytest.fixture
def tls_port(steady_server, certificate):
    """A TLS front to the server, because the wheels' servers are built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(client, server_side=True) as secure,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.connect(str(steady_server.socket))
            back = threading.Thread(target=copy, args=(server, secure), daemon=True)
            back.start()
            copy(secure, server)
            back.join(5)

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_tls_with_a_verified_certificate(tls_port, certificate, eventually):
    url = f"rediss://localhost:{tls_port}/5?ssl_ca_certs={certificate}/cert.pem"
    with cache_at(url) as cache:
        cache.set("k", 1)
        assert b"1" == cache.get("k")
        cache.delete("k")


def test_the_bus_speaks_tls(tls_port, certificate, eventually):
    url = SecretStr(f"rediss://localhost:{tls_port}/5?ssl_ca_certs={certificate}/cert.pem")
    got = []
    with EventBus(RedisSettings(url=url)) as bus:
        bus.subscribe("t", lambda topic, payload: got.append(payload["n"]))
        for number in range(200):
            bus.publish("t", {"n": number, "filling": "x" * 500})
        eventually(lambda: list(range(200)) == got)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_that_cannot_be_verified_is_refused(tls_port, certificate, host):
    """An unknown authority, and a host name that is not in the certificate."""
    known = f"?ssl_ca_certs={certificate}/cert.pem" if host == "127.0.0.1" else ""
    started = time.monotonic()
    with (
        cache_at(f"rediss://{host}:{tls_port}{known}") as cache,
        pytest.raises(CacheUnavailableError, match=r"(?i)certificate"),
    ):
        cache.get("k")
    assert 2 > time.monotonic() - started


@pytest.mark.parametrize("send", range(1, 8))
def test_an_interrupted_handshake_does_not_lead_to_another_database(
    steady_server, monkeypatch, send
):
    """Ctrl-C between HELLO and SELECT must not leave a connection to database 0 in the pool."""
    sent = iter(range(1, 100))
    original = AbstractConnection.send_packed_command

    def interrupted(connection, *arguments, **options):
        if next(sent) == send:
            raise KeyboardInterrupt
        original(connection, *arguments, **options)

    with cache_at(f"{steady_server.url}?db=3") as cache, cache_at(steady_server.url) as other:
        other.ping()
        monkeypatch.setattr(AbstractConnection, "send_packed_command", interrupted)
        for number in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                cache.set("interrupted", number)
        cache.set("interrupted", 9)
        monkeypatch.undo()
        assert b"9" == cache.get("interrupted")
        assert other.get("interrupted") is None
        cache.delete("interrupted")
