"""Whatever value an option is given: QEMU reports exactly that, or we refused it by name.

Each round draws a machine with every slot in use and hostile text in every option, starts it once with its
guest held still, and asks QEMU for every property over QMP.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.report import CACHE, Report
from properties.values import PIECES, Draw, board

from vms.config.relations import check_config
from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, ConfigErrors
from vms.hardware.drive import Drive

VMID = 107
ROUNDS = range(16)
NOT_HERE = frozenset({"scsiblock", "snapshot", "media", "import-from", "format", "size"})
"""Pass-through of a real disk, QEMU 10's missing option, and what is about making a disk."""


def volume(lab: Lab, draw: Draw, number: int) -> str:
    """A small raw image whose name holds whatever a volume's name may hold."""
    while True:
        middle = "".join(draw.random.choices(PIECES, k=3)).replace("/", "-")
        name = f"vm-{VMID}-{middle}-{number}.raw"
        try:
            text = f"local:{VMID}/{name}"
            VMConfig.parse({"sata0": text})
        except ConfigError:
            draw.refused += 1
            continue
        path = lab.storage.root / "images" / str(VMID) / name
        if "\0" in name or path.name != name:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1 << 20))
        return text


def random_machine(lab: Lab, draw: Draw) -> dict[str, str]:
    """A configuration whose every drive and card has random options."""
    found = {"scsihw": draw.random.choice(("virtio-scsi-pci", "virtio-scsi-single")), "memory": "256"}
    slots = [*(f"scsi{n}" for n in range(0, 31, 2)), *(f"virtio{n}" for n in range(0, 16, 2))]
    slots += [*(f"sata{n}" for n in range(6)), *(f"ide{n}" for n in range(4))]
    for number, key in enumerate(slots):
        found[key] = draw.part(key, volume(lab, draw, number), NOT_HERE)
    for number in range(12):
        model = draw.random.choice(("virtio", "virtio", "e1000", "rtl8139", "vmxnet3"))
        found[f"net{number}"] = draw.part(f"net{number}", model, frozenset({"bridge", "model", "queues"}))
    names = [key for key in found if key[-1].isdigit()]
    found["boot"] = "order=" + ";".join(draw.random.sample(names, 10))
    uuid = f"uuid={draw.random.getrandbits(32):08x}-0000-4000-8000-00000000000a"
    found["smbios1"] = draw.part("smbios1", uuid, frozenset({"uuid"}))
    found["rng0"] = draw.part("rng0", "/dev/urandom", frozenset({"source"}))
    return found


def without_refused(lab: Lab, mapping: dict[str, str], draw: Draw) -> dict[str, str]:
    """The machine without the parts that a start refuses by name."""
    for _ in range(len(mapping) + 1):
        keys = refused_keys(lab, mapping)
        if not keys:
            return mapping
        assert keys & mapping.keys(), keys
        draw.refused += len(keys)
        mapping = {key: text for key, text in mapping.items() if key not in keys}
        if mapping.get("boot", "").startswith("order="):
            kept = [key for key in mapping["boot"].removeprefix("order=").split(";") if key in mapping]
            mapping["boot"] = f"order={';'.join(kept)}"
    raise AssertionError("everything was refused")


def refused_keys(lab: Lab, mapping: dict[str, str]) -> set[str]:
    """What the doors before a launch name: the values, the rules between them, the node's rules."""
    try:
        check_config(mapping)
        config = VMConfig.parse(mapping)
        lab.argv(VMID, mapping)
    except ConfigErrors as errors:
        return {error.key for error in errors}
    except ConfigError as error:
        return {error.key}
    blocked = [found for found in findings(config, lab.facts) if found.severity == "block"]
    return {next(key for key in found.keys if key in mapping) for found in blocked}


@pytest.mark.parametrize("seed", ROUNDS)
async def test_what_was_accepted_is_what_qemu_has(lab: Lab, seed: int) -> None:
    draw = Draw(seed)
    mapping = without_refused(lab, random_machine(lab, draw), draw)
    assert draw.refused > 50
    assert len(mapping) > 30
    guest = await lab.start(VMID, mapping, ["-S"])
    await Truth(guest, VMConfig.parse(mapping)).check()


@pytest.mark.parametrize("seed", range(10))
async def test_a_board_of_random_options_is_the_one_asked_for(lab: Lab, seed: int) -> None:
    draw = Draw(1000 + seed)
    mapping = without_refused(lab, board(draw), draw)
    guest = await lab.start(VMID, mapping, ["-S"])
    config = VMConfig.parse(mapping)
    await Report(guest, config, lab.facts).check()
    name = await guest.monitor.execute("query-name")
    assert name == {"name": mapping.get("name", f"vm{VMID}")}


class Truth:
    """One started machine and what its configuration asked for."""

    def __init__(self, guest: Guest, config: VMConfig) -> None:
        self.ask, self.config = guest.monitor.execute, config
        self.nodes: dict[str, Any] = {}

    async def check(self) -> None:
        """Compare every option of every part."""
        self.nodes = {
            node["node-name"]: node for node in await self.ask("query-named-block-nodes", {"flat": True})
        }
        order = self.config.get("boot").devices
        for key, _, drive in self.config.drives():
            await self.drive(key, drive)
        for key, _, net in self.config.slots("net"):
            wanted = {"mac": net.macaddr, "host_mtu": net.mtu if net.mtu and net.model == "virtio" else None}
            if net.mtu == 1:
                wanted["host_mtu"] = None
            await self.device(key, wanted)
        for place, key in enumerate(order):
            await self.device(key, {"bootindex": 100 + place})
        uuid = self.config.get("smbios1").uuid
        assert (await self.ask("query-uuid"))["UUID"] == uuid
        rng = self.config.get("rng0")
        if rng is not None and rng.value("max_bytes"):
            asked = {"max-bytes": rng.value("max_bytes"), "period": rng.value("period")}
            await self.device("rng0-device", asked)

    async def device(self, name: str, wanted: dict[str, Any]) -> None:
        for prop, asked in wanted.items():
            if asked is None:
                continue
            found = await self.ask("qom-get", {"path": f"/machine/peripheral/{name}", "property": prop})
            same = str(found).lower() == str(asked).lower() if prop == "mac" else found == asked
            assert same, f"{name}: {prop} is {found!r}, asked for {asked!r}"

    async def drive(self, key: str, drive: Drive) -> None:
        """Identity, behaviour on errors, cache, zeroes, limits and the file itself."""
        decoded = {"serial": drive.serial, "model": getattr(drive, "model", None)}
        wanted: dict[str, Any] = {name: unquote(text) for name, text in decoded.items() if text}
        wanted |= {"vendor": getattr(drive, "vendor", None), "product": getattr(drive, "product", None)}
        wwn = getattr(drive, "wwn", None)
        wanted |= {"wwn": int(wwn, 16) if wwn else None, "rerror": drive.rerror, "werror": drive.werror}
        wanted["rotation_rate"] = 1 if getattr(drive, "ssd", None) else None
        direct, no_flush, write_cache = CACHE[drive.cache or "none"]
        wanted["write-cache"] = "on" if write_cache else "off"
        await self.device(key, wanted)
        top = self.nodes[f"drive-{key}"]
        read_only = bool(getattr(drive, "read_only", None))
        assert top["ro"] == read_only, f"{key}: ro"
        zeroes = "unmap" if drive.discard == "on" else "on"
        assert top["detect_zeroes"] == ("off" if drive.detect_zeroes is False else zeroes), f"{key}: zeroes"
        name = drive.file.partition("/")[2]
        files = [n for n in self.nodes.values() if n["drv"] == "file" and Path(n["file"]).name == name]
        assert len(files) == 1, f"{key}: {name!r}"
        assert (files[0]["cache"]["direct"], files[0]["cache"]["no-flush"]) == (direct, no_flush), key
        path = f"/objects/throttle-drive-{key}"
        limits = await self.ask("qom-get", {"path": path, "property": "limits"})
        for unit, word, factor in (("mbps", "bps", 1 << 20), ("iops", "iops", 1)):
            for end, name in (("", "total"), ("_rd", "read"), ("_wr", "write")):
                base, burst = getattr(drive, unit + end), getattr(drive, f"{unit}{end}_max")
                length = getattr(drive, f"{word}{end}_max_length")
                assert limits[f"{word}-{name}"] == int((base or 0) * factor), f"{key}: {unit}{end}"
                if burst:
                    assert limits[f"{word}-{name}-max"] == int(burst * factor), f"{key}: {unit}{end}_max"
                assert limits[f"{word}-{name}-max-length"] == (length or 1), f"{key}: {word}{end}_max_length"
