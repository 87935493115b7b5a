"""Texts of somebody's own for cloud-init: what they may be called and whether cloud-init could read them.

Pure. A remark says what a reader in the guest would say, by line; one that blocks keeps the text out.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping

from vms.config.cloudkeys import EXPECTED, KNOWN, RENAMED
from vms.config.seeds import ROLES, Role
from vms.config.yamlread import Document, Remark, read
from vms.errors import ConfigError

LIMIT = 1 << 20
"""Bytes of one text, as in Proxmox."""
NAME_LENGTH = 120
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
HEADERS: Mapping[str, str] = {
    "#cloud-config-archive": "archive",
    "#cloud-config-jsonp": "other",
    "#cloud-config": "config",
    "#include-once": "other",
    "#include": "other",
    "#part-handler": "other",
    "#cloud-boothook": "other",
    "#upstart-job": "other",
    "#!": "other",
}
"""First line → how the rest is looked at. The longer beginnings stand first."""
_HEADER_HINT = "Begin with '#cloud-config' for settings or with '#!/bin/sh' for a script."


def is_name(name: str) -> bool:
    """Whether a text may be called so: plain ASCII, no folder, no hidden file, at most 120 characters."""
    return len(name) <= NAME_LENGTH and _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """``name``, if a text may be called so. Raises :class:`ConfigError`."""
    if not is_name(name):
        raise ConfigError(
            "name", f"'{name[:60]}' cannot be the name of a snippet",
            hint=f"Letters, digits and . _ + - only, a letter or digit first, at most {NAME_LENGTH}.",
        )  # fmt: skip
    return name


def split(volid: str) -> tuple[str, str]:
    """``local:snippets/user.yaml`` → ``("local", "user.yaml")``. Raises :class:`ConfigError`."""
    storage, _, rest = volid.partition(":")
    folder, slash, name = rest.partition("/")
    if not storage or folder != "snippets" or not slash or not is_name(name):
        raise ConfigError(
            "cicustom", f"'{volid[:80]}' is no snippet", hint="Write STORAGE:snippets/NAME."
        )  # fmt: skip
    return storage, name


def decode(data: bytes) -> str:
    """A text as it is kept: UTF-8, lines ended by a line feed. Raises :class:`ConfigError`."""
    if len(data) > LIMIT:
        raise ConfigError("text", f"has {len(data)} bytes; a snippet has at most {LIMIT}")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("text", f"line {line} is no UTF-8 text") from None


def fingerprint(text: str) -> str:
    """SHA-256 of the text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def refused(remarks: list[Remark]) -> ConfigError | None:
    """The error that keeps a text out, if any remark does."""
    for remark in remarks:
        if remark.severity == "block":
            where = f"line {remark.line}: " if remark.line else ""
            return ConfigError("text", f"{where}{remark.text}")
    return None


def check(role: Role, text: str) -> list[Remark]:
    """Everything there is to say about ``text`` as that part of a seed, in the order of its lines."""
    if role not in ROLES:
        raise ValueError(f"'{role}' is no part of a seed")
    found = list(_shape(text))
    if not any(remark.severity == "block" for remark in found):
        reader = {"network": _network, "meta": _meta}.get(role, _handled)
        found += reader(text)
    return sorted(found, key=lambda remark: remark.line)


def _shape(text: str) -> Iterator[Remark]:
    size = len(text.encode(errors="surrogatepass"))
    if size > LIMIT:
        yield Remark("block", f"it has {size} bytes; at most {LIMIT} are possible")
        return
    if not text.strip():
        yield Remark("block", "it is empty")
        return
    wrong = _CONTROL.search(text) or re.search(r"[\ud800-\udfff]", text)
    if wrong:
        yield Remark("block", "it holds a control character, remove it", _line_at(text, wrong.start()))
    elif not text.endswith("\n"):
        yield Remark("info", "its last line has no line feed; cloud-init does not mind")


def _line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


# ---- the parts


def _handled(text: str) -> Iterator[Remark]:
    """User and vendor data: the first line says who reads the rest."""
    first, _, rest = text.partition("\n")
    if first.strip().lower() in ("## template: jinja", "##template: jinja"):
        yield Remark("info", "a template: it is filled in by the guest, so the rest is not looked at", 1)
        first = rest.partition("\n")[0]
        if not _handler(first):
            yield Remark(
                "block",
                f"after '## template: jinja' comes a first line that says what this is. {_HEADER_HINT}",
                2,
            )
        return
    if re.match(r"(Content-Type|MIME-Version|From ):?", text, re.IGNORECASE):
        yield Remark("info", "several parts in one message (MIME); they are not looked at", 1)
        return
    kind = _handler(first)
    if not kind:
        yield Remark("block", f"cloud-init ignores a text that begins like this. {_HEADER_HINT}", 1)
    elif kind == "config":
        document, remarks = read(text)
        yield from remarks
        if document is not None:
            yield from _cloud_config(document)
    elif kind == "archive":
        document, remarks = read(text)
        yield from remarks
        if document is not None and not isinstance(document.value, list):
            yield Remark("block", "an archive is a list of parts", 1)


def _handler(first: str) -> str:
    line = first.rstrip()
    for header, kind in HEADERS.items():
        if line == header or (header == "#!" and line.startswith("#!")):
            return kind
        if line.startswith(f"{header} "):
            return kind
    return ""


def _network(text: str) -> Iterator[Remark]:
    if re.match(r"\s*(#.*\n|\s*\n)*\s*(auto|iface|allow-hotplug)\s", text):
        yield Remark("info", "in the words of Debian's interfaces: for a configdrive2 seed only", 1)
        return
    document, remarks = read(text)
    yield from remarks
    if document is None:
        return
    found = document.value
    if isinstance(found, dict) and set(found) == {"network"}:
        found = found["network"]
    if not isinstance(found, dict):
        yield Remark(
            "block", "network settings are a mapping that begins with 'version: 1' or 'version: 2'", 1
        )
        return
    version = found.get("version")
    if version not in (1, 2):
        yield Remark("block", "'version' must be 1 or 2", document.line("version") or 1)
    elif version == 1 and not isinstance(found.get("config"), list):
        yield Remark(
            "block", "version 1 has its entries in a list called 'config'", document.line("config") or 1
        )
    elif version == 2:
        devices = {"ethernets", "bonds", "bridges", "vlans", "wifis", "tunnels", "vrfs", "dummy-devices"}
        if not devices & set(found):
            yield Remark(
                "warn", "no card is named: version 2 has 'ethernets', 'bonds', 'bridges' or 'vlans'", 1
            )


def _meta(text: str) -> Iterator[Remark]:
    document, remarks = read(text)
    yield from remarks
    if document is None:
        return
    if not isinstance(document.value, dict):
        yield Remark("block", "metadata is a mapping, such as 'instance-id: web-1'", 1)
    elif not {"instance-id", "instance_id", "uuid"} & set(document.value):
        text = "without 'instance-id' (or 'uuid' on a config drive) cloud-init does not know a new instance"
        yield Remark("warn", text, 1)


# ---- what cloud-init knows


def _cloud_config(document: Document) -> Iterator[Remark]:
    """Hints: unknown keys, values of another kind than their module wants, passwords in the open."""
    found = document.value
    if found is None:
        yield Remark("warn", "nothing is set", 1)
        return
    if not isinstance(found, dict):
        yield Remark("block", "settings are a mapping of keys to values", 2)
        return
    for key, value in found.items():
        line = document.line(str(key))
        if key in RENAMED:
            yield Remark("warn", f"'{key}' is called '{RENAMED[key]}' in newer versions", line)
        elif key not in KNOWN:
            near = difflib.get_close_matches(str(key), KNOWN, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            yield Remark("warn", f"no module of cloud-init reads '{str(key)[:60]}'{hint}", line)
        elif key in EXPECTED and not isinstance(value, EXPECTED[key][0]):
            yield Remark("warn", f"'{key}' should be {EXPECTED[key][1]}", line)
    password = found.get("password")
    if isinstance(password, str) and not password.startswith("$"):
        yield Remark(
            "warn", "a password in the open; write its hash (mkpasswd -m sha-256)", document.line("password")
        )
    for entry in found.get("write_files") or () if isinstance(found.get("write_files"), list) else ():
        if not isinstance(entry, dict) or "path" not in entry:
            yield Remark("warn", "an entry of 'write_files' has no 'path'", document.line("write_files"))
