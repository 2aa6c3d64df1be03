"""TLS on the public side, the REST API and towards targets."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import signal
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.system.dataplane_program import TOKEN, Program, free_port, program, target, until


class Authority:
    """Signs certificates for localhost, and writes everything into a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(self._key, name, None)
        self.file = str(directory / f"{name}.ca")
        Path(self.file).write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, key: ec.EllipticCurvePrivateKey, name: str, issuer: x509.Certificate | None) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
        )
        if issuer is None:
            # With the identifiers above, what Python 3.13 wants of an authority.
            usage = dict.fromkeys(
                (
                    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                    "encipher_only", "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(
                x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True
            )
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: str, passphrase: bytes | None = None) -> tuple[str, str]:
        """Files with a new key and its certificate; an earlier pair of the same name is replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            encryption = serialization.BestAvailableEncryption(passphrase)
        key_file, certificate_file = self.directory / f"{name}.key", self.directory / f"{name}.crt"
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        certificate = self._sign(key, name, self._certificate)
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(key_file), str(certificate_file)

    def trusting(self, pair: tuple[str, str] | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority, with a certificate of its own if given."""
        context = ssl.create_default_context(cafile=self.file)
        if pair:
            context.load_cert_chain(pair[1], pair[0])
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


_GET = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def pair_options(side: str, pair: tuple[str, str]) -> list[str]:
    return [f"--{side}ssl-key", pair[0], f"--{side}ssl-cert", pair[1]]


async def test_public_side(authority: Authority, tmp_path: Path) -> None:
    async with target() as place, program(tmp_path, *pair_options("", authority.issue("public"))) as proxy:
        await proxy.route("/", place.url)
        answer = await proxy.send(_GET, tls=authority.trusting())
        assert answer.status == 200
        assert place.header("x-forwarded-proto") == ["https"]
        assert place.header("x-forwarded-port") == ["443"]


async def test_large_bodies_over_tls(authority: Authority, tmp_path: Path) -> None:
    async with target() as place, program(tmp_path, *pair_options("", authority.issue("public"))) as proxy:
        await proxy.route("/", place.url)
        body = bytes(range(256)) * 20000
        head = b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await proxy.send(head + body, tls=authority.trusting())).body == body


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_new_certificate_is_used_after_sighup(authority: Authority, tmp_path: Path, workers: str) -> None:
    """Connections that exist stay; a bad file changes nothing."""
    pair = authority.issue("public")

    async def serial(proxy: Program) -> str:
        async with proxy.connection(tls=authority.trusting()) as (_, writer):
            return str(writer.get_extra_info("peercert")["serialNumber"])

    async with program(tmp_path, *pair_options("", pair), "--workers", workers) as proxy:
        before = await serial(proxy)
        async with proxy.connection(tls=authority.trusting()) as (reader, writer):
            authority.issue("public")
            proxy.process.send_signal(signal.SIGHUP)
            await until(lambda: "Certificates read again" in proxy.log.read_text(), "they were read")
            after = await serial(proxy)
            assert after != before
            assert {await serial(proxy) for _ in range(10)} == {after}
            writer.write(b"GET /_chp_healthz HTTP/1.1\r\nHost: p\r\n\r\n")
            assert b"200" in await reader.readline()
        Path(pair[1]).write_text("nonsense")
        proxy.process.send_signal(signal.SIGHUP)
        await until(lambda: "stay as they were" in proxy.log.read_text(), "the mistake was noticed")
        assert await serial(proxy) == after


@pytest.mark.parametrize(("given", "serves"), [("open sesame", True), ("wrong", False), (None, False)])
async def test_key_with_a_passphrase(authority: Authority, tmp_path: Path, given: str | None, serves: bool) -> None:
    """It comes from the environment; without it the program ends with a sentence and asks nobody."""
    options = pair_options("", authority.issue("public", b"open sesame"))
    secret = {} if given is None else {"CONFIGPROXY_SSL_KEY_PASSPHRASE": given}
    if serves:
        async with program(tmp_path, *options, environment=secret) as proxy:
            assert (await proxy.send(_GET, tls=authority.trusting())).status == 404
    else:
        with pytest.raises(AssertionError, match="Cannot use the TLS files"):
            async with program(tmp_path, *options, environment=secret):
                pass


async def test_client_certificates_for_the_api(authority: Authority, tmp_path: Path) -> None:
    options = [
        *pair_options("api-", authority.issue("api")),
        *("--api-ssl-ca", authority.file, "--api-ssl-request-cert", "--api-ssl-reject-unauthorized"),
    ]
    request = f"GET /api/routes HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {TOKEN}\r\n\r\n"
    async with program(tmp_path, *options) as proxy:
        known = authority.trusting(authority.issue("hub"))
        assert (await proxy.send(request, port=proxy.api_port, tls=known)).status == 200
        with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
            await proxy.send(request, port=proxy.api_port, tls=authority.trusting())


async def test_targets_are_verified_and_see_our_certificate(authority: Authority, tmp_path: Path) -> None:
    def serving(pair: tuple[str, str]) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
        context.load_cert_chain(pair[1], pair[0])
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    stranger = Authority(tmp_path, "stranger")
    options = [*pair_options("client-", authority.issue("client")), "--client-ssl-ca", authority.file]
    async with (
        target(ssl=serving(authority.issue("target"))) as known,
        target(ssl=serving(stranger.issue("unknown"))) as unknown,
        program(tmp_path, *options) as proxy,
    ):
        await proxy.route("/known", known.url.replace("http", "https"))
        await proxy.route("/unknown", unknown.url.replace("http", "https"))
        assert (await proxy.get("/known")).status == 200
        assert (await proxy.get("/unknown")).status == 503
        assert unknown.requests == []
    async with (
        target(ssl=serving(stranger.issue("unknown"))) as unknown,
        program(tmp_path, *options, "--insecure") as proxy,
    ):
        await proxy.route("/unknown", unknown.url.replace("http", "https"))
        assert (await proxy.get("/unknown")).status == 200


@pytest.mark.parametrize(
    ("option", "host", "location"),
    [
        ([], "a.example:80", "https://a.example:{port}/x?y"),
        (["--redirect-to", "443"], "a.example", "https://a.example:443/x?y"),
        ([], "[::1]:8", "https://[::1]:{port}/x?y"),
    ],
)
async def test_plain_port_leads_to_https(
    authority: Authority, tmp_path: Path, option: list[str], host: str, location: str
) -> None:
    port = free_port()
    options = [*pair_options("", authority.issue("public")), "--redirect-port", str(port), *option]
    async with program(tmp_path, *options) as proxy:
        answer = await proxy.send(f"GET /x?y HTTP/1.1\r\nHost: {host}\r\n\r\n", port=port)
        assert (answer.status, answer["location"]) == (301, location.format(port=proxy.port))
        assert (await proxy.send("GET / HTTP/1.0\r\n\r\n", port=port)).status == 400
