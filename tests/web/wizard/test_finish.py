"""Confirm and what comes after: the task, the page that follows it, failure and another try."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from tests.web.wizard.conftest import Hand, person
from vms.errors import ConfigError, StorageError
from vms.models import VM, Storage, Task
from vms.models.configuration import save_config
from vms.operations.create import store_error


def create(hand: Hand, **fields: str | None) -> Task:
    """Press Create on a finished wizard; the task that was asked for."""
    hand.to("confirm")
    response = hand.client.post(hand.url, {**hand.fields(**fields), "go": "create"})
    assert response.status_code == 303, response.content
    hand.url = response["Location"]
    return Task.objects.get(type="qmcreate")


def test_confirm_shows_choices_in_the_wizards_order_with_reasons_and_cost(hand: Hand) -> None:
    hand.next(name="web-02").to("disks").press("add").to("confirm")
    page = html.unescape(hand.html)
    order = ["General", "OS", "System", "Disks · scsi0", "Disks · scsi1", "CPU", "Memory", "Network · net0"]
    places = [page.index(f"<h2>{label}</h2>") for label in order]
    assert places == sorted(places)
    assert "<td>web-02</td>" in page
    assert '<span class="default">2048 MiB</span><span class="reason">2048 MiB boots' in page
    assert "2 GiB of 16 GiB" in page
    assert "64 GiB promised" in page
    assert "VirtIO (paravirtualized)" in page


def test_create_submits_one_task_and_shows_it_live(hand: Hand) -> None:
    task = create(hand, start="on")
    vm = VM.everything.get()
    assert (task.vm, task.params, task.status) == (vm, {"start": "1"}, "queued")
    assert vm.lock == "create"
    page = hand.client.get(hand.url).content.decode()
    assert f"Creating VM {vm.vmid}" in page
    assert f'data-topic="task-{task.pk} vm-{vm.vmid}"' in page
    task.lines.create(text="scsi0: <b>made</b>")
    part = hand.client.get(hand.url, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="creating"')
    assert "scsi0: &lt;b&gt;made&lt;/b&gt;" in part
    again = hand.client.post(hand.url, {"go": "create"})
    assert again.status_code == 200
    assert Task.objects.count() == 1


def test_the_tick_for_start_survives_the_save_it_causes(hand: Hand) -> None:
    hand.to("confirm")
    hand.change(start="on")
    assert re.search(r'name="start" checked', hand.client.get(hand.url).content.decode())
    hand.change(start=None)
    assert not re.search(r'name="start" checked', hand.client.get(hand.url).content.decode())


def test_without_start_the_task_is_not_told_to(hand: Hand) -> None:
    assert create(hand).params == {}


def test_when_it_is_there_the_page_becomes_the_machines(hand: Hand) -> None:
    create(hand)
    VM.everything.update(stage=VM.Stage.DEFINED, lock="", draft={})
    vmid = VM.everything.get().vmid
    assert hand.client.get(hand.url)["Location"] == f"/vms/{vmid}"
    response = hand.client.get(hand.url, headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Redirect"]) == (204, f"/vms/{vmid}")


def test_a_failed_create_gives_the_draft_back_with_the_error_on_its_field(hand: Hand) -> None:
    hand.next(name="web-02")
    create(hand)
    vm = VM.everything.get()
    store_error(vm, ConfigError("scsi0", "storage 'local' has 1 GiB free", part="size"))
    VM.everything.update(lock="")
    hand.open(f"/vms/create/{vm.vmid}/confirm")
    assert hand.tab == "disks"
    assert html.unescape(hand.error("size")) == "Storage 'local' has 1 GiB free."
    assert hand.config["name"] == "web-02"
    hand.next(size="8")
    assert hand.tab == "cpu"
    hand.press("tab:confirm")
    assert hand.tab == "confirm"


def test_a_failure_without_a_field_stands_on_top(hand: Hand) -> None:
    create(hand)
    vm = VM.everything.get()
    store_error(vm, StorageError("the pool is not there"))
    VM.everything.update(lock="")
    hand.open(f"/vms/create/{vm.vmid}/confirm")
    assert hand.tab == "confirm"
    assert "the pool is not there" in hand.html
    hand.press("create")
    assert Task.objects.count() == 2


def test_a_blocking_finding_holds_create_back_and_can_be_fixed(hand: Hand) -> None:
    hand.to("os").press("save", ostype_group="Microsoft Windows", medium="none")
    hand.press("undo")
    assert hand.config["ostype"] == "win11"
    hand.to("confirm")
    assert "Windows 11 and Server 2025 refuse to install without" in hand.html
    hand.press("create")
    assert not Task.objects.exists()
    hand.press("fix:R1:bios")
    config = hand.config
    assert (config["machine"], config["bios"]) == ("q35", "ovmf")
    assert config["efidisk0"].startswith("local:1,")
    assert config["tpmstate0"] == "local:1,version=v2.0"
    assert "refuse to install" not in hand.html
    hand.press("tab:system").press("tab:confirm")
    assert hand.config == config


def test_rights_are_named_where_they_are_missing(storage: Storage, hand_of: Callable[[Any], Hand]) -> None:
    anna = person("anna", vms="PVEVMAdmin", storage__local="PVEDatastoreUser")
    hand = hand_of(anna).begin()
    assert hand.config["net0"] == "virtio,firewall=1"
    hand.next(arch="aarch64")
    assert "arch" not in hand.config
    assert "Use physical CD/DVD drive" not in hand.html
    assert "Sys.Console" in hand.html
    hand.next(medium="cdrom")
    assert hand.tab == "os"
    assert "not offered" in hand.error("medium")
    hand.next(medium="none").to("cpu")
    hand.press("save", affinity="0")
    assert "affinity" not in hand.config
    create(hand)


def test_without_room_rights_there_is_no_disk_to_add(
    storage: Storage, hand_of: Callable[[Any], Hand]
) -> None:
    hand = hand_of(person("anna", vms="PVEVMAdmin")).begin()
    hand.to("disks")
    assert "No storage takes disks" in html.unescape(hand.html)
    hand.press("add").next()
    assert hand.tab == "cpu"


def test_an_id_one_may_not_use_is_refused_on_its_field(
    storage: Storage, hand_of: Callable[[Any], Hand]
) -> None:
    hand = hand_of(person("anna", vms__250="PVEVMAdmin")).begin()
    hand.next()
    assert hand.tab == "general"
    assert "VM.Allocate is missing on /vms/100" in hand.error("vmid")
    hand.next(vmid="250")
    assert hand.tab == "os"


def test_start_needs_its_own_right(storage: Storage, hand_of: Callable[[Any], Hand]) -> None:
    from vms.access import ROLES

    assert "VM.PowerMgmt" in ROLES["PVEVMAdmin"]
    user = person("anna", vms="PVEVMAdmin", storage__local="PVEDatastoreUser")
    hand = hand_of(user).begin()
    vmid = hand.vm.vmid
    hand.to("confirm")
    assert 'name="start"' in hand.html
    assert "Starting needs VM.PowerMgmt" not in hand.html
    assert vmid


def test_strangers_and_people_without_rights(
    client: Any, storage: Storage, hand_of: Callable[[Any], Hand]
) -> None:
    assert client.get("/vms/create").status_code == 302
    assert client.post("/vms/create").status_code == 302
    carl = hand_of(person("carl", vms="PVEAuditor"))
    page = carl.client.get("/vms/create")
    assert "You may not create machines" in page.content.decode()
    assert carl.client.post("/vms/create").status_code == 403
    assert not VM.everything.exists()


def test_get_changes_nothing(hand: Hand) -> None:
    hand.to("confirm")
    before = VM.everything.values().get()
    for tab in ("general", "os", "system", "disks", "cpu", "memory", "network", "confirm"):
        hand.open(f"/vms/create/{hand.vm.vmid}/{tab}")
    assert VM.everything.values().get() == before


def test_a_disk_saved_elsewhere_is_shown(hand: Hand) -> None:
    vm = hand.vm
    save_config(vm, {**hand.config, "sata1": "local:4,format=raw"})
    hand.to("disks").press("select:sata1")
    assert (hand.value("size"), hand.value("format")) == ("4", "raw")
