"""The questions about a disk as plain pages: what they show, refuse and ask for."""

from __future__ import annotations

from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import GIB, Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.models import VM, Disk, Snapshot, Storage, Task, Volume
from vms.models.configuration import config_of

pytestmark = pytest.mark.django_db
HX = {"HX-Request": "true"}
HERE = "/vms/101/hardware"


@pytest.fixture
def second(scene: Scene, tmp_path: Path) -> Storage:
    return Storage.objects.create(name="second", path=str(tmp_path / "second"))


@pytest.fixture
def other(scene: Scene) -> VM:
    return VM.everything.create(vmid=102, node=scene.node, stage=VM.Stage.DEFINED, name="db-01")


def text_of(answer: Any) -> str:
    return unescape(answer.content.decode())


def asked_for() -> tuple[str, dict[str, str]]:
    task = Task.objects.latest("pk")
    return task.type, {key: text for key, text in task.params.items() if key != "digest"}


@pytest.mark.parametrize("what", ["resize", "move", "reassign"])
def test_every_question_is_a_page_and_a_dialog(scene: Scene, boss: Client, what: str) -> None:
    address = f"{HERE}/scsi0/{what}"
    page = text_of(boss.get(address))
    assert f'action="{address}"' in page
    assert "local:101/vm-101-disk-0.qcow2" in page
    assert "Hard disk (scsi0)" in page
    assert text_of(boss.get(address, headers=HX)).lstrip().startswith("<dialog")
    for row in ("scsi9", "ide2", "memory", "unused0"):
        assert boss.get(f"{HERE}/{row}/{what}").status_code == 404
    assert Task.objects.count() == 1  # the scene's own


def test_a_disk_grows(scene: Scene, boss: Client) -> None:
    assert "32 GiB now, 40 GiB then" in text_of(boss.get(f"{HERE}/scsi0/resize?increment=8&part=fields"))
    assert boss.post(f"{HERE}/scsi0/resize", {"increment": "8"}).status_code == 302
    assert asked_for() == ("resize", {"disk": "scsi0", "size": "+8.000000G"})
    for wrong in ("", "-1", "much", "1e99"):
        answer = boss.post(f"{HERE}/scsi0/resize", {"increment": wrong}, headers=HX)
        assert answer.status_code == 422
        assert 'id="disk-increment_error"' in text_of(answer)
    stale = boss.post(f"{HERE}/scsi0/resize", {"increment": "1", "digest": "0" * 40})
    assert (stale.status_code, "changed by somebody else" in text_of(stale)) == (409, True)


def test_a_disk_moves(scene: Scene, boss: Client, second: Storage) -> None:
    page = text_of(boss.get(f"{HERE}/scsi0/move"))
    assert '<option value="second" selected' in page
    values = {"storage": "second", "format": "raw", "delete": "on", "bwlimit": "1024"}
    assert boss.post(f"{HERE}/scsi0/move", values).status_code == 302
    wanted = {"disk": "scsi0", "storage": "second", "format": "raw", "delete": "1", "bwlimit": "1024"}
    assert asked_for() == ("qmmove", wanted)
    same = boss.post(f"{HERE}/scsi0/move", {"storage": "local", "format": "qcow2"})
    assert same.status_code == 422
    assert "You can't move to the same storage with same format." in text_of(same)


def test_what_a_snapshot_holds_is_not_deleted(scene: Scene, boss: Client, second: Storage) -> None:
    Snapshot.objects.create(vm=scene.vm, name="before", config=config_of(scene.vm))
    page = text_of(boss.get(f"{HERE}/scsi0/move"))
    assert "The volume is in snapshot before of VM 101 and stays." in page
    given = text_of(boss.get(f"{HERE}/scsi0/reassign"))
    assert "is part of snapshot before of VM 101" in given or "Choose a VM" in given


def test_a_disk_changes_hands(scene: Scene, boss: Client, other: VM) -> None:
    page = text_of(boss.get(f"{HERE}/scsi0/reassign?target-vmid=102"))
    assert '<option value="102" selected' in page
    assert '<option value="scsi" selected' in page
    values = {"target-vmid": "102", "target-disk": "virtio"}
    assert boss.post(f"{HERE}/scsi0/reassign", values).status_code == 302
    assert asked_for() == ("qmmove", {"disk": "scsi0", "target-vmid": "102", "target-disk": "virtio0"})
    VM.objects.filter(pk=other.pk).update(status=VM.Status.RUNNING)
    page = text_of(boss.get(f"{HERE}/scsi0/reassign?target-vmid=102&part=fields"))
    assert "attach the disk there afterwards" in page
    assert '<option value="virtio"' not in page
    VM.objects.filter(pk=scene.vm.pk).update(status=VM.Status.RUNNING)
    refused = boss.post(f"{HERE}/scsi0/reassign", {"target-vmid": "102", "target-disk": "unused"})
    assert (refused.status_code, "scsi0 is in use there" in text_of(refused)) == (409, True)


def test_an_image_becomes_a_disk(scene: Scene, boss: Client) -> None:
    empty = text_of(boss.get(f"{HERE}/import-disk"))
    assert "No image here yet" in empty
    Volume.objects.create(
        storage=scene.storage, node=scene.node, name="import/debian.qcow2", content="import", format="qcow2",
        size=2 * GIB,
    )  # fmt: skip
    values = {
        "source": "local:import/debian.qcow2", "storage": "local", "format": "raw", "target-disk": "scsi"
    }  # fmt: skip
    assert boss.post(f"{HERE}/import-disk", values).status_code == 302
    params = {**values, "target-disk": "scsi1"}
    assert asked_for() == ("importdisk", params)
    for source in ("/etc/shadow", "local:iso/debian.iso", ""):
        assert boss.post(f"{HERE}/import-disk", {**values, "source": source}).status_code in (403, 422)
    assert Task.objects.count() == 2


def test_who_may_not_is_told_why(scene: Scene, other: VM, second: Storage) -> None:
    """Seeing a VM is not changing it; the storage and the other VM have rights of their own."""
    looker = signed_in(person("looker", vms__101="PVEAuditor"))
    page = text_of(looker.get(f"{HERE}/scsi0/resize"))
    assert "VM.Config.Disk on this VM is missing" in page
    assert looker.post(f"{HERE}/scsi0/resize", {"increment": "1"}).status_code == 403
    admin = signed_in(person("admin101", vms__101="PVEVMAdmin"))
    assert admin.post(f"{HERE}/scsi0/resize", {"increment": "1"}).status_code == 403
    rich = signed_in(person("rich", vms__101="PVEVMAdmin", storage__local="PVEDatastoreUser"))
    assert rich.post(f"{HERE}/scsi0/resize", {"increment": "1"}).status_code == 302
    assert "second" not in text_of(rich.get(f"{HERE}/scsi0/move"))
    assert rich.post(f"{HERE}/scsi0/move", {"storage": "second", "format": "raw"}).status_code == 422
    assert "There is no other VM" in text_of(rich.get(f"{HERE}/scsi0/reassign"))
    given = rich.post(f"{HERE}/scsi0/reassign", {"target-vmid": "102", "target-disk": "unused"})
    assert given.status_code == 422


def test_a_template_and_an_efi_disk_say_why_not(scene: Scene, boss: Client) -> None:
    Disk.objects.filter(vm=scene.vm, slot="scsi0").update(slot="efidisk0")
    assert "cannot be resized" in text_of(boss.get(f"{HERE}/efidisk0/resize"))
    VM.objects.filter(pk=scene.vm.pk).update(template=True)
    page = text_of(boss.get(f"{HERE}/efidisk0/move"))
    assert "is a template" in page
    assert boss.post(f"{HERE}/efidisk0/move", {"storage": "local", "format": "raw"}).status_code == 409
