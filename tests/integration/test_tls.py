"""TLS to Redis, with client certificates, as the page for operators has it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
from pathlib import Path  # noqa: TC003 - pytest reads it
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.testing import RedisServer
from revokebus.testing.link import Link
from revokebus.testing.process import LOOPBACK, ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Eventually, MakeSettings

BINARY = "redis-server"  # the embedded Valkey is built without TLS


class Authority:
    """A certificate authority of a test's, in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = folder / f"{name}.pem"
        self._write(self.certificate, self._sign(self._name, self._key, is_authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, secret = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        self._write(certificate, self._sign(subject, key, is_authority=False))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))])
        own_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        usage = x509.KeyUsage(
            digital_signature=not is_authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=is_authority,
            crl_sign=is_authority,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            # Python 3.13 and later ask for these.
            .add_extension(own_key, critical=False)
            .add_extension(issued_by, critical=False)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def tls_server(authority: Authority) -> Iterator[tuple[RedisServer, int]]:
    """A server that takes TLS, from clients with a certificate of the authority's, and its port."""
    if shutil.which(BINARY) is None:
        pytest.skip("redis-server is not installed, and the embedded Valkey has no TLS")
    certificate, key = authority.issue("server")
    reserved = ReservedPort()
    port = reserved.number
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.certificate),
        "tls-auth-clients": "yes",
    }
    with RedisServer(BINARY, options) as server:
        yield server, port


@pytest.fixture
def tls_port(tls_server: tuple[RedisServer, int]) -> int:
    return tls_server[1]


def url_of(port: int, **files: Path) -> str:
    options = urlencode({name: str(path) for name, path in files.items()})
    return f"rediss://{LOOPBACK}:{port}/0?{options}"


def trusted_url(authority: Authority, port: int) -> str:
    """Return the URL of a client that the authority knows."""
    certificate, key = authority.issue("app")
    files = {"ssl_ca_certs": authority.certificate, "ssl_certfile": certificate}
    return url_of(port, **files, ssl_keyfile=key)


async def test_everything_goes_through_tls(
    authority: Authority, tls_port: int, make_settings: MakeSettings
) -> None:
    """Whoever follows the page would not connect, or send revocations in the clear."""
    url = trusted_url(authority, tls_port)
    async with Engine(make_settings(url)) as one, Engine(make_settings(url)) as other:
        token = await one.authenticate(one.issue("alice").access_token, AccessToken)
        receipt = await one.revoke(token, confirm="fleet", timeout=10)
        assert receipt.is_confirmed
        assert other.is_revoked(token.claims)
        assert other.status().subscribed


@pytest.mark.parametrize("case", ["another authority", "no client certificate"])
async def test_who_is_not_trusted_gets_no_copy(
    authority: Authority, tls_port: int, make_settings: MakeSettings, tmp_path: Path, case: str
) -> None:
    """A man in the middle could tell an instance that nothing is revoked."""
    certificate, key = authority.issue("app")
    files = {"ssl_ca_certs": authority.certificate}
    if case == "another authority":
        stranger = Authority(tmp_path, "stranger")
        files = {"ssl_ca_certs": stranger.certificate, "ssl_certfile": certificate}
        files["ssl_keyfile"] = key
    settings = make_settings(url_of(tls_port, **files), startup_timeout=1.0)
    async with Engine(settings) as engine:
        assert engine.status().state == "starting"
        assert engine.status().last_error


async def test_a_pause_costs_no_handshake(
    authority: Authority,
    tls_server: tuple[RedisServer, int],
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """A fleet would have Redis agree upon keys all the time, and never recover."""
    server, port = tls_server
    url = trusted_url(authority, port)
    async with Engine(make_settings(url, max_staleness=30)) as engine:
        with server.client() as client:
            before = client.info("stats")["total_connections_received"]
            server.freeze()
            try:
                await eventually(lambda: (engine.status().staleness or 0) > 1.0)
            finally:
                server.thaw()
            await eventually(lambda: (engine.status().staleness or 9) < 0.2)
            assert client.info("stats")["total_connections_received"] == before
        assert engine.counts.subscriptions == 1


async def test_a_connection_that_is_lost_over_tls_is_replaced(
    authority: Authority,
    tls_server: tuple[RedisServer, int],
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """What a balancer has forgotten would be asked until the copy is stale."""
    _, port = tls_server
    with Link(LOOPBACK, port) as link:
        through = int(link.url.rpartition(":")[2].partition("/")[0])
        url = trusted_url(authority, through)
        settings = make_settings(url, max_staleness=30, redis_timeout=0.2)
        async with Engine(settings) as engine:
            link.forget()
            await eventually(lambda: (engine.status().staleness or 0) > 0.2)
            await eventually(lambda: (engine.status().staleness or 9) < 0.2)
