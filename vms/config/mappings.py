"""What of a node the administrator gave a name: the text file that does, and what is said of a wrong one.

::

    folder: documents
        path /srv/documents
    pci: gpu
        device 0000:01:00
    usb: stick
        device 1234:abcd

A machine asks for them with ``virtiofs0: documents``, ``hostpci0: mapping=gpu`` and ``usb0: mapping=stick``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vms.errors import ConfigError
from vms.hardware.hostpci import HostPci
from vms.hardware.usb import Usb
from vms.schema.option import shown

_HEAD = re.compile(r"(folder|pci|usb):[ \t]*([A-Za-z][A-Za-z0-9_-]{1,39})[ \t]*")
_LINE = re.compile(r"[ \t]+(path|device)[ \t]+(\S.*?)[ \t]*")


@dataclass
class Mappings:
    """Name → what is behind it on this node, by kind; and what was left out of the file."""

    folder: dict[str, str] = field(default_factory=dict)
    pci: dict[str, str] = field(default_factory=dict)
    usb: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_facts(self) -> dict[str, dict[str, str]]:
        """As ``NodeFacts`` knows them."""
        return {"folder_mappings": self.folder, "pci_mappings": self.pci, "usb_mappings": self.usb}


def parse(text: str) -> Mappings:
    """Read the file's text. Never raises; what cannot be used is in ``warnings``."""
    found, kind, name = Mappings(), "", ""
    for number, line in enumerate(text.splitlines(), 1):
        head, words = _HEAD.fullmatch(line), _LINE.fullmatch(line)
        if head:
            kind, name = head[1], head[2]
        elif words and kind and words[1] == ("path" if kind == "folder" else "device"):
            try:
                getattr(found, kind)[name] = _checked(kind, words[2])
            except ConfigError as error:
                found.warnings.append(f"line {number}: {error}")
        elif line.strip() and not line.lstrip().startswith("#"):
            wanted = "'folder:', 'pci:' or 'usb:' and a name, then an indented 'path' or 'device'"
            found.warnings.append(f"line {number} is none of {wanted}")
            kind = kind if line[0].isspace() else ""
    return found


def _checked(kind: str, text: str) -> str:
    if kind == "folder":
        if not text.startswith("/") or ".." in text.split("/") or "," in text:
            raise ConfigError("path", f"'{shown(text)}' is no full path without '..' and commas")
        return text
    part: type[HostPci | Usb] = HostPci if kind == "pci" else Usb
    part.parse(f"host={text}", "device")
    return text
