"""A disk from an image and a cloud-init drive in one creation, seen from inside; and the way back."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from enginekit import Engine, until
from guestkit.media import Media

if TYPE_CHECKING:
    from vms.models import VM, Task

BOOT = 90
MAC = "BC:24:11:00:00:0A"


def library(engine: Engine, name: str, source: Path) -> str:
    """Put an image into the library and let the worker find it; its volume id."""
    from vms.operations.base import submit_on

    folder = engine.home / "local" / "import"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder / name)
    (folder / name).chmod(0o644)
    task = engine.end(submit_on("storagescan", node=engine.node, user=None, params={"storage": "local"}))
    assert task.status == "ok"
    return f"local:import/{name}"


def cloud(image: str, **more: str) -> Mapping[str, str]:
    """The wish of who creates a cloud guest."""
    return {
        "name": "cloudy", "ostype": "l26", "memory": "256", "agent": "1", "scsihw": "virtio-scsi-single",
        "scsi0": f"local:0,import-from={image},format=qcow2,discard=on",
        "scsi1": "local:cloudinit,media=cdrom",
        "net0": f"virtio={MAC}", "ciuser": "ada", "cipassword": "geheim", "ipconfig0": "ip=dhcp", **more,
    }  # fmt: skip


async def inside(engine: Engine, vm: VM, script: str) -> str:
    """What a line of shell prints in the guest."""
    from vms.qemu.agent import Agent

    agent = Agent(engine.run_dir / "vm" / str(vm.vmid) / "agent" / "qga.sock")
    async with asyncio.timeout(BOOT):
        while not await agent.ping(1):
            await asyncio.sleep(0.2)
        pid = await agent.run(["/bin/sh", "-ec", script])
        while not (status := await agent.run_status(pid)).exited:
            await asyncio.sleep(0.1)
    assert status.exit_code == 0, status.stderr
    return status.stdout.decode()


def lines(task: Task) -> list[str]:
    return [line.text for line in task.lines.all()]


READ = (
    "mkdir -p /mnt/seed; modprobe -a sr_mod isofs 2>/dev/null || true; "
    "mountpoint -q /mnt/seed || mount -t iso9660 -o ro /dev/sr0 /mnt/seed; "
)


def test_one_creation_makes_a_cloud_guest(engine: Engine, guest_media: Media) -> None:
    image = library(engine, "guest.img", guest_media.disk)
    vm = engine.draft(cloud(image))
    task = engine.do("qmcreate", vm, within=BOOT, start="1")
    assert any(line.startswith("scsi0: importing 'local:import/guest.img'") for line in lines(task))
    assert engine.images() == ["100/vm-100-cloudinit.raw", "100/vm-100-disk-0.qcow2"]
    from vms.models.configuration import config_of

    made = config_of(vm)
    assert made["scsi0"].startswith("local:100/vm-100-disk-0.qcow2,discard=on,size=")
    assert made["scsi1"] == "local:100/vm-100-cloudinit.raw,media=cdrom,size=4M"
    assert made["cipassword"].startswith("$5$")
    found = asyncio.run(inside(engine, vm, READ + "cd /mnt/seed; ls; cat user-data network-config"))
    assert found.split()[:4] == ["meta-data", "network-config", "user-data", "vendor-data"]
    assert "user:\n  name: ada\n" in found
    assert f"password: {json.dumps(made['cipassword'])}" in found
    assert MAC.lower() in found
    engine.do("qmstop", vm)
    _again(engine, vm, made)
    assert engine.end(engine.submit("qmdestroy", vm, now="1")).status == "ok"
    assert engine.images() == []


def _again(engine: Engine, vm: VM, made: Mapping[str, str]) -> None:
    """A start writes the drive anew when its content changed, and only then."""
    from vms.models.configuration import save_config

    path = engine.home / "local" / "images" / "100" / "vm-100-cloudinit.raw"
    before = path.stat().st_mtime_ns
    task = engine.do("qmstart", vm)
    assert path.stat().st_mtime_ns == before
    assert not any("cloud-init drive" in line for line in lines(task))
    engine.do("qmstop", vm)
    save_config(vm, {**made, "ciuser": "grace"})
    task = engine.do("qmstart", vm)
    assert any("wrote the cloud-init drive" in line for line in lines(task))
    found = asyncio.run(inside(engine, vm, READ + "cat /mnt/seed/user-data"))
    assert "user:\n  name: grace\n" in found
    assert "geheim" not in found
    _while_it_runs(engine, vm)
    engine.do("qmstop", vm)


AGAIN = "umount /mnt/seed; " + READ + "cat /mnt/seed/user-data /mnt/seed/vendor-data"


def _while_it_runs(engine: Engine, vm: VM) -> None:
    """A running guest keeps its image until it is asked for another, or at once where that is configured."""
    from vms.operations import cloudinit, configure, snippets

    def older() -> list[str]:
        return [change.key for change in cloudinit.changes(*cloudinit.read(vm))]

    assert older() == []
    snippets.save(engine.storage, "v.yaml", "vendor", "#cloud-config\ntimezone: UTC\n", None, base=0)
    task = configure.change(vm, None, set={"ciuser": "hopper", "cicustom": "vendor=local:snippets/v.yaml"})
    assert engine.end(task).status == "ok"
    assert older() == ["cicustom", "ciuser"]
    assert "name: grace" in asyncio.run(inside(engine, vm, AGAIN))
    task = engine.do("qmcloudinit", vm)
    assert "scsi1: the running guest has the new image" in lines(task)
    assert older() == []
    found = asyncio.run(inside(engine, vm, AGAIN))
    assert "name: hopper" in found
    assert "timezone: UTC" in found
    snippets.save(engine.storage, "v.yaml", "vendor", "#cloud-config\ntimezone: CET\n", None, base=1)
    assert older() == ["cicustom"]
    configure.change(vm, None, set={"hotplug": "disk,network,usb,cloudinit"})
    engine.end(configure.change(vm, None, set={"ciuser": "lovelace"}))
    assert older() == []
    found = asyncio.run(inside(engine, vm, AGAIN))
    assert "name: lovelace" in found
    assert "timezone: CET" in found


def test_a_drive_that_is_added_is_not_empty(engine: Engine) -> None:
    """On a stopped VM, through the door every dialog uses."""
    import pycdlib

    from vms.operations import configure

    vm = engine.vm({"name": "late", "ostype": "l26", "scsihw": "virtio-scsi-pci", "ciuser": "ada"})
    task = engine.end(configure.change(vm, None, set={"scsi1": "local:cloudinit,media=cdrom"}))
    assert task.status == "ok", task.message
    image = pycdlib.PyCdlib()
    image.open(str(engine.home / "local" / "images" / str(vm.vmid) / f"vm-{vm.vmid}-cloudinit.raw"))
    names = [
        child.rock_ridge.name().decode() for child in image.list_children(rr_path="/") if child.rock_ridge
    ]
    image.close()
    assert {"meta-data", "user-data", "vendor-data"} <= set(names)


def test_an_import_that_is_cancelled_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    from vms.tasks import queue

    source = tmp_path / "big.raw"
    with source.open("wb") as file:
        for _ in range(48):
            file.write(b"\xa5" * (16 << 20))
    image = library(engine, "big.raw", source)
    source.unlink()
    vm = engine.draft(cloud(image))
    task = engine.submit("qmcreate", vm)
    until(lambda: [name for name in engine.images() if "disk-0" in name], "the import has begun", 20)
    queue.request_cancel(task)
    engine.end(task)
    assert task.status == "cancelled"
    assert engine.images() == []
    vm.refresh_from_db()
    assert (vm.stage, vm.lock) == ("draft", "")
    until(lambda: not [word for word in engine.strays() if "qemu-img" in word], "no qemu-img is left", 10)
    (engine.home / "local" / "import" / "big.raw").unlink()


@pytest.mark.parametrize("case", ["backing", "lying"])
def test_a_hostile_image_makes_no_vm(engine: Engine, case: str) -> None:
    """An image that turns evil after the scan is looked at again when it is used."""
    import subprocess

    path = Path("/tmp") / f"pve-hostile-{time.monotonic_ns()}.qcow2"
    words: list[Any] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*words, str(path), "1M"], check=True)
    image = library(engine, "evil.qcow2", path)
    there = engine.home / "local" / "import" / "evil.qcow2"
    there.unlink()
    if case == "backing":
        subprocess.run([*words, "-u", "-b", "/etc/shadow", "-F", "raw", str(there), "1M"], check=True)
    else:
        there.write_bytes(b"\x7fELF" + bytes(4096))
    path.unlink()
    vm = engine.draft(cloud(image))
    task = engine.end(engine.submit("qmcreate", vm))
    assert task.status == "error"
    assert ("backing file" if case == "backing" else "should be qcow2") in task.message
    assert engine.images() == []
    there.unlink()
