"""The image of a running guest is written again, the worker killed at every border."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from enginekit import Engine
from faultkit import at_every_border

if TYPE_CHECKING:
    from vms.models import VM, Task

CONFIG = {
    "name": "still", "ostype": "l26", "memory": "64", "freeze": "1", "scsihw": "virtio-scsi-pci",
    "scsi1": "local:cloudinit,media=cdrom", "net0": "virtio=BC:24:11:00:00:0E", "ipconfig0": "ip=dhcp",
}  # fmt: skip
IMAGE = "100/vm-100-cloudinit.raw"


def opened(engine: Engine, vm: VM) -> list[str]:
    """The cloud-init images QEMU has open, by its descriptors; a replaced file says that it is deleted."""
    found = []
    for link in Path(f"/proc/{engine.qemus()[vm.vmid]}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(link))
    return [path for path in found if "cloudinit" in path]


def test_the_guest_ends_up_with_the_new_image(engine: Engine) -> None:
    from vms.operations import cloudinit, configure

    vm = engine.draft(CONFIG, 100)
    engine.do("qmcreate", vm, start="1")
    image = engine.home / "local" / "images" / IMAGE
    numbers = count()

    def older() -> VM:
        configure.change(vm, None, set={"ciuser": f"user{next(numbers)}"})
        assert [change.key for change in cloudinit.changes(*cloudinit.read(vm))] == ["ciuser"]
        return vm

    def settled(vm: VM, task: Task, name: str) -> None:
        assert task.status == "ok", (name, task.message)
        row, mapping = cloudinit.read(vm)
        assert cloudinit.changes(row, mapping) == []
        assert opened(engine, vm) == [str(image)], name
        assert mapping["ciuser"].encode() in image.read_bytes()
        assert (row.lock, row.status) == ("", "prelaunch")
        assert engine.images() == [IMAGE]

    assert at_every_border(engine, "qmcloudinit", older, settled) == ["image written", "medium changed"]
