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
from vms.host.command import run
from vms.host.paths import RunPaths
from vms.qemu import capabilities
from vms.qemu.cmdline import command
from vms.qemu.process import launch


class Lab:
    """One test's bench. ``root`` is short enough for unix sockets; ``close`` ends every guest by pid.

    ``facts`` are this node's own with one directory storage ``local`` below ``root`` and no bridge, so
    that a test means the same on every box; guests run on TCG.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pvq-", dir="/tmp"))
        self.root.chmod(0o711)
        self.runs = RunPaths(self.root / "run", self.root / "log")
        self.storage = self.root / "local"
        for folder in ("images", "template/iso"):
            (self.storage / folder).mkdir(parents=True)
        storages = {"local": {"type": "dir", "path": str(self.storage)}}
        self.facts = NodeFacts.from_json({**facts, "storages": storages, "bridges": []})
        self.guests: list[Guest] = []

    # ---- volumes

    async def disk(self, vmid: int, size: str = "64M", *, copy: Path | None = None, number: int = 0) -> str:
        """Make a disk in ``local``: an empty qcow2 of ``size``, or a copy of a raw image; its volume id."""
        folder = self.storage / "images" / str(vmid)
        folder.mkdir(exist_ok=True)
        name = f"vm-{vmid}-disk-{number}.{'raw' if copy else 'qcow2'}"
        if copy is not None:
            shutil.copyfile(copy, folder / name)
        else:
            await run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / name), size])
        return f"local:{vmid}/{name}"

    def path(self, volume: str) -> Path:
        """Where a volume of ``local`` lies."""
        name = volume.split(",")[0].removeprefix("local:")
        return self.storage / ("template" if name.startswith("iso/") else "images") / name

    def iso(self, source: Path) -> str:
        """Put an ISO into the library without copying it; answers its volume id."""
        target = self.storage / "template" / "iso" / source.name
        if not target.exists():
            target.symlink_to(source)
        return f"local:iso/{source.name}"

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
        """Start the product's command line, ``extra`` arguments after it; answers when QMP does."""
        return await self.start_argv(vmid, [*self.argv(vmid, config), *extra], pass_fds=pass_fds)

    async def start_argv(self, vmid: int, argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Guest:
        """Start any command line that keeps the product's paths of ``vmid``."""
        names = self.runs.prepare(vmid)
        launched = await launch(argv, qmp=names.qmp, log=names.log, pass_fds=pass_fds)
        paths = self.context(vmid).paths
        guest = Guest(vmid, launched.running, launched.monitor, names, Path(paths.serial_log(0)))
        self.guests.append(guest)
        return guest

    async def close(self) -> None:
        """End every guest that still runs and remove the folder."""
        await asyncio.gather(*(guest.kill() for guest in self.guests))
        shutil.rmtree(self.root)


async def node_facts() -> dict[str, Any]:
    """This node's facts, with TCG whatever the box could do."""
    found: dict[str, Any] = dict((await capabilities.examine()).to_json())
    return {**found, "kvm": False, "accel_reason": "tests run on TCG"}
