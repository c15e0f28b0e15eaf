"""TLS up to verify-full, with an authority of the test's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.embedded import EmbeddedPostgres
from rootstream_db.embedded.run_as import choose_run_as
from rootstream_db.errors import ConfigurationError
from tests.fixtures.scratch import scratch_folder

# The wheels' servers are built without OpenSSL.
BINDIR = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)

pytestmark = pytest.mark.skipif(BINDIR is None, reason="no PostgreSQL with TLS is installed")

ACCESS = """
local all all trust
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = self._write(f"{name}.crt", builder)

    def issue(self, name: str, *addresses: x509.GeneralName) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key)
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        private = self.folder / f"{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        private.chmod(0o600)
        return self._write(f"{name}.crt", builder), private

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey):
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def _write(self, name: str, builder: x509.CertificateBuilder) -> Path:
        path = self.folder / name
        certificate = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@dataclass(frozen=True)
class SecureServer:
    """A server with TLS, known as 127.0.0.1 and not as localhost."""

    url: str
    authority: Authority
    stranger: Authority


@pytest.fixture(scope="module")
def secure() -> Iterator[SecureServer]:
    with scratch_folder() as folder:
        authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate, key = authority.issue("server", address)
        (folder / "pg_hba.conf").write_text(ACCESS)
        choose_run_as(None).own(key)
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(certificate),
            "ssl_key_file": str(key),
            "ssl_ca_file": str(authority.certificate),
            "hba_file": str(folder / "pg_hba.conf"),
        }
        with EmbeddedPostgres(
            folder / "pg", tcp=True, durable=False, bindir=BINDIR, settings=settings
        ) as server:
            yield SecureServer(server.url(), authority, stranger)


@pytest.fixture
def connect(make: Callable[..., Database], secure: SecureServer) -> Callable[..., bool]:
    """A function that connects and tells whether the connection is encrypted."""

    def encrypted(*, url: str | None = None, **over: object) -> bool:
        db = make(url=SecretStr(url or secure.url), **over)
        query = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        with db.read() as work:
            return bool(work.session.execute(query).scalar_one())

    return encrypted


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_signed_by_the_authority_is_trusted(connect, secure: SecureServer, mode: str):
    assert connect(sslmode=mode, sslrootcert=str(secure.authority.certificate))


def test_the_settings_reach_direct_connections_too(make, secure: SecureServer):
    db = make(
        url=SecretStr(secure.url),
        sslmode="verify-full",
        sslrootcert=str(secure.stranger.certificate),
    )
    with pytest.raises(ConfigurationError, match="no trusted TLS connection"), db.direct():
        pass


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_server_signed_by_a_stranger_is_refused(connect, secure: SecureServer, mode: str):
    with pytest.raises(ConfigurationError, match="certificate verify failed") as caught:
        connect(sslmode=mode, sslrootcert=str(secure.stranger.certificate))
    assert "database.sslmode" == caught.value.setting


def test_verify_full_refuses_another_name_and_verify_ca_does_not(connect, secure: SecureServer):
    by_name = secure.url.replace("127.0.0.1", "localhost")
    trusted = str(secure.authority.certificate)
    assert connect(url=by_name, sslmode="verify-ca", sslrootcert=trusted)
    with pytest.raises(ConfigurationError, match="does not match host name"):
        connect(url=by_name, sslmode="verify-full", sslrootcert=trusted)


def test_a_missing_authority_is_said(connect):
    with pytest.raises(ConfigurationError, match="root certificate file"):
        connect(sslmode="verify-full", sslrootcert="/nowhere/ca.crt")


def test_a_server_that_wants_tls_refuses_plain_connections(connect):
    with pytest.raises(ConfigurationError, match="may not connect"):
        connect(sslmode="disable")


def test_a_client_certificate_replaces_the_password(connect, secure: SecureServer):
    certificate, key = secure.authority.issue("certified")
    place = secure.url.partition("@")[2]
    create_role(secure.url)
    assert connect(
        url=f"postgresql://certified@{place}",
        sslmode="verify-full",
        sslrootcert=str(secure.authority.certificate),
        sslcert=certificate,
        sslkey=key,
    )


def create_role(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS certified")
        connection.execute("CREATE ROLE certified LOGIN")
