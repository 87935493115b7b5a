"""The trash page: what is in it, the typed number, and whose VMs one sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client
from django.utils import timezone

from vms.models import VM, Snapshot, Task, Volume

pytestmark = pytest.mark.django_db
HX = {"HX-Request": "true"}


@pytest.fixture
def thrown(scene: Scene) -> VM:
    now = timezone.now()
    VM.everything.filter(pk=scene.vm.pk).update(
        stage="trash", trash={"by": "anna", "at": now.isoformat()}, purge_after=now + timedelta(days=7)
    )
    return VM.everything.get(pk=scene.vm.pk)


def test_the_list_says_who_when_and_how_much(boss: Client, thrown: VM) -> None:
    text = boss.get("/trash").content.decode()
    for word in ("web-01", "anna", "32 GiB", "Restore", "Remove for good"):
        assert word in text
    assert "web-01" not in boss.get("/tree").content.decode()
    front = boss.get("/").content.decode()
    assert "Trash (1)" in front
    assert boss.get("/vms/101").status_code == 404


def test_restore_asks_for_the_task(boss: Client, thrown: VM) -> None:
    answer = boss.post("/trash/101/restore", headers=HX)
    assert "Restore from trash 101 (web-01): requested." in answer.content.decode()
    assert Task.objects.filter(type="qmundestroy", vmid=101).exists()


@pytest.mark.parametrize("typed", ["", "102", "web-01", "101 101"])
def test_a_wrong_number_removes_nothing(boss: Client, thrown: VM, typed: str) -> None:
    answer = boss.post("/trash/101/remove-now", {"confirm": typed}, headers=HX)
    assert answer.status_code == 422
    assert "Nothing was removed: type 101 to confirm." in answer.content.decode()
    assert not Task.objects.filter(type="qmpurge").exists()


def test_the_question_lists_what_goes(boss: Client, thrown: VM) -> None:
    Snapshot.objects.create(vm=thrown, name="before")
    text = boss.get("/trash/101/remove").content.decode()
    for word in ("local:101/vm-101-disk-0.qcow2", "32 GiB", "1 snapshot goes too", "cannot be undone"):
        assert word in text
    assert boss.post("/trash/101/remove-now", {"confirm": "101"}).status_code == 302
    assert Task.objects.filter(type="qmpurge", vmid=101).exists()


def test_seeing_is_not_restoring(thrown: VM) -> None:
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    assert "You may not: VM.Allocate on this VM is missing." in bob.get("/trash").content.decode()
    assert bob.post("/trash/101/restore", headers=HX).status_code == 403
    stranger = signed_in(person("eve"))
    assert "web-01" not in stranger.get("/trash").content.decode()
    assert stranger.post("/trash/101/restore").status_code == 404


def test_the_destroy_dialog_speaks_of_the_trash(boss: Client, scene: Scene) -> None:
    Snapshot.objects.create(vm=scene.vm, name="before")
    text = boss.get("/vms/101/ask/destroy").content.decode()
    assert "restored for 7 days" in text
    assert "Remove for good now" in text
    assert "before" in text


def test_backups_are_listed_and_stay(boss: Client, scene: Scene) -> None:
    """Before it goes to the trash and before it goes for good; only to whom they concern."""
    name = "backup/vzdump-qemu-101-2026_11_27-02_00_05.tar.zst"
    Volume.objects.create(
        storage=scene.storage, node=scene.node, name=name, content="backup", format="tar.zst", vmid=101,
        size=3 << 30, made=datetime(2026, 11, 27, 2, 0, 5, tzinfo=UTC),
    )  # fmt: skip
    bob = signed_in(person("bob", vms="PVEVMAdmin"))
    for stage, page in (("defined", "/vms/101/ask/destroy"), ("trash", "/trash/101/remove")):
        VM.everything.filter(vmid=101).update(stage=stage)
        text = boss.get(page).content.decode()
        for words in ("Its 1 backup stays", "local", "3 GiB", "2026-11-27"):
            assert words in text, (page, words)
        assert "1 backup stays" not in bob.get(page).content.decode()
