"""Many VMs at once: the preview says what happens to each, and only what can happen is asked for."""

from __future__ import annotations

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.models import VM, Task

pytestmark = pytest.mark.django_db


def test_the_preview_says_what_happens_to_each_and_asks_nothing(boss: Client, scene: Scene) -> None:
    scene.add_vms(2)
    VM.objects.filter(vmid=200).update(status="running")
    VM.objects.filter(vmid=201).update(template=True)
    text = boss.get("/vms/bulk?verb=start&vm=101&vm=200&vm=201&vm=9999&vm=x").content.decode()
    assert "Start 1 VM" in text
    assert "Nothing: The VM runs already." in text
    assert "Nothing: A template is never started." in text
    assert "2 of the selection stay as they are" in text
    assert not Task.objects.filter(type="qmstart", status="queued").exists()


def test_it_asks_for_those_that_can(boss: Client, scene: Scene) -> None:
    scene.add_vms(3)
    VM.objects.filter(vmid=200).update(status="running")
    VM.objects.filter(vmid=201).update(status="running", lock="backup")
    answer = boss.post("/vms/bulk", {"verb": "shutdown", "vm": ["200", "201", "202"], "forceStop": "1"})
    assert answer.status_code == 302
    task = Task.objects.get(type="qmshutdown")
    assert (task.vmid, task.params) == (200, {"forceStop": "1"})


def test_a_verb_that_is_not_for_many_is_no_page(boss: Client, scene: Scene) -> None:
    assert boss.get("/vms/bulk?verb=destroy&vm=101").status_code == 404
    assert boss.post("/vms/bulk", {"verb": "nonsense", "vm": "101"}).status_code == 404


def test_only_ones_own(scene: Scene) -> None:
    scene.add_vms(1)
    bob = signed_in(person("bob", vms__200="PVEVMUser"))
    text = bob.get("/vms/bulk?verb=start&vm=101&vm=200").content.decode()
    assert "app-200" in text
    assert "web-01" not in text
    bob.post("/vms/bulk", {"verb": "start", "vm": ["101", "200"]})
    assert list(Task.objects.filter(type="qmstart", status="queued").values_list("vmid", flat=True)) == [200]


def test_no_query_a_row(boss: Client, scene: Scene, django_assert_max_num_queries: object) -> None:
    scene.add_vms(60)
    query = "&".join(f"vm={vmid}" for vmid in range(200, 260))
    with django_assert_max_num_queries(15):  # type: ignore[operator]
        assert b"app-259" in boss.get(f"/vms/bulk?verb=start&{query}").content


def test_the_menu_of_the_tree_has_the_same_verbs(boss: Client, scene: Scene) -> None:
    text = boss.get("/vms/101/menu").content.decode()
    for label in ("Start", "Shutdown", "Reboot", "Pause", "Stop", "Reset", "Console", "Remove"):
        assert label in text
    assert "The VM is not running." in text


def test_the_head_says_what_is_being_done_and_whom_a_task_waits_for(boss: Client, scene: Scene) -> None:
    VM.objects.filter(vmid=101).update(lock="backup")
    Task.objects.create(
        type="vzdump", node=scene.node, vm=scene.vm, vmid=101, label="Backup 101 (web-01)", username="anna",
        status="running", progress=0.4, message="scsi0",
    )  # fmt: skip
    text = boss.get("/vms/101?part=head").content.decode()
    assert "Backup 101 (web-01)" in text
    assert "40 %" in text
    assert "Cancel" in text
    assert "locked (backup) by &#x27;Backup 101 (web-01)&#x27;, started by anna" in text


def test_a_question_offers_what_the_verb_can_be_told(boss: Client, scene: Scene) -> None:
    VM.objects.filter(vmid=101).update(status="running")
    text = boss.get("/vms/101/ask/shutdown").content.decode()
    assert 'name="timeout"' in text
    assert 'name="forceStop"' in text
    boss.post("/vms/101/do/shutdown", {"timeout": "5", "forceStop": "1"})
    assert Task.objects.get(type="qmshutdown").params == {"timeout": "5", "forceStop": "1"}
