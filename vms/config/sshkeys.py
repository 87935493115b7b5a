"""Public keys as OpenSSH's ``authorized_keys`` holds them: read, checked, told apart."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from vms.errors import ConfigError
from vms.schema.option import shown

_LINE = re.compile(
    r"(?:(?P<options>\S.*?) )?(?P<kind>(?:ssh|ecdsa|sk)-[a-z0-9@.-]+) +(?P<blob>[A-Za-z0-9+/]{20,}={0,3})"
    r"(?: +(?P<comment>.*))?"
)
_FORM = "write it as 'ssh-ed25519 AAAA… name'"


@dataclass(frozen=True)
class Key:
    """One key. ``fingerprint`` is OpenSSH's (``SHA256:…``); ``comment`` mostly says whose it is."""

    text: str
    kind: str
    fingerprint: str
    comment: str = ""
    options: str = ""


def lines_of(encoded: str) -> list[str]:
    """The lines of the option ``sshkeys``, which is URL-encoded; blank ones dropped."""
    lines = unquote(encoded).splitlines()
    return [line.strip() for line in lines if line.strip()]


def encode(text: str) -> str:
    """Lines as the option keeps them: URL-encoded, parted by a line feed, blank ones dropped."""
    lines = [line.strip() for line in text.splitlines()]
    return quote("\n".join(line for line in lines if line), safe="")


def parse(line: str) -> Key:
    """Read one line. Raises ``ValueError`` with a sentence."""
    if line.startswith(("-----BEGIN", "PuTTY-User-Key")):
        raise ValueError("is a private key, keep it to yourself; paste the line of the .pub file")
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"is no SSH public key; {_FORM}")
    try:
        blob = base64.b64decode(match["blob"], validate=True)
    except binascii.Error:
        raise ValueError(f"is cut off or changed in its middle part; {_FORM}") from None
    length = int.from_bytes(blob[:4], "big")
    kind = blob[4 : 4 + length].decode(errors="replace")
    if kind != match["kind"]:
        raise ValueError(f"says it is {match['kind']} but holds {shown(kind) or 'nothing'}; {_FORM}")
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return Key(line, kind, f"SHA256:{digest}", (match["comment"] or "").strip(), match["options"] or "")


def check(encoded: str) -> list[Key]:
    """Every key of the option. Raises :class:`ConfigError` naming the first line that is none."""
    found = []
    for number, line in enumerate(lines_of(encoded), 1):
        try:
            found.append(parse(line))
        except ValueError as error:
            raise ConfigError("sshkeys", f"line {number} {error}") from None
    return found


def known(encoded: str) -> list[Key]:
    """Every line of the option, one that is no key as a key of no kind."""
    found = []
    for line in lines_of(encoded):
        try:
            found.append(parse(line))
        except ValueError:
            found.append(Key(line, "", ""))
    return found
