"""Snapshots of a guest that really runs: it goes on from the very moment, and its agent calms its disks."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginekit import Engine
from faultkit import deaths
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper
from snapkit import config, inside_disk, lines, tree

from vms.models import VM, Snapshot

FROZEN = ("begun", "frozen", "disks taken")
COUNT = """
sh -c 'n=0; while :; do n=$((n+1)); echo $n >/tmp/c; mv /tmp/c /tmp/count; sleep 0.05; done' \\
</dev/null >/dev/null 2>&1 &
echo before >/tmp/note
"""
PLUG = """
modprobe -a virtio_scsi sd_mod ext4
for n in $(seq 50); do test -b /dev/sda && break; sleep 0.1; done
mke2fs /dev/sda >/dev/null 2>&1
mkdir -p /mnt
mount -t ext4 /dev/sda /mnt
echo old >/mnt/file
sync
"""


@pytest.fixture
def warm(engine: Engine, guest_media: Media, warm_state: Path) -> VM:
    vm = sleeper(engine, guest_media, warm_state, 100, {"scsihw": "virtio-scsi-single"})
    engine.do("qmstart", vm)
    return vm


def plug(engine: Engine, vm: VM) -> None:
    """A disk with a file system on it, plugged into the running guest and mounted there."""
    from vms.operations.configure import change

    task = engine.end(change(vm, None, set={"scsi0": "local:0.0625"}))
    assert task.status == "ok", task.message
    inside(engine, 100, PLUG)


def test_a_guest_goes_on_from_the_moment(engine: Engine, warm: VM) -> None:
    """Memory and a hot-plugged disk of one instant; then back to it, twice, from running and from off."""
    plug(engine, warm)
    inside(engine, 100, COUNT)
    task = engine.do("qmsnapshot", warm, vmstate="1", snapname="ram", within=60)
    assert "the guest stood still for " in lines(task)
    made = Snapshot.objects.get(vm=warm)
    assert made.vmstate is not None
    assert made.vmstate.name == "100/vm-100-state-ram.raw"
    assert set(made.running) == {"runningmachine", "runningcpu"}
    assert warm.status == "running"
    first = int(inside(engine, 100, "cat /tmp/count"))
    inside(engine, 100, "echo after >/tmp/note; echo new >/mnt/file; sync")
    assert int(inside(engine, 100, "cat /tmp/count")) >= first
    text = (engine.home / "nodes" / "pve1" / "qemu-server" / "100.conf").read_text()
    assert "[ram]\n" in text
    assert "\nvmstate: local:100/vm-100-state-ram.raw\n" in text
    for stopped in (False, True):
        if stopped:
            engine.do("qmstop", warm)
        run = warm.run_id
        engine.do("qmrollback", warm, snapname="ram", within=60)
        assert warm.status == "running"
        assert warm.run_id not in ("", run)
        assert inside(engine, 100, "cat /tmp/note /mnt/file") == "before\nold\n"
        now = int(inside(engine, 100, "cat /tmp/count"))
        assert 0 < int(inside(engine, 100, "sleep 0.2; cat /tmp/count")) - now < 10_000
    engine.do("qmdelsnapshot", warm, snapname="ram")
    assert inside_disk(engine, warm) == {"scsi0": []}
    assert engine.images() == [config(warm)["scsi0"].split(",")[0].partition(":")[2]]


def test_the_agent_calms_the_disks(engine: Engine, warm: VM) -> None:
    """Frozen for the moment when the agent is on, thawed afterwards; not when that is switched off."""
    plug(engine, warm)
    task = engine.do("qmsnapshot", warm, snapname="calm", within=60)
    assert "file systems frozen" in lines(task)
    assert task.status == "ok"
    inside(engine, 100, "echo more >/mnt/file; sync")
    VM.everything.filter(pk=warm.pk).update(options={**warm.options, "agent": "1,freeze-fs=0"})
    task = engine.do("qmsnapshot", warm, snapname="bold", within=60)
    assert "frozen" not in lines(task)
    assert tree(warm) == {"calm": "", "bold": "calm", "": "bold"}


def test_a_worker_that_dies_while_the_agent_holds_the_disks(engine: Engine, warm: VM, tmp_path: Path) -> None:
    """The next one lets the guest write again, whatever was taken of its disks by then."""
    plug(engine, warm)
    ask = lambda: engine.submit("qmsnapshot", warm, snapname="calm")  # noqa: E731
    for border, task in deaths(engine, "qmsnapshot", FROZEN, tmp_path / "steps", ask):
        assert task.status == "error", border
        inside(engine, 100, f"echo {border} >/mnt/file; sync")
        engine.status(warm, "running")
        assert inside_disk(engine, warm) == {"scsi0": []}, border
        assert not Snapshot.objects.filter(vm=warm).exists(), border
        assert (warm.lock, tree(warm)) == ("", {"": ""}), border
