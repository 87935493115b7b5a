"""What a guest says of its machine: the parsed answer of its ``facts`` program."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class GuestFacts:
    """``words`` holds single facts (``firmware`` → ``uefi``); disks, NICs and PCI functions have their own.

    Values are strings as the guest's kernel writes them. Known words: booted_from (disk, iso
    or empty), firmware, secureboot (1 or 0, UEFI
    only), tpm (version), pcr0, product_uuid, product_name, product_version, product_serial, sys_vendor,
    bios_vendor, vmgenid, cpus, sockets, cores, cpu_model, cpu_flags, memory_installed (bytes), memory_kib.
    """

    words: dict[str, str] = field(default_factory=dict)
    disks: dict[str, dict[str, str]] = field(default_factory=dict)
    nics: dict[str, dict[str, str]] = field(default_factory=dict)
    pci: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> GuestFacts:
        """Read the lines ``facts`` printed; lines of a serial console (``fact: …``) do as well."""
        found = cls()
        tables = {"disk": found.disks, "nic": found.nics, "pci": found.pci}
        for line in text.splitlines():
            name, _, rest = line.removeprefix("fact: ").strip().partition(" ")
            if name in tables:
                key, _, pairs = rest.partition(" ")
                tables[name][key] = dict(pair.partition("=")[::2] for pair in pairs.split())
            elif name == "tpm":
                version, _, pairs = rest.partition(" ")
                found.words |= {"tpm": version, **dict(pair.partition("=")[::2] for pair in pairs.split())}
            elif name:
                found.words[name] = rest
        return found

    def nic(self, mac: str) -> dict[str, str]:
        """The card with that MAC address, with its kernel name under ``name``."""
        return _only(self.nics, "mac", mac)

    def disk(self, serial: str) -> dict[str, str]:
        """The disk with that serial number, with its kernel name under ``name``."""
        return _only(self.disks, "serial", serial)


def _only(table: dict[str, dict[str, str]], word: str, value: str) -> dict[str, str]:
    found = [{"name": name, **row} for name, row in table.items() if row[word].lower() == value.lower()]
    assert len(found) == 1, f"{word} {value}: the guest sees {table}"
    return found[0]
