"""Certificates and node keys: an authority of the federation's own, its server, its sites."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import make_folder, write_bytes

CURVE = ec.SECP384R1()


def write_certificates(folder: Path, hosts: Sequence[str], days: int = 365) -> None:
    """Write ``ca.crt``, ``ca.key``, ``server.crt`` and ``server.key``, as PEM; keys for the owner alone.

    Args:
        folder: made if it is not there.
        hosts: names and IP addresses that sites may reach the server by.
        days: until both end.

    Raises:
        FedLeaseError: they cannot be written, or are there already.
    """
    if (folder / "server.key").is_file():  # written last: what a kill left half done gives way
        raise FedLeaseError(f"{folder} holds certificates already, which sites may trust: choose another")
    make_folder(folder)
    now = datetime.now(UTC)
    authority_key, server_key = ec.generate_private_key(CURVE), ec.generate_private_key(CURVE)
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedlease authority")])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])

    def begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=days))
        )

    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    above = begun(authority, authority_key).add_extension(x509.BasicConstraints(True, 0), critical=True)
    above = above.add_extension(_usage(signs=True), critical=True).add_extension(identifier, critical=False)
    below = begun(server, server_key).add_extension(x509.BasicConstraints(False, None), critical=True)
    below = below.add_extension(_usage(signs=False), critical=True).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    )
    below = below.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    for name, key, made in (("ca", authority_key, above), ("server", server_key, below)):
        certificate = made.sign(authority_key, hashes.SHA384())
        write_bytes(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(folder / f"{name}.key", key, serialization.PrivateFormat.PKCS8)


def write_site_key(path: Path) -> Path:
    """Write a site's private key, and its public half beside it with ``.pub``; return the latter's path.

    Raises:
        FedLeaseError: they cannot be written.
    """
    make_folder(path.parent)
    key = ec.generate_private_key(CURVE)
    _write_key(path, key, serialization.PrivateFormat.OpenSSH)
    public = path.with_name(f"{path.name}.pub")
    write_bytes(
        public,
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
    )
    return public


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> None:
    before = os.umask(0o077)
    try:
        write_bytes(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    finally:
        os.umask(before)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
