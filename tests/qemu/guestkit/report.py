"""What a started QEMU reports back over QMP, held against what its configuration asked for.

Every check reads the configuration itself, never the command line made from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from guestkit.guest import Guest
from vms.config.vmconfig import VMConfig
from vms.errors import MonitorError
from vms.hardware.context import NodeFacts
from vms.host.command import run

CACHE = {  # direct, no-flush, write-cache of the device
    "none": (True, False, True),
    "directsync": (True, False, False),
    "writethrough": (False, False, False),
    "writeback": (False, False, True),
    "unsafe": (False, True, True),
}
PATTERN = 1 << 20
"""Bytes written and discarded to see whether a discard reaches the image."""


def leaf(name: str) -> str:
    """The file behind a node: QEMU names a filter by a JSON description of all below it."""
    if not name.startswith("json:"):
        return name
    node = json.loads(name.removeprefix("json:"))
    while isinstance(node.get("file"), dict):
        node = node["file"]
    return str(node.get("filename", ""))


class Report:
    """One started guest and its configuration; :meth:`check` compares everything there is."""

    def __init__(self, guest: Guest, config: VMConfig, facts: NodeFacts) -> None:
        self.ask = guest.monitor.execute
        self.monitor = guest.monitor
        self.config = config
        self.facts = facts
        self.template = bool(config.value("template"))
        """A template is started for a backup only: one plain CPU, little memory, nothing written."""

    async def check(self) -> None:
        """Fail with the configuration key whose wish QEMU does not report."""
        await self.machine()
        await self.processor()
        await self.memory()
        await self.identity()
        for key, drive in self.drives():
            await self.drive(key, drive)
        if self.template:
            return
        for key, _index, net in self.config.slots("net"):
            await self.card(key, net)
        await self.firmware()
        await self.boot_order()

    async def device(self, path: str, name: str) -> Any:
        """A property of a device by its id."""
        return await self.ask("qom-get", {"path": f"/machine/peripheral/{path}", "property": name})

    # ---- board, processor, memory

    async def machine(self) -> None:
        """The board is the one named: exactly when versioned, of its family when not."""
        found = str(await self.ask("qom-get", {"path": "/machine", "property": "type"}))
        machine = self.config.get("machine")
        wanted = (machine.type if machine else None) or "pc"
        if wanted in ("pc", "q35"):
            assert found.startswith({"pc": "pc-i440fx-", "q35": "pc-q35-"}[wanted]), f"machine: {found}"
        else:
            assert found == f"{wanted.split('+')[0].removesuffix('.pxe')}-machine", f"machine: {found}"

    async def processor(self) -> None:
        """Model and topology; what is not plugged in yet is there to be plugged."""
        value = (lambda key: None) if self.template else self.config.value
        sockets, cores = int(value("sockets") or value("smp") or 1), int(value("cores") or 1)
        plugged = int(value("vcpus") or sockets * cores)
        cpus = await self.ask("query-cpus-fast")
        assert len(cpus) == plugged, "vcpus"
        slots = await self.ask("query-hotpluggable-cpus")
        assert len({slot["props"]["socket-id"] for slot in slots}) == sockets, "sockets"
        per_socket = {(slot["props"]["socket-id"], slot["props"]["core-id"]) for slot in slots}
        assert len(per_socket) == sockets * cores, "cores"
        assert slots[0]["type"] == f"{self.emulated()}-x86_64-cpu", f"cpu: {slots[0]['type']}"

    def emulated(self) -> str:
        """The model that stands for the one asked for where there is no KVM."""
        cpu = self.config.get("cpu")
        asked = (cpu.cputype if cpu else None) or "qemu64"
        if self.template or (asked.startswith("x86-64-v") and asked != "x86-64-v4"):
            return "qemu64"
        return asked if asked in self.facts.cpu_models else "max"

    async def memory(self) -> None:
        """Size, and whether there is a balloon."""
        part = self.config.get("memory")
        size = (part.current if part and not self.template else None) or 512
        summary = await self.ask("query-memory-size-summary")
        total = summary["base-memory"] + summary.get("plugged-memory", 0)
        assert total == size << 20, f"memory: {total >> 20} MiB"
        balloon = await self.monitor.query_balloon()
        assert (balloon is None) == (self.config.value("balloon") == 0), f"balloon: {balloon}"

    async def identity(self) -> None:
        """SMBIOS UUID and generation id."""
        smbios = self.config.get("smbios1")
        if smbios and smbios.uuid and not self.template:
            assert (await self.ask("query-uuid"))["UUID"].lower() == smbios.uuid.lower(), "smbios1"
        generation = self.config.get("vmgenid")
        if generation and not self.template and generation not in ("0", "1"):
            assert (await self.ask("query-vm-generation-id"))["guid"].lower() == generation.lower(), "vmgenid"

    # ---- drives

    def drives(self) -> Iterator[tuple[str, Any]]:
        """``(key, drive)`` of every disk and CD drive."""
        for key, _index, drive in self.config.drives():
            yield key, drive

    async def drive(self, key: str, drive: Any) -> None:
        """Medium, cache, read-only, zero detection, serial, and a discard that arrives or does not."""
        entry = next(
            (one for one in await self.ask("query-block") if key in one.get("qdev", "").split("/")), None
        )
        assert entry is not None, f"{key}: QEMU reports no such drive"
        if not self.template:  # there disks on IDE and SATA become CD drives: those can be read-only
            assert entry["removable"] == drive.is_cdrom, f"{key}: removable"
        if drive.is_empty:
            assert "inserted" not in entry, f"{key}: a medium nobody put in"
            return
        inserted = entry["inserted"]
        image = Path(leaf(inserted["image"]["filename"]))
        assert image.name == Path(drive.file.partition(":")[2]).name, f"{key}: {image}"
        layers = [
            node
            for node in await self.ask("query-named-block-nodes")
            if leaf(node["file"]) == str(image) and node["drv"] != "throttle"
        ]
        assert {"file"} < {node["drv"] for node in layers}, f"{key}: {layers}"
        read_only = drive.is_cdrom or self.template or bool(getattr(drive, "read_only", None))
        assert inserted["ro"] == read_only, f"{key}: read-only"
        self.cache(key, drive, inserted, layers)
        self.zeroes(key, drive, inserted, layers)
        if drive.serial:
            assert await self.device(key, "serial") == unquote(drive.serial), f"{key}: serial"
        if not read_only and not drive.snapshot:
            form = next(node["drv"] for node in layers if node["drv"] != "file")
            await self.discard(key, entry["qdev"], form, image, arrives=drive.discard == "on")

    def cache(self, key: str, drive: Any, inserted: Any, layers: list[Any]) -> None:
        """The three flags a cache mode stands for: two on every layer below, one of the device."""
        if drive.is_cdrom and not drive.cache:
            return
        direct, no_flush, write_cache = CACHE[drive.cache or "none"]
        for node in layers:
            seen = (node["cache"]["direct"], node["cache"]["no-flush"])
            assert seen == (direct, no_flush), f"{key}: cache of {node['drv']} {seen}"
        if not inserted["ro"]:
            assert inserted["cache"]["writeback"] == write_cache, f"{key}: write cache"

    def zeroes(self, key: str, drive: Any, inserted: Any, layers: list[Any]) -> None:
        """Zeroes are looked for unless it was switched off, and unmapped where discards are passed on."""
        seen = {node["detect_zeroes"] for node in (inserted, *layers)}
        if self.template:
            return
        off = drive.detect_zeroes is False or drive.is_cdrom
        wanted = "off" if off else "unmap" if drive.discard == "on" else "on"
        assert wanted in seen, f"{key}: detect_zeroes {seen}"
        assert not off or seen == {"off"}, f"{key}: detect_zeroes {seen}"

    async def discard(self, key: str, device: str, form: str, image: Path, *, arrives: bool) -> None:
        """Write, discard, and look into the image whether the data left it."""
        for words in (f"write -P 90 0 {PATTERN}", f"discard 0 {PATTERN}", "flush"):
            said = await self.monitor.human(f'qemu-io -d {device} "{words}"')
            assert "rror" not in said, f"{key}: {words}: {said}"
        argv = ["qemu-img", "map", "-U", "--output=json", "-f", form, str(image)]
        extents = json.loads((await run(argv)).text)
        gone = not any(extent["data"] for extent in extents if extent["start"] < PATTERN)
        assert gone == arrives, f"{key}: discard {extents}"

    # ---- cards, firmware, order

    async def card(self, key: str, net: Any) -> None:
        """The card's address and model."""
        if net.macaddr:
            assert str(await self.device(key, "mac")).upper() == net.macaddr.upper(), key
        kind = str(await self.device(key, "type"))
        wanted = {"virtio": "virtio-net-pci", "e1000-82540em": "e1000"}.get(net.model, net.model)
        assert kind == wanted, f"{key}: {kind}"

    async def firmware(self) -> None:
        """Flash chips with OVMF only, writable variables, and the TPM."""
        chips = [await self.flash(name) for name in ("pflash0", "pflash1")]
        nodes = {node["node-name"]: node for node in await self.ask("query-named-block-nodes")}
        if self.config.get("bios") == "ovmf":
            assert all(chips), "bios: no flash chips"
            code, variables = (nodes[name] for name in chips)
            assert (code["ro"], variables["ro"]) == (True, self.template), "bios: what may be written"
            if efi := self.config.get("efidisk0"):
                assert Path(leaf(variables["file"])).name == Path(efi.file).name, "efidisk0"
        else:
            assert chips == ["", ""], f"bios: flash chips nobody asked for {chips}"
        models = [one["model"] for one in await self.ask("query-tpm")]
        assert models == (["tpm-tis"] if self.config.get("tpmstate0") else []), "tpmstate0"

    async def flash(self, name: str) -> str:
        """The node in a flash chip; empty when the board has none."""
        try:
            return str(await self.ask("qom-get", {"path": "/machine", "property": name}))
        except MonitorError:  # the chip is a part of the board only when there is firmware for it
            return ""

    async def boot_order(self) -> None:
        """The firmware gets the devices in the order of the list, and no others."""
        boot = self.config.get("boot")
        if boot is None or boot.order is None:
            return
        wanted = [name for name in boot.order.split(";") if name]
        named = [key for key, _ in self.drives()] + [key for key, _, _ in self.config.slots("net")]
        places: dict[int, str] = {}
        for key in named:
            try:
                place = int(await self.device(key, "bootindex"))
            except MonitorError:  # the model has no such property
                continue
            if place >= 0:
                places[place] = key
        ordered = [places[place] for place in sorted(places)]
        assert ordered == [name for name in wanted if name in named], f"boot: {ordered}"
