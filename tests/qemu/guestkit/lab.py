"""A bench for real guests: short folders, configurations turned into argv, processes that never stay."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guestkit.guest import Guest
from vms.config.vmconfig import VMConfig
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.host import facts as host_facts
from vms.host.paths import RunPaths
from vms.qemu import capabilities, tpm
from vms.qemu.cmdline import command
from vms.qemu.process import launch
from vms.storage.base import DiskFormat
from vms.storage.directory import DirectoryStorage


class Lab:
    """One test's bench. ``root`` is short enough for unix sockets; ``close`` ends every guest by pid.

    ``facts`` are this node's own with one directory storage ``local`` below ``root`` and no bridge, and
    64 threads, so that a test means the same on every box; guests run on TCG.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pvq-", dir="/tmp"))
        self.root.chmod(0o711)
        self.runs = RunPaths(self.root / "run", self.root / "log")
        self.storage = DirectoryStorage("local", self.root / "local")
        self.storage.iso_folder.mkdir(parents=True)
        storages = {"local": {"type": "dir", "path": str(self.storage.root)}}
        self.facts = NodeFacts.from_json({**facts, "storages": storages, "bridges": [], "threads": 64})
        self.guests: list[Guest] = []
        self.tpms: set[int] = set()

    # ---- volumes

    async def disk(
        self, vmid: int, size: int = 64 << 20, *, copy: Path | None = None, fmt: str = "qcow2"
    ) -> str:
        """Make a disk in ``local``, empty with ``size`` bytes or a copy of a raw image; its volume id."""
        kind: DiskFormat = "raw" if fmt == "raw" else "qcow2"
        if copy is not None:
            return (await self.storage.allocate_copy(vmid, copy, kind)).volid
        return (await self.storage.allocate(vmid, size, kind)).volid

    def iso(self, source: Path) -> str:
        """Put an ISO into the library without copying it; answers its volume id."""
        target = self.storage.iso_folder / source.name
        if not target.exists():
            target.symlink_to(source)
        return f"local:iso/{source.name}"

    async def efi_disk(self, vmid: int, *, keys: bool) -> str:
        """The EFI variables, with Microsoft's keys enrolled or without; the value of ``efidisk0``."""
        source = Path(self.facts.ovmf["vars-4m-ms" if keys else "vars-4m"])
        return f"{await self.disk(vmid, copy=source)},efitype=4m,pre-enrolled-keys={int(keys)}"

    async def tpm_state(self, vmid: int) -> str:
        """A new TPM 2.0 with its certificates; the value of ``tpmstate0``."""
        volume = await self.disk(vmid, tpm.STATE_SIZE, fmt="raw")
        await tpm.set_up(self.storage.path(volume), self.root / "ca")
        return f"{volume},version=v2.0"

    # ---- guests

    def context(self, vmid: int) -> LaunchContext:
        """What a start of that VM would know here."""
        paths = RuntimePaths.of(str(self.runs.run_dir), str(self.runs.log_dir), vmid)
        return LaunchContext(vmid=vmid, facts=self.facts, paths=paths)

    def argv(self, vmid: int, config: Mapping[str, str]) -> list[str]:
        """The product's command line for that configuration on this bench."""
        return command(VMConfig.parse(config), self.context(vmid))

    async def start(
        self, vmid: int, config: Mapping[str, str], extra: Sequence[str] = (), *, pass_fds: Sequence[int] = ()
    ) -> Guest:
        """Start the product's command line, ``extra`` arguments after it; answers when QMP does.

        A configuration with ``tpmstate0`` gets its TPM emulator first, as the product does.
        """
        if "tpmstate0" in config:
            await self.start_tpm(vmid, self.storage.path(config["tpmstate0"].split(",")[0]))
        return await self.start_argv(vmid, [*self.argv(vmid, config), *extra], pass_fds=pass_fds)

    async def start_argv(self, vmid: int, argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Guest:
        """Start any command line that keeps the product's paths of ``vmid``."""
        names = self.runs.prepare(vmid)
        launched = await launch(argv, qmp=names.qmp, log=names.log, pass_fds=pass_fds)
        paths = self.context(vmid).paths
        guest = Guest(vmid, launched.running, launched.monitor, names, Path(paths.serial_log(0)))
        self.guests.append(guest)
        return guest

    async def start_tpm(self, vmid: int, state: Path, version: str = "v2.0") -> None:
        """Start the emulator that serves the TPM of ``vmid`` from its state."""
        names = self.runs.prepare(vmid)
        await tpm.start(names, state, version=version)
        self.tpms.add(vmid)

    async def close(self) -> None:
        """End every guest and TPM that still runs and remove the folder."""
        await asyncio.gather(*(guest.kill() for guest in self.guests))
        for vmid in self.tpms:
            await tpm.stop(self.runs.vm(vmid))
        shutil.rmtree(self.root)


async def node_facts() -> dict[str, Any]:
    """This node's facts as the worker gathers them, with TCG whatever the box could do."""
    return await host_facts.gather(qemu=(await capabilities.examine(wanted="tcg")).to_json())
