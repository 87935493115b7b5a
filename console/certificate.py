"""The certificate of the SPICE port: an authority of this installation's own signs one for this node.

Viewer files carry the authority's certificate, so a viewer trusts this node and nothing else, and nobody has
to buy or accept anything. Keys lie in ``<home>/spice``, mode 0600, where QEMU's user cannot read them.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from console.keyfiles import ORGANISATION, Files

AUTHORITY_LIFE = timedelta(days=3650)
LIFE = timedelta(days=730)
RENEW = timedelta(days=60)
"""A certificate with less time left than this is made anew when the console role starts."""
BACKDATED = timedelta(hours=1)
"""For a viewer whose clock is behind."""


def ensure(home: Path, node: str) -> Files:
    """Make what is missing, foreign or about to expire; else change nothing. Raises ``OSError``."""
    files = Files(home)
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, authority_key = _read(files.authority, files.authority_key)
    if authority is None or authority_key is None:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(node, authority_key)
        _write(files.authority_key, _pem(authority_key))
        _write(files.authority, authority.public_bytes(serialization.Encoding.PEM))
    found, key = _read(files.certificate, files.key)
    if found is None or key is None or not _signed(found, authority, node):
        key = ec.generate_private_key(ec.SECP256R1())
        _write(files.key, _pem(key))
        signed = _certificate(node, key, authority, authority_key)
        _write(files.certificate, signed.public_bytes(serialization.Encoding.PEM))
    return files


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _authority(node: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name(f"SPICE of {node}"[:64])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = _builder(name, name, key, AUTHORITY_LIFE)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    built = built.add_extension(own, critical=False)
    return built.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _certificate(
    node: str,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    built = _builder(_name(node), authority.subject, key, LIFE)
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(node)]), critical=False)
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    built = built.add_extension(theirs, critical=False)
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return built.add_extension(purpose, critical=False).sign(authority_key, hashes.SHA256())


def _read(path: Path, key_path: Path) -> tuple[x509.Certificate | None, ec.EllipticCurvePrivateKey | None]:
    """A certificate with its key; (None, None) when they do not belong together, or not for long enough."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return None, None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or found.public_key() != key.public_key():
        return None, None
    if found.not_valid_after_utc - datetime.now(UTC) < RENEW:
        return None, None
    return found, key


def _signed(found: x509.Certificate, authority: x509.Certificate, node: str) -> bool:
    """Whether ``authority`` signed it, for this node."""
    try:
        found.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return found.subject == _name(node)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, 0600 from its first byte on."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
