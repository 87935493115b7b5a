"""A booted guest under the real worker in a moment: a hibernated VM made of the warm state."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guestkit.media import Media
from guestkit.warm import CONTROLLER, WARM
from vms.qemu.agent import Agent

if TYPE_CHECKING:
    from vms.models import VM


def lay_out(home: Path, media: Media) -> list[str]:
    """Copy the guest's kernel where QEMU's user can read it; answers the words that boot it."""
    words = media.direct_boot()
    for place, path in ((1, media.kernel), (3, media.initrd)):
        target = home / path.name
        if not target.exists():
            shutil.copy(path, target)
            target.chmod(0o644)
        words[place] = str(target)
    return words


def sleeper(engine: Any, media: Media, state: Path, vmid: int, more: Mapping[str, str] | None = None) -> VM:
    """A hibernated VM whose memory is the warm guest's: Start wakes it in 0.2 s, its agent answering.

    ``more`` are options that add no device: the memory fits one exact machine. Plug disks once it runs.
    """
    from vms.hardware.context import NodeFacts
    from vms.models import VM, Volume

    machines = NodeFacts.from_json(engine.node.facts).machines
    machine = next(name for name in machines if name.startswith("pc-q35-"))
    words = [*lay_out(engine.home, media), *CONTROLLER]
    vm: VM = engine.vm({**WARM, "machine": machine, "args": shlex.join(words), **(more or {})}, vmid)
    name = f"{vmid}/vm-{vmid}-state-warm.raw"
    place = engine.home / "local" / "images" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(state, place)
    size = place.stat().st_size
    # A scan may have seen the file already.
    row, _ = Volume.objects.update_or_create(
        storage=engine.storage, node=engine.node, name=name,
        defaults={"content": "images", "format": "raw", "size": size, "vmid": vmid},
    )  # fmt: skip
    VM.everything.filter(pk=vm.pk).update(
        vmstate=row, lock="suspended", saved={"runningmachine": machine, "volume": row.volid}
    )
    vm.refresh_from_db()
    return vm


def inside(engine: Any, vmid: int, script: str) -> str:
    """What a line of shell inside the guest prints."""

    async def ask() -> str:
        agent = Agent(engine.run_dir / "vm" / str(vmid) / "agent" / "qga.sock")
        async with asyncio.timeout(60):
            while not await agent.ping(1):
                pass
            pid = await agent.run(["/bin/sh", "-ec", script])
            while not (status := await agent.run_status(pid)).exited:
                await asyncio.sleep(0.02)
        assert status.exit_code == 0, status
        return status.stdout.decode()

    return asyncio.run(ask())
