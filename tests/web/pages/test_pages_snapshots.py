"""The Snapshots page: the tree, what the dialogs say before anything is lost, both ways to answer them."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import GIB, Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client
from django.test.utils import CaptureQueriesContext

from vms.models import VM, Disk, Snapshot, StorageStatus, Task, Volume
from vms.views.snapshots import rows_of

pytestmark = pytest.mark.django_db
PAGE = "/vms/101/snapshots"
HTMX = {"HX-Request": "true"}


def make(scene: Scene, name: str, parent: Snapshot | None = None, **more: Any) -> Snapshot:
    config = {"cores": "1", "memory": "2048", "scsi0": "local:101/vm-101-disk-0.qcow2,size=32G"}
    return Snapshot.objects.create(vm=scene.vm, name=name, parent=parent, config=config, **more)


def run(scene: Scene, **more: Any) -> None:
    VM.everything.filter(pk=scene.vm.pk).update(status="running", **more)


def drawn(scene: Scene, user: Any) -> list[tuple[str, tuple[str, ...], bool, bool]]:
    scene.vm.refresh_from_db()
    return [(row.entry.name, row.twigs, row.up, row.down) for row in rows_of(user, scene.vm)]


def test_an_empty_page_says_what_to_do(boss: Client, scene: Scene) -> None:
    text = boss.get(PAGE).content.decode()
    assert "No snapshots yet" in text
    assert 'href="/vms/101/snapshots/take"' in text
    assert 'aria-current="page">Snapshots<' in text


def test_a_chain_stands_in_one_column_and_branches_beside_it(scene: Scene, operator: Any) -> None:
    one = make(scene, "one")
    two = make(scene, "two", one)
    make(scene, "left", two)
    right = make(scene, "right", two)
    VM.everything.filter(pk=scene.vm.pk).update(parent=right)
    assert drawn(scene, operator) == [
        ("one", (), False, True),
        ("two", (), True, True),
        ("left", ("tee",), False, False),
        ("right", ("corner",), False, True),
        ("current", ("",), True, False),
    ]
    VM.everything.filter(pk=scene.vm.pk).update(parent=one)
    assert [line[1] for line in drawn(scene, operator)] == [
        (),
        ("tee",),
        ("line", "tee"),
        ("line", "corner"),
        ("corner",),
    ]


def test_the_page_costs_the_same_however_many(
    boss: Client, scene: Scene, django_assert_max_num_queries: Any
) -> None:
    parent = None
    for number in range(3):
        parent = make(scene, f"snap{number}", parent)
    boss.get(PAGE)
    with django_assert_max_num_queries(60) as few:
        boss.get(PAGE)
    for number in range(3, 40):
        parent = make(scene, f"snap{number}", parent)
    assert isinstance(few, CaptureQueriesContext)
    with django_assert_max_num_queries(len(few.captured_queries)):
        assert "snap39" in boss.get(f"{PAGE}?part=rows").content.decode()


def test_the_question_says_what_it_costs(boss: Client, scene: Scene) -> None:
    """Memory only for a guest that runs; what is kept and what is left out."""
    text = boss.get(f"{PAGE}/take", headers=HTMX).content.decode()
    assert "Include RAM" not in text
    assert "<td>scsi0</td>" in text
    assert "ide2" in text
    run(scene)
    text = boss.get(f"{PAGE}/take", headers=HTMX).content.decode()
    assert 'name="vmstate" value="1" checked' in text
    assert "Takes up to 2.1 GiB on local (60 GiB free)" in text
    assert "stands still for about" in text
    assert "makes the guest finish its writes first" in text
    StorageStatus.objects.update(available=GIB)
    text = boss.get(f"{PAGE}/take", headers=HTMX).content.decode()
    assert 'value="1" disabled' in text
    assert "has no room for the memory" in text
    VM.everything.filter(pk=scene.vm.pk).update(options={"hostpci0": "0000:01:00.0"})
    assert "with: hostpci0" in boss.get(f"{PAGE}/take", headers=HTMX).content.decode()


def test_a_raw_disk_is_named_beforehand(boss: Client, scene: Scene) -> None:
    raw = Volume.objects.create(
        storage=scene.storage, node=scene.node, name="101/vm-101-disk-1.raw", content="images", format="raw",
        size=GIB, vmid=101,
    )  # fmt: skip
    Disk.objects.create(vm=scene.vm, slot="scsi1", volume=raw, storage=scene.storage, size=GIB)
    text = boss.get(f"{PAGE}/take").content.decode()
    assert "No snapshot is possible" in text
    assert "<strong>scsi1</strong>" in text
    assert 'aria-disabled="true" title="A disk cannot be part of it."' in text
    assert boss.post(f"{PAGE}/take", {"snapname": "one"}).status_code == 422


def test_asked_for_with_and_without_a_script(boss: Client, scene: Scene) -> None:
    answer = boss.post(f"{PAGE}/take", {"snapname": "one", "description": "two\r\nlines"})
    assert (answer.status_code, answer.headers["Location"]) == (302, PAGE)
    task = Task.objects.get(type="qmsnapshot")
    assert task.params == {"snapname": "one", "description": "two\r\nlines"}
    Task.objects.filter(pk=task.pk).update(status="ok")
    VM.everything.update(lock="")
    answer = boss.post(f"{PAGE}/take", {"snapname": "1st"})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "is no name for a snapshot" in text
    assert 'value="1st"' in text
    answer = boss.post(f"{PAGE}/take", {"snapname": "two"}, headers=HTMX)
    assert "Snapshot two: requested." in answer.content.decode()


def test_what_a_rollback_takes_away(boss: Client, scene: Scene) -> None:
    one = make(scene, "one", description="fresh")
    make(scene, "two", one)
    run(scene, pending={"cores": "4"})
    text = boss.get(f"{PAGE}/one/rollback", headers=HTMX).content.decode()
    assert "What waits for the next start is dropped: cores." in text
    assert "What came after it is lost" in text
    assert "Everything written since to scsi0." in text
    assert "switched off at once" in text
    assert "1 later snapshot stays" in text
    assert ">cores</th>" in text
    assert 'name="start"' in text
    state = Volume.objects.create(
        storage=scene.storage, node=scene.node, name="101/vm-101-state-one.raw", content="images",
        format="raw", size=GIB, vmid=101,
    )  # fmt: skip
    Snapshot.objects.filter(pk=one.pk).update(vmstate=state)
    text = boss.get(f"{PAGE}/one/rollback").content.decode()
    assert "goes on from that moment" in text
    assert 'name="start"' not in text
    text = boss.get(f"{PAGE}/one/remove").content.decode()
    assert "two comes from the beginning then" in text
    assert "Frees 1 GiB of saved memory" in text


def test_done_with_one(boss: Client, scene: Scene) -> None:
    make(scene, "one")
    boss.post(f"{PAGE}/one/edit", {"description": " new\r\nwords "})
    assert Snapshot.objects.get().description == "new\nwords"
    answer = boss.post(f"{PAGE}/one/remove", headers=HTMX)
    assert "Delete snapshot one of 101 (web-01): requested." in answer.content.decode()
    answer = boss.post(f"{PAGE}/one/rollback", {"start": "1"}, headers=HTMX)
    assert answer.status_code == 422
    assert "is locked (snapshot-delete)" in answer.content.decode()
    assert boss.get(f"{PAGE}/no/rollback").status_code == 404
    assert boss.get(f"{PAGE}/one/fly").status_code == 404


def test_rights(scene: Scene) -> None:
    """Going back has a privilege of its own; looking is no right to do."""
    make(scene, "one")
    bob = signed_in(person("bob", vms__101="PVEVMUser"))
    text = bob.get(PAGE).content.decode()
    assert "VM.Snapshot or VM.Snapshot.Rollback on this VM is missing" in text
    for address, data in (
        ("take", {"snapname": "two"}),
        ("one/rollback", {}),
        ("one/remove", {}),
        ("one/edit", {}),
    ):
        assert bob.post(f"{PAGE}/{address}", data, headers=HTMX).status_code == 403


def test_an_operators_option_does_not_come_back_by_a_user(scene: Scene) -> None:
    make(scene, "one")
    Snapshot.objects.update(config={"memory": "2048", "args": "-device evil"})
    anna = signed_in(person("anna", vms__101="PVEVMAdmin"))
    answer = anna.post(f"{PAGE}/one/rollback", headers=HTMX)
    assert answer.status_code == 403
    assert "only an operator may bring back" in answer.content.decode().lower()
