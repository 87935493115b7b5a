"""What of a configuration nobody may read back: the cloud-init password.

It is hashed before it is stored (SHA-256 crypt, as ``/etc/shadow`` holds it and Proxmox writes it) and shown
as asterisks. Windows images want it as text; theirs is stored as it is, and shown as asterisks all the same.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping

MASK = "**********"
SECRETS = frozenset({"cipassword"})
_HASHED = re.compile(r"\$(1|5|6|2a|2b|2y|y)\$.+\$.+")
_SIGNS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000


def masked(mapping: Mapping[str, str]) -> dict[str, str]:
    """The configuration as a person or a program may see it."""
    return {key: MASK if key in SECRETS and text else text for key, text in mapping.items()}


def kept_secret(mapping: Mapping[str, str], before: Mapping[str, object]) -> Mapping[str, str]:
    """``mapping`` as it is stored: a password hashed, asterisks replaced by what stood there ``before``."""
    given = mapping.get("cipassword")
    if not given:
        return mapping
    found = dict(mapping)
    if given == MASK:
        given = str(before.get("cipassword") or "")
    if not given:
        del found["cipassword"]
    elif _HASHED.fullmatch(given) or mapping.get("ostype", "").startswith("w"):
        found["cipassword"] = given
    else:
        found["cipassword"] = hashed(given)
    return found


def hashed(password: str, salt: str = "") -> str:
    """``password`` as SHA-256 crypt (``$5$``), with a random salt unless one is given.

    After the public specification "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper.
    """
    salt = (salt or "".join(secrets.choice(_SIGNS) for _ in range(16)))[:16]
    word, pepper = password.encode(), salt.encode()
    other = hashlib.sha256(word + pepper + word).digest()
    mixed = hashlib.sha256(word + pepper + _stretched(other, len(word)))
    length = len(word)
    while length:
        mixed.update(other if length & 1 else word)
        length >>= 1
    digest = mixed.digest()
    p = _stretched(hashlib.sha256(word * len(word)).digest(), len(word))
    s = _stretched(hashlib.sha256(pepper * (16 + digest[0])).digest(), len(pepper))
    for number in range(_ROUNDS):
        step = hashlib.sha256(p if number & 1 else digest)
        if number % 3:
            step.update(s)
        if number % 7:
            step.update(p)
        step.update(digest if number & 1 else p)
        digest = step.digest()
    return f"$5${salt}${_spelled(digest)}"


def _stretched(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _spelled(digest: bytes) -> str:
    """The 32 bytes in the specification's order, six bits a sign."""
    text, a, b, c = "", 0, 10, 20
    for _ in range(10):
        text += _signs(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = c + 1, a + 1, b + 1
    return text + _signs(digest[31] << 8 | digest[30], 3)


def _signs(number: int, count: int) -> str:
    return "".join(_SIGNS[(number >> 6 * place) & 63] for place in range(count))
