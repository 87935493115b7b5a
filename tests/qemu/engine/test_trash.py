"""The trash: thrown away, brought back with its data under its number, gone for good when it is due."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from enginekit import Engine, until
from faultkit import deaths

from vms.errors import ConfigError, StateError
from vms.models import VM, AclEntry, Task, Volume
from vms.models.configuration import config_of
from vms.operations.base import submit
from vms.operations.drafts import new_draft
from vms.operations.trash import empty_due

CONFIG = {"name": "keep", "memory": "64", "scsi0": "local:1,format=qcow2", "boot": "order=scsi0"}


def made(engine: Engine) -> VM:
    vm = engine.draft(CONFIG, 140)
    engine.do("qmcreate", vm)
    return vm


def disk_of(engine: Engine) -> bytes:
    return (engine.home / "local" / "images" / "140" / "vm-140-disk-0.qcow2").read_bytes()


def thrown(vm: VM) -> VM:
    return VM.everything.get(pk=vm.pk)


def test_what_is_thrown_away_comes_back_as_it_was(engine: Engine) -> None:
    vm = made(engine)
    before, bytes_before = config_of(vm), disk_of(engine)
    mirror = engine.home / "nodes" / "pve1" / "qemu-server" / "140.conf"
    until(mirror.exists, "the text file is there")
    task = engine.end(engine.submit("qmdestroy", vm))
    assert task.status == "ok", task.message
    gone = thrown(vm)
    assert (gone.stage, gone.lock, gone.trash["by"]) == ("trash", "", "system")
    assert gone.purge_after > timezone.now() + timedelta(days=6)
    assert not VM.objects.filter(vmid=140).exists()
    until(lambda: not mirror.exists(), "the text file is gone")
    assert disk_of(engine) == bytes_before, "nothing is unlinked"
    for verb in ("qmstart", "qmdestroy"):
        with pytest.raises(StateError, match="is in the trash"):
            submit(verb, vm=gone, user=None)
    with pytest.raises(ConfigError, match="is in the trash and keeps its number"):
        new_draft(None, engine.node, vmid=140)
    assert engine.end(engine.submit("qmundestroy", gone)).status == "ok"
    back = VM.objects.get(vmid=140)
    assert (config_of(back), disk_of(engine), back.purge_after) == (before, bytes_before, None)
    until(mirror.exists, "the text file is there again")
    engine.do("qmstart", back)
    engine.do("qmstop", back)


def test_what_is_due_goes_with_disks_and_rights(engine: Engine) -> None:
    vm = made(engine)
    engine.end(engine.submit("qmdestroy", vm))
    assert empty_due(engine.node) == 0, "not before its time"
    VM.everything.filter(pk=vm.pk).update(purge_after=timezone.now())
    assert empty_due(engine.node) == 1
    until(lambda: not VM.everything.filter(vmid=140).exists(), "it is gone for good")
    assert engine.images() == []
    assert not Volume.objects.filter(vmid=140).exists()
    assert not AclEntry.objects.filter(path="/vms/140").exists()


@pytest.mark.parametrize(
    ("verb", "borders"),
    [
        ("qmdestroy", ("cleaned",)),
        ("qmdestroy now", ("volume freed", "volume freed", "cleaned")),
        ("qmpurge", ("volume freed", "volume freed", "cleaned")),
    ],
)
def test_a_worker_killed_between_two_steps_leaves_all_or_nothing(
    engine: Engine, tmp_path: Path, verb: str, borders: tuple[str, ...]
) -> None:
    """At each border of a removal the next worker goes on to the end."""
    verb, _, now = verb.partition(" ")

    def ask() -> Task:
        vm = engine.draft({**CONFIG, "scsi1": "local:0.0625"}, 140)
        engine.do("qmcreate", vm)
        if verb == "qmpurge":
            engine.end(engine.submit("qmdestroy", vm))
        return engine.submit(verb, thrown(vm), **({"now": "1"} if now else {}))

    for border, task in deaths(engine, verb, borders, tmp_path / "steps", ask, again=True):
        assert task.status == "ok", (border, task.message)
        left = VM.everything.filter(vmid=140).first()
        kept = verb == "qmdestroy" and not now
        assert (left.stage if left else None) == ("trash" if kept else None), border
        assert len(engine.images()) == (2 if kept else 0), border
        rows = Volume.objects.filter(vmid=140)
        until(lambda: rows.count() == len(engine.images()), f"the rows tell of what is there: {border}")
        if left:
            assert engine.end(engine.submit("qmpurge", left)).status == "ok"
