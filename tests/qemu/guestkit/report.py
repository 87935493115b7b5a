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


class Report:
    """One started guest and its configuration; :meth:`check` compares everything there is."""

    def __init__(self, guest: Guest, config: VMConfig) -> None:
        self.ask = guest.monitor.execute
        self.monitor = guest.monitor
        self.config = config

    async def check(self) -> None:
        """Fail with the configuration key whose wish QEMU does not report."""
        await self.machine()
        await self.processor()
        await self.memory()
        await self.identity()
        for key, drive in self.drives():
            await self.drive(key, drive)
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
        value = self.config.value
        sockets, cores = int(value("sockets") or value("smp") or 1), int(value("cores") or 1)
        plugged = int(value("vcpus") or sockets * cores)
        cpus = await self.ask("query-cpus-fast")
        assert len(cpus) == plugged, "vcpus"
        slots = await self.ask("query-hotpluggable-cpus")
        assert len({slot["props"]["socket-id"] for slot in slots}) == sockets, "sockets"
        per_socket = {(slot["props"]["socket-id"], slot["props"]["core-id"]) for slot in slots}
        assert len(per_socket) == sockets * cores, "cores"
        cpu = self.config.get("cpu")
        asked = (cpu.cputype if cpu else None) or "kvm64"
        model = "max" if asked == "host" else "qemu64" if asked.startswith("x86-64-v") else asked
        assert slots[0]["type"] == f"{model}-x86_64-cpu", f"cpu: {slots[0]['type']}"

    async def memory(self) -> None:
        """Size, and whether there is a balloon."""
        part = self.config.get("memory")
        size = (part.current if part else None) or 512
        summary = await self.ask("query-memory-size-summary")
        total = summary["base-memory"] + summary.get("plugged-memory", 0)
        assert total == size << 20, f"memory: {total >> 20} MiB"
        balloon = await self.monitor.query_balloon()
        assert (balloon is None) == (self.config.value("balloon") == 0), f"balloon: {balloon}"

    async def identity(self) -> None:
        """SMBIOS UUID and generation id."""
        smbios = self.config.get("smbios1")
        if smbios and smbios.uuid:
            assert (await self.ask("query-uuid"))["UUID"].lower() == smbios.uuid.lower(), "smbios1"
        generation = self.config.get("vmgenid")
        if generation and generation not in ("0", "1"):
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
        assert entry["removable"] == drive.is_cdrom, f"{key}: removable"
        if drive.is_empty:
            assert "inserted" not in entry, f"{key}: a medium nobody put in"
            return
        inserted = entry["inserted"]
        volume = Path(drive.file.partition(":")[2]).name
        assert Path(inserted["image"]["filename"]).name == volume, f"{key}: {inserted['file']}"
        read_only = drive.is_cdrom or bool(getattr(drive, "ro", None))
        assert inserted["ro"] == read_only, f"{key}: read-only"
        await self.cache(key, drive, inserted)
        if drive.serial:
            assert await self.device(key, "serial") == unquote(drive.serial), f"{key}: serial"
        if not read_only and not drive.snapshot:
            await self.discard(key, drive, inserted, Path(inserted["image"]["filename"]))

    async def cache(self, key: str, drive: Any, inserted: Any) -> None:
        """The three flags a cache mode stands for."""
        direct, no_flush, write_cache = CACHE[drive.cache or ("writeback" if drive.is_cdrom else "none")]
        seen = inserted["cache"]
        if not drive.is_cdrom or drive.cache:
            assert (seen["direct"], seen["no-flush"]) == (direct, no_flush), f"{key}: cache {seen}"
            assert seen["writeback"] == write_cache, f"{key}: cache {seen}"

    async def discard(self, key: str, drive: Any, inserted: Any, image: Path) -> None:
        """Write, discard, and look into the image whether the data left it."""
        for words in (f"write -P 90 0 {PATTERN}", f"discard 0 {PATTERN}", "flush"):
            said = await self.monitor.human(f'qemu-io -d {key} "{words}"')
            assert "rror" not in said, f"{key}: {words}: {said}"
        argv = ["qemu-img", "map", "-U", "--output=json", "-f", inserted["drv"], str(image)]
        extents = json.loads((await run(argv)).text)
        gone = not any(extent["data"] for extent in extents if extent["start"] < PATTERN)
        assert gone == (drive.discard == "on"), f"{key}: discard {extents}"
        zeroes = {None: "on", True: "on", False: "off"}[drive.detect_zeroes]
        if zeroes == "on" and drive.discard == "on":
            zeroes = "unmap"
        assert inserted["detect_zeroes"] == zeroes, f"{key}: detect_zeroes {inserted['detect_zeroes']}"

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
        blocks = {one["device"]: one for one in await self.ask("query-block")}
        flash = {name: one for name, one in blocks.items() if name.startswith("pflash")}
        nodes = await self.ask("query-named-block-nodes")
        chips = [
            node["node-name"] for node in nodes if "pflash" in node["node-name"] and node["drv"] != "file"
        ]
        if self.config.get("bios") == "ovmf":
            assert len(flash) == 2 or len(chips) == 2, f"bios: {list(blocks)} {chips}"
        else:
            assert not flash, "bios: flash chips nobody asked for"
        models = [one["model"] for one in await self.ask("query-tpm")]
        assert models == (["tpm-tis"] if self.config.get("tpmstate0") else []), "tpmstate0"

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
