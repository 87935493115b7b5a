"""Passwords as SPICE encrypts them."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from console.viewonly import NotUnderstood

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303
"""The protocol's choice."""


def encrypted(key: bytes) -> bytes:
    """An empty password under a SPICE server's key: on its own socket QEMU wants the form only.

    A client's is never passed on. Besides, one in 256 of the page's client is malformed and would be refused.
    """
    try:
        found = serialization.load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotUnderstood("the guest's SPICE server has no usable key") from error
    if not isinstance(found, rsa.RSAPublicKey):
        raise NotUnderstood("the guest's SPICE server has a key that is not RSA")
    return found.encrypt(b"\0", OAEP)
