"""The boot disk changes its bus, the guest's agent vouching for the driver; its data stays where it is."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

from diskkit import config, fill, holds_pattern
from enginekit import Engine, until
from guestkit.media import Media

if TYPE_CHECKING:
    from vms.models import VM
    from vms.models.waiting import Waiting

BOOT = 120
SLOW = {
    "name": "bus", "ostype": "l26", "memory": "256", "machine": "q35", "agent": "1",
    "sata0": "local:0.0625,format=qcow2", "boot": "order=sata0",
}  # fmt: skip


def test_there_by_the_agents_word_and_back(engine: Engine, guest_media: Media) -> None:
    from vms.models import VM, Task
    from vms.operations import busmove
    from vms.operations.busmove import Stage, move_of, stage_of

    def stage(vm: VM) -> Stage:
        return stage_of(VM.objects.get(pk=vm.pk), waiting(vm), move_of(VM.objects.get(pk=vm.pk)))

    vm = made(engine, guest_media)
    engine.end(busmove.begin(vm, None, target="scsi", storage="local"))
    vm.refresh_from_db()
    assert stage(vm) is Stage.DRIVER
    helper = move_of(vm).helper  # type: ignore[union-attr]
    engine.do("qmstart", vm, within=60)

    def agent_up() -> bool:
        vm.refresh_from_db()
        return bool(vm.agent.get("up"))

    until(agent_up, "the guest's agent is up", BOOT)
    task = engine.do("qmdriver", vm, within=60)
    assert any("sees the helper disk" in line.text for line in task.lines.all())
    assert (stage(vm), move_of(vm).seen) == (Stage.SWITCH, "agent")  # type: ignore[union-attr]

    engine.do("qmstop", vm)
    engine.end(busmove.switch(vm, None))
    engine.end(Task.objects.filter(type="qmconfig").latest("pk"))
    assert len(engine.images()) == 1, "the helper's volume is gone"
    vm.refresh_from_db()
    found = config(vm)
    assert stage(vm) is Stage.MOVED
    assert found["boot"] == "order=scsi0"
    assert not {"sata0", "unused0", helper} & found.keys()
    assert holds_pattern(found["scsi0"].partition(",")[0])

    engine.end(busmove.go_back(vm, None))
    found = config(vm)
    assert (found["boot"], "scsi0" in found) == ("order=sata0", False)
    assert holds_pattern(found["sata0"].partition(",")[0])


def made(engine: Engine, media: Media) -> VM:
    """A VM with a filled boot disk on SATA that boots the test guest's kernel directly."""
    for path in (media.kernel, media.initrd):
        shutil.copy(path, engine.home / path.name)
        (engine.home / path.name).chmod(0o644)
    words = media.direct_boot()
    words[1], words[3] = (str(engine.home / path.name) for path in (media.kernel, media.initrd))
    vm = engine.draft({**SLOW, "args": shlex.join(words)}, 100)
    engine.do("qmcreate", vm)
    fill(engine.home / "local" / "images" / engine.images()[0], 4)
    return vm


def waiting(vm: VM) -> Waiting:
    from vms.models import VM
    from vms.models.waiting import Waiting

    return Waiting.of(VM.objects.get(pk=vm.pk))
