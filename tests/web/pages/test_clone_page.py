"""The clone dialog, its page without JavaScript, and who may clone what to where."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.models import VM, AclEntry, Disk, Nic, Snapshot, Storage, Task, Volume
from vms.models.configuration import config_of, save_config

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def template(scene: Scene) -> VM:
    """VM 101 as a template: its disk is a base, its card is on a bridge."""
    Volume.objects.filter(vmid=101).update(name="101/base-101-disk-0.qcow2")
    Disk.objects.filter(vm=scene.vm, slot="ide2").delete()
    save_config(
        scene.vm, config_of(scene.vm) | {"template": "1", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}
    )
    return scene.vm


def read(client: Client, address: str, **more: Any) -> str:
    answer = client.get(address, **more)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def test_a_template_has_clones_and_nothing_that_runs(template: VM, boss: Client) -> None:
    text = read(boss, "/vms/101")
    assert "Template" in text
    assert 'href="/vms/101/clone"' in text
    for word in ("Shutdown", "/vms/101/console", "Convert to template", ">Start<"):
        assert word not in text, word
    menu = read(boss, "/vms/101/menu")
    assert "Clone" in menu
    assert "Shutdown" not in menu
    assert "icons.svg" in text
    assert "#template" in read(boss, "/tree")


def test_the_dialog_and_the_page_ask_the_same(template: VM, boss: Client) -> None:
    page, dialog = read(boss, "/vms/101/clone"), read(boss, "/vms/101/clone", headers=HTMX)
    assert "<dialog" in dialog
    assert "<dialog class" not in page.split("<main")[1].split("</main>")[0]
    for text in (page, dialog):
        for word in (
            "Linked clone",
            "Full clone",
            "Target storage",
            "60 GiB",
            "Copy-of-VM-web-01",
            'value="100"',
        ):
            assert word in text, word
        assert 'value="linked" checked' in text


def test_only_templates_have_linked_clones(scene: Scene, boss: Client) -> None:
    Snapshot.objects.create(vm=scene.vm, name="before", config=config_of(scene.vm))
    text = read(boss, "/vms/101/clone")
    assert "Only a template has linked clones." in text
    assert 'value="full" checked' in text
    assert '<option value="before">' in text
    assert "It has snapshots. Delete them first." in read(boss, "/vms/101")


def test_a_clone_is_asked_for_and_watched(template: VM, boss: Client) -> None:
    answer = boss.post(
        "/vms/101/clone",
        {"mode": "linked", "newid": "120", "name": "twin", "storage": "local", "format": "raw", "start": "1"},
    )
    task = Task.objects.get(type="qmclone")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/clones/{task.pk}")
    assert task.params == {"name": "twin", "start": "1", "full": "0", "clone-of": "101"}
    assert task.label == "Clone 101 (web-01) to 120"
    target = VM.everything.get(vmid=120)
    assert (target.stage, target.lock, target.draft) == ("draft", "clone", {"only_for": task.pk})
    assert "120" not in read(boss, "/tree")
    assert "Drafts to resume" not in read(boss, "/vms/create")
    assert "Clone 101 (web-01) to 120" in read(boss, f"/clones/{task.pk}")
    VM.everything.filter(pk=target.pk).update(stage="defined", lock="")
    Task.objects.filter(pk=task.pk).update(status="ok")
    assert boss.get(f"/clones/{task.pk}").headers["Location"] == "/vms/120"
    assert boss.get(f"/clones/{task.pk}", headers=HTMX).headers["HX-Redirect"] == "/vms/120"
    seed = Volume.objects.create(
        storage=Storage.objects.get(), node=target.node, name="120/vm-120-cloudinit.qcow2", content="images",
        format="qcow2", vmid=120,
    )  # fmt: skip
    Disk.objects.create(vm=target, slot="ide2", volume=seed, media="cdrom")
    assert boss.get(f"/clones/{task.pk}").headers["Location"] == "/vms/120/cloudinit"
    VM.objects.filter(pk=target.pk).update(status="running")
    Task.objects.filter(pk=task.pk).update(status="running")
    assert boss.get(f"/clones/{task.pk}").headers["Location"] == "/vms/120"


def test_a_clone_that_failed_says_why_and_how_to_go_on(template: VM, boss: Client) -> None:
    boss.post("/vms/101/clone", {"mode": "full", "name": "twin", "storage": "local"})
    task = Task.objects.get(type="qmclone")
    Task.objects.filter(pk=task.pk).update(status="error", message="clone failed: scsi0: no room")
    text = read(boss, f"/clones/{task.pk}")
    assert "clone failed: scsi0: no room" in text
    assert "/vms/101/clone?name=twin&amp;mode=full&amp;storage=local" in text
    assert 'value="twin"' in read(boss, "/vms/101/clone?name=twin&mode=full&storage=local")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mode": "linked", "newid": "101"}, "VM 101 already exists; the next free ID is 100"),
        ({"mode": "linked", "newid": "7"}, "7 is not between 100 and 999999999"),
        ({"mode": "linked", "newid": "x"}, "&#x27;x&#x27; is no VM ID"),
        ({"mode": "linked", "name": "a b"}, "a b"),
        ({"mode": "full", "storage": "nowhere"}, "nowhere"),
        ({"mode": "full", "pool": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_is_said_on_its_field(
    template: VM, boss: Client, data: dict[str, str], words: str
) -> None:
    for headers in ({}, HTMX):
        answer = boss.post("/vms/101/clone", data, headers=headers)
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert ("<form" in answer.content.decode()) == (not headers)
    assert VM.everything.count() == 1
    assert not Task.objects.filter(type="qmclone").exists()


RIGHTS = {
    "vms__101": "PVETemplateUser", "vms": "PVEVMAdmin", "storage__local": "PVEDatastoreUser",
    "sdn__zones__localnetwork__vmbr0": "PVESDNUser",
}  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("vms__101", "(/vms/101, VM.Clone)"),
        ("vms", "(/vms/120, VM.Allocate)"),
        ("storage__local", "(/storage/local, Datastore.AllocateSpace)"),
        ("sdn__zones__localnetwork__vmbr0", "(/sdn/zones/localnetwork/vmbr0, SDN.Use)"),
    ],
)
def test_each_right_is_needed(template: VM, missing: str, words: str) -> None:
    rights = RIGHTS | {missing: "PVEAuditor"}
    if missing == "vms":
        rights["pool__dev"] = "PVEVMAdmin"  # somewhere, but not there
    anna = signed_in(person("anna", **rights))
    answer = anna.post("/vms/101/clone", {"mode": "linked", "newid": "120"}, headers=HTMX)
    assert answer.status_code == 403
    assert words in answer.content.decode()
    assert not VM.everything.filter(vmid=120).exists()


def test_the_rights_together_suffice(template: VM) -> None:
    anna = signed_in(person("anna", **RIGHTS))
    assert anna.post("/vms/101/clone", {"mode": "linked", "newid": "120"}).status_code == 302
    assert VM.everything.get(vmid=120).owner.username == "anna"


def test_a_clone_is_no_door_to_what_is_an_operators(template: VM) -> None:
    save_config(template, config_of(template) | {"hostpci0": "0000:01:00.0"})
    anna = signed_in(person("anna", **RIGHTS))
    answer = anna.post("/vms/101/clone", {"mode": "linked", "newid": "120"}, headers=HTMX)
    assert answer.status_code == 403
    assert "Only an operator may clone a VM with" in answer.content.decode()


@pytest.fixture
def warm(template: VM, scene: Scene) -> VM:
    """The template, with saved memory that fits it."""
    from vms.config.warmth import lean, node_words, shape
    from vms.hardware.context import NodeFacts

    state = Volume.objects.create(
        storage=scene.storage, node=scene.node, name="101/vm-101-state-warm.raw", content="images",
        format="raw", size=120 << 20, vmid=101,
    )  # fmt: skip
    save_config(template, config_of(template) | {"vmgenid": "6cf17dc3-8341-4ecc-aebd-7503f2583fb4"})
    saved = {
        "runningmachine": "pc-q35-7.2", "runningcpu": "qemu64", "at": "2026-11-21T10:00:00+00:00",
        "size": 120 << 20, "disks": {"scsi0": "local:101/base-101-disk-0.qcow2/101/base-101-disk-1.qcow2"},
        "shape": shape(lean(config_of(template))), "node": node_words(NodeFacts.from_json(scene.node.facts)),
    }  # fmt: skip
    VM.objects.filter(pk=template.pk).update(vmstate=state, saved=saved)
    template.refresh_from_db()
    return template


def test_a_warm_template_says_so_everywhere(warm: VM, boss: Client) -> None:
    page = read(boss, "/vms/101")
    for words in ("Warm state", "120 MiB", "a clone runs in under a second", "/vms/101/ask/cool"):
        assert words in page, words
    assert 'value="warm" checked' in read(boss, "/vms/101/clone")
    assert "A clone runs at once and does not boot" in read(boss, "/vms/create")
    save_config(warm, config_of(warm) | {"cores": "4"})
    assert "cores changed since it was saved." in read(boss, "/vms/101")
    text = read(boss, "/vms/101/clone")
    assert "The saved memory no longer fits: cores changed since it was saved." in text
    assert 'value="linked" checked' in text
    answer = boss.post("/vms/101/clone", {"mode": "warm"}, headers=HTMX)
    assert answer.status_code == 422
    assert "does not fit any more" in answer.content.decode()


def test_a_template_that_cannot_be_warm_says_why(template: VM, boss: Client) -> None:
    page = read(boss, "/vms/101")
    assert "vmgenid: is off: clones would go on with the same random numbers" in page
    answer = boss.post("/vms/101/do/warm", headers=HTMX)
    assert answer.status_code == 409
    save_config(template, config_of(template) | {"vmgenid": "6cf17dc3-8341-4ecc-aebd-7503f2583fb4"})
    assert "/vms/101/ask/warm" in read(boss, "/vms/101")
    assert boss.post("/vms/101/do/warm", {"timeout": "60"}).status_code == 302
    assert Task.objects.get(type="qmwarm").params == {"timeout": "60"}


def test_the_wizard_offers_templates_one_may_clone(template: VM, scene: Scene) -> None:
    scene.add_vms(1)
    VM.objects.filter(vmid=200).update(template=True)
    AclEntry.objects.all().delete()
    anna = signed_in(
        person("anna", vms__101="PVETemplateUser", vms__200="PVEAuditor", pool__dev="PVEVMAdmin")
    )
    text = read(anna, "/vms/create")
    assert "From a template" in text
    assert 'href="/vms/101/clone"' in text
    assert 'href="/vms/200/clone"' not in text
    assert "32 GiB" in text


def test_the_wizards_first_step_asks_no_query_a_template(
    template: VM, scene: Scene, boss: Client, django_assert_max_num_queries: Any
) -> None:
    read(boss, "/vms/create")
    with django_assert_max_num_queries(40) as few:
        read(boss, "/vms/create")
    scene.add_vms(5)
    VM.objects.filter(vmid__gte=200).update(template=True)
    with django_assert_max_num_queries(len(few)):
        read(boss, "/vms/create")


def test_another_storage_is_checked_before_anything(template: VM, boss: Client) -> None:
    Storage.objects.create(name="isos", path="/nowhere", content=["iso"])
    answer = boss.post("/vms/101/clone", {"mode": "full", "storage": "isos"}, headers=HTMX)
    assert "takes no disk images" in answer.content.decode()
    assert Nic.objects.count() == 1
