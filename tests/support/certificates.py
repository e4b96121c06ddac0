"""Certificates of authorities that nobody else knows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Certificate:
    """PEM files; the key is PKCS#8, without a passphrase."""

    cert_file: Path
    key_file: Path


def certificate(
    folder: Path,
    name: str = "server",
    *,
    authority: Certificate | None = None,
    address: str = "127.0.0.1",
    good_for: timedelta = timedelta(days=1),
) -> Certificate:
    """For `address`, good from an hour (and `good_for`) ago, signed by `authority`. Without one it signs itself and may
    sign others: whoever trusts it trusts them.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(name)
    issuer, signer = (_named(authority.cert_file.stem), _key_of(authority)) if authority else (subject, key)
    now = datetime.now(UTC)
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1) - abs(good_for))
        .not_valid_after(now + good_for)
        # Erlang takes no certificate of a client in which this is critical.
        .add_extension(local, critical=False)
        .add_extension(x509.BasicConstraints(ca=not authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    files = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    files.cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _key_of(certificate: Certificate) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(certificate.key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
