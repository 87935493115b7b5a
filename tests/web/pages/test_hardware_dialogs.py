"""Every dialog of the Hardware page as a plain page: what it shows, keeps, refuses and asks for."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from conftest import FACTS, FULL, Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.forms.dialogs import ADDITIONS, BY_KIND, GROUPS
from vms.models import VM, Node, Storage, Task
from vms.models.configuration import config_of, save_config, state_digest
from vms.models.waiting import Waiting

pytestmark = pytest.mark.django_db
HX = {"HX-Request": "true"}
MACHINES = ["pc-q35-7.2", "pc-q35-7.1", "pc-i440fx-7.2"]
ROWS = (
    *GROUPS,
    *(key for key in FULL if re.fullmatch(r"(scsi|ide|net|serial|usb|numa|hostpci|rng|audio)\d", key)),
    "watchdog",
)


@pytest.fixture
def full(scene: Scene) -> Scene:
    """VM 101 with one of everything."""
    facts = {**FACTS, "machines": MACHINES, "pci_mappings": {"card": "0000:01:00.0"}}
    Node.objects.filter(pk=scene.node.pk).update(facts=facts)
    save_config(scene.vm, FULL)
    scene.vm.refresh_from_db()
    return scene


def config(scene: Scene) -> dict[str, str]:
    return config_of(VM.objects.get(pk=scene.vm.pk))


def text_of(answer: Any) -> str:
    return unescape(answer.content.decode())


def runs(scene: Scene, **more: Any) -> None:
    """As if a QEMU process of it had been seen."""
    VM.objects.filter(pk=scene.vm.pk).update(status=VM.Status.RUNNING, **more)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_dialog_that_is_a_page(full: Scene, boss: Client, row: str) -> None:
    address = f"/vms/101/hardware/{row}/edit"
    page = text_of(boss.get(address))
    assert f'action="{address}"' in page
    assert "Edit:" in page
    assert 'name="digest"' in page
    inside = text_of(boss.get(address, headers=HX))
    assert inside.lstrip().startswith("<dialog")


@pytest.mark.parametrize("kind", [item.kind for item in ADDITIONS])
def test_everything_that_can_be_added_has_a_dialog_that_is_a_page(
    scene: Scene, boss: Client, kind: str
) -> None:
    facts = {**FACTS, "virtiofsd": "/usr/libexec/virtiofsd", "folder_mappings": {"docs": "/srv/docs"}}
    Node.objects.filter(pk=scene.node.pk).update(facts=facts)
    page = text_of(boss.get(f"/vms/101/hardware/add/{kind}"))
    assert f"Add: {BY_KIND[kind].label}" in page
    assert f'action="/vms/101/hardware/add/{kind}"' in page


def test_a_folder_is_chosen_by_its_name_where_one_has_a_name(scene: Scene, boss: Client) -> None:
    assert "This node has no virtiofsd" in text_of(boss.get("/vms/101/hardware"))
    facts = {**FACTS, "virtiofsd": "/usr/libexec/virtiofsd", "folder_mappings": {"docs": "/srv/docs"}}
    Node.objects.filter(pk=scene.node.pk).update(facts=facts)
    assert "docs (/srv/docs)" in text_of(boss.get("/vms/101/hardware/add/virtiofs"))
    boss.post("/vms/101/hardware/add/virtiofs", {"dirid": "docs"})
    assert config(scene)["virtiofs0"] == "docs"


def test_what_is_not_there_has_no_dialog(full: Scene, boss: Client) -> None:
    for path in ("add/toaster", "scsi9/edit", "efidisk0/edit", "name/edit", "memory/remove", "scsi9/remove"):
        assert boss.get(f"/vms/101/hardware/{path}").status_code == 404, path


# ---- asking


def test_an_edit_of_a_stopped_machine_is_done_at_once(full: Scene, boss: Client) -> None:
    answer = boss.post("/vms/101/hardware/memory/edit", {"memory.current": "3072", "balloon": "1024"})
    assert answer.headers["Location"] == "/vms/101/hardware"
    assert (config(full)["memory"], config(full)["balloon"]) == ("3072", "1024")
    task = Task.objects.get(type="qmconfig")
    assert task.status == Task.Status.OK
    page = text_of(boss.get("/vms/101/hardware"))
    assert "1 GiB to 3 GiB (balloon)" in page
    # The command of the next start says what the change did to it.
    assert "Your last change" in page
    assert re.search(r'is-added">.*size=3072', page) or "is-added" in page


def test_with_htmx_the_answer_is_an_echo_and_nothing_else(full: Scene, boss: Client) -> None:
    answer = boss.post("/vms/101/hardware/processors/edit", {"cores": "4"}, headers=HX)
    assert answer.status_code == 200
    assert text_of(answer).lstrip().startswith('<div class="toast')
    assert config(full)["cores"] == "4"


def test_nothing_changed_asks_for_nothing(full: Scene, boss: Client) -> None:
    page = boss.post("/vms/101/hardware/machine/edit", {"type": "q35"}, follow=True)
    assert "Nothing was changed." in text_of(page)
    assert not Task.objects.filter(type="qmconfig").exists()


def test_a_new_disk_is_asked_of_the_node(full: Scene, boss: Client) -> None:
    sent = {"bus": "virtio", "index": "1", "storage": "local", "size": "4", "format": "qcow2",
            "discard": "on", "shown": ["discard", "iothread"]}  # fmt: skip
    answer = boss.post("/vms/101/hardware/add/disk", sent, headers=HX)
    assert answer.status_code == 200, text_of(answer)
    task = Task.objects.get(type="qmconfig")
    assert task.status == Task.Status.QUEUED
    assert task.params == {"set": '{"virtio0": "local:4,discard=on,format=qcow2"}'}


@pytest.mark.parametrize(
    ("kind", "sent", "key", "text"),
    [
        ("rng", {}, "rng0", "/dev/urandom"),
        ("watchdog", {"action": "reset"}, "watchdog", "i6300esb,action=reset"),
        ("serial", {}, "serial0", "socket"),
        ("parallel", {"port": "/dev/usb/lp1"}, "parallel0", "/dev/usb/lp1"),
        ("usb", {"host": "spice"}, "usb0", "spice"),
        ("hostpci", {"mapping": "card"}, "hostpci0", "mapping=card"),
        ("audio", {"device": "AC97", "driver": "none"}, "audio0", "device=AC97,driver=none"),
        ("cdrom", {"medium": "iso", "iso_storage": "local", "iso": "local:iso/memtest.iso"}, "ide0",
         "local:iso/memtest.iso,media=cdrom,size=600M"),
        ("cdrom", {"medium": "none", "bus": "sata", "index": "3"}, "sata3", "none,media=cdrom"),
    ],
)  # fmt: skip
def test_a_device_is_added_with_its_defaults_and_what_was_chosen(
    scene: Scene, boss: Client, kind: str, sent: dict[str, str], key: str, text: str
) -> None:
    Node.objects.filter(pk=scene.node.pk).update(facts={**FACTS, "pci_mappings": {"card": "0000:01:00.0"}})
    VM.objects.filter(pk=scene.vm.pk).update(options={**scene.vm.options, "machine": "q35"})
    answer = boss.post(f"/vms/101/hardware/add/{kind}", sent)
    assert answer.status_code == 302, text_of(answer)
    assert config(scene)[key] == text


def test_a_card_gets_the_next_number_and_an_address(full: Scene, boss: Client) -> None:
    boss.post("/vms/101/hardware/add/net", {"bridge": "vmbr0", "model": "e1000", "shown": "firewall"})
    assert re.fullmatch(r"e1000=BC:24:11:[0-9A-F:]{8},bridge=vmbr0", config(full)["net1"])


def test_a_detached_disk_is_plugged_in_again_where_one_wants(full: Scene, boss: Client) -> None:
    volume = "local:101/vm-101-disk-0.qcow2"
    assert boss.post("/vms/101/hardware/scsi0/remove").status_code == 302
    found = config(full)
    assert (found["unused0"], "scsi0" in found) == (volume, False)
    page = text_of(boss.get("/vms/101/hardware/unused0/edit"))
    assert "Re-attach: Unused disk (unused0)" in page
    assert volume in page
    boss.post("/vms/101/hardware/unused0/edit", {"bus": "virtio", "index": "2", "cache": "writeback"})
    found = config(full)
    assert found["virtio2"].startswith(f"{volume},cache=writeback")
    assert "unused0" not in found


def test_a_display_on_a_serial_port_brings_the_port_along(scene: Scene, boss: Client) -> None:
    boss.post("/vms/101/hardware/vga/edit", {"type": "serial1"})
    found = config(scene)
    assert (found["vga"], found["serial1"]) == ("serial1", "socket")


def test_the_board_keeps_its_version_or_takes_the_latest(full: Scene, boss: Client) -> None:
    boss.post("/vms/101/hardware/machine/edit", {"type": "q35", "machine_version": "7.1", "viommu": "virtio"})
    assert config(full)["machine"] == "pc-q35-7.1,viommu=virtio"
    boss.post("/vms/101/hardware/machine/edit", {"type": "", "machine_version": "7.1", "viommu": ""})
    assert "machine" not in config(full)


# ---- refusing

BAD = (
    ("memory/edit", {"memory.current": "lots"}, "memory.current", "'lots' is not a whole number"),
    ("memory/edit", {"memory.current": "512", "balloon": "1024"}, "balloon", "more than the memory"),
    ("processors/edit", {"cores": "0"}, "cores", "below the smallest"),
    ("processors/edit", {"vcpus": "9"}, "vcpus", "more than sockets times cores"),
    ("machine/edit", {"type": "", "viommu": "intel"}, "viommu", "needs the q35 board"),
    ("net0/edit", {"tag": "5000"}, "tag", "above the largest"),
    ("net0/edit", {"macaddr": "01:00:00:00:00:01"}, "macaddr", "multicast"),
    ("scsi0/edit", {"mbps_rd": "fast"}, "mbps_rd", "'fast' is not a number"),
    ("scsi0/edit", {"mbps_rd_max": "50"}, "mbps_rd_max", "mbps_rd"),
    ("rng0/edit", {"period": "0"}, "period", "below the smallest"),
    ("usb0/edit", {"host": "a b"}, "host", "is not a device"),
    ("numa0/edit", {"cpus": "x"}, "cpus", "is not a list of CPUs"),
    ("ide2/edit", {"medium": "iso", "iso": ""}, "iso", "ISO image is missing"),
    ("add/disk", {"size": "-1"}, "size", "below the smallest"),
    ("add/disk", {"bus": "scsi", "index": "0"}, "index", "already in use"),
    ("add/disk", {"size": "99999"}, "size", "free on 'local'"),
    ("add/numa", {}, "cpus", "CPUs is missing"),
    ("add/usb", {}, "host", "Choose a device"),
    ("add/net", {"rate": "99999"}, "rate", "above the largest"),
)  # fmt: skip


@pytest.mark.parametrize(("path", "sent", "field", "words"), BAD)
def test_bad_input_stays_in_its_field_with_the_reason_below(
    full: Scene, boss: Client, path: str, sent: dict[str, str], field: str, words: str
) -> None:
    before = config(full)
    answer = boss.post(f"/vms/101/hardware/{path}", sent)
    page = text_of(answer)
    assert answer.status_code == 422
    place = page[page.index(f'id="field-{"bus" if field == "index" else field}"') :]
    place = place[: place.index('class="help"')]
    assert words in place
    assert 'aria-invalid="true"' in place
    assert sent.get(field, "") in place
    assert config(full) == before
    assert not Task.objects.filter(type="qmconfig").exists()


def test_what_was_typed_survives_what_the_operation_refuses(full: Scene, boss: Client) -> None:
    """The address of another machine's card: only the rows know."""
    other = VM.everything.create(vmid=102, node=full.node, stage=VM.Stage.DEFINED)
    save_config(other, {"net0": "virtio=BC:24:11:00:00:99"})
    answer = boss.post("/vms/101/hardware/net0/edit", {"macaddr": "BC:24:11:00:00:99", "rate": "7"})
    page = text_of(answer)
    assert answer.status_code == 422
    assert "BC:24:11:00:00:99" in page
    assert 'value="7"' in page
    assert "VM 102" in page


def test_somebody_else_was_faster(full: Scene, boss: Client) -> None:
    seen = state_digest(full.vm)
    boss.post("/vms/101/hardware/processors/edit", {"cores": "3"})
    sent = {"memory.current": "1024", "digest": seen}
    answer = boss.post("/vms/101/hardware/memory/edit", sent)
    page = text_of(answer)
    assert answer.status_code == 409
    assert "somebody else" in page
    assert 'value="1024"' in page
    assert config(full)["memory"] == "2048"
    # The page now carries what it was compared with: asking again is a decision.
    fresh = re.search(r'name="digest" value="([0-9a-f]{40})"', page)
    assert fresh is not None
    boss.post("/vms/101/hardware/memory/edit", {**sent, "digest": fresh[1]})
    assert config(full)["memory"] == "1024"


def test_a_rule_that_refuses_is_shown_with_its_fix(full: Scene, boss: Client) -> None:
    address = "/vms/101/hardware/bios/edit"
    answer = boss.post(address, {"bios": "ovmf"})
    page = text_of(answer)
    assert answer.status_code == 422
    rule = re.search(r'value="fix:(R5:[^"]*)"', page)
    assert rule is not None
    page = text_of(boss.post(address, {"bios": "ovmf", "go": f"fix:{rule[1]}"}))
    assert f'name="fixed" value="{rule[1]}"' in page
    answer = boss.post(address, {"bios": "ovmf", "fixed": rule[1]}, headers=HX)
    assert answer.status_code == 200, text_of(answer)
    asked = Task.objects.get(type="qmconfig").params["set"]
    assert '"bios": "ovmf"' in asked
    assert '"efidisk0": "local:1' in asked


# ---- looking without asking


def test_an_address_carries_a_dialog_half_filled_in(full: Scene, boss: Client) -> None:
    page = text_of(boss.get("/vms/101/hardware/add/disk?bus=sata&size=7&cache=writeback"))
    assert re.search(r'<option value="sata"[^>]* selected', page)
    assert 'value="7"' in page
    assert "IDE and SATA have no IO threads." in page
    assert "a power cut can lose the last seconds" in page
    assert not Task.objects.filter(type="qmconfig").exists()


def test_the_inside_alone_says_what_a_choice_does(full: Scene, boss: Client) -> None:
    inside = text_of(boss.get("/vms/101/hardware/add/net?part=fields&model=e1000&bridge=vmbr0"))
    assert "<dialog" not in inside
    assert "Only a VirtIO card can be told its MTU." in inside
    assert re.search(r'is-added">.*e1000', inside)


def test_a_field_nobody_filled_in_is_no_mistake_yet(full: Scene, boss: Client) -> None:
    assert "is missing" not in text_of(boss.get("/vms/101/hardware/add/numa"))
    assert "is missing" not in text_of(boss.get("/vms/101/hardware/add/numa?part=fields&memory=512"))


# ---- a machine that runs


def test_what_has_to_wait_says_so_before_and_after(full: Scene, boss: Client) -> None:
    runs(full, launch={"config": FULL})
    look = text_of(boss.get("/vms/101/hardware/processors/edit?part=fields&cores=4"))
    assert "this waits for its next cold start" in look
    boss.post("/vms/101/hardware/processors/edit", {"cores": "4"})
    assert config(full)["cores"] == "2"
    page = text_of(boss.get("/vms/101/hardware"))
    assert "1 change waits for a cold start." in page
    assert "after the next start: 4 (1 socket, 4 cores)" in page
    assert "Shut down and start" in page
    assert re.search(r'is-added">.*-smp', page)


def test_all_is_reverted_where_it_was_asked(full: Scene, boss: Client) -> None:
    """Without JavaScript the answer is the page the button stands on."""
    runs(full, launch={"config": FULL})
    for tab in ("options", "hardware"):
        boss.post("/vms/101/options/acpi", {"shown": "acpi"})
        page = text_of(boss.get(f"/vms/101/{tab}"))
        form = page[page.index('action="/vms/101/hardware/all/revert"') :]
        sent = {"tab": tab}
        assert f'name="tab" value="{tab}"' in form[: form.index("</form>")]
        assert boss.post("/vms/101/hardware/all/revert", sent).headers["Location"] == f"/vms/101/{tab}"
        full.vm.refresh_from_db()
        assert not full.vm.pending


def test_waiting_changes_are_reverted_one_by_one_or_all(full: Scene, boss: Client) -> None:
    runs(full, launch={"config": FULL})
    boss.post("/vms/101/hardware/processors/edit", {"cores": "4"})
    boss.post("/vms/101/hardware/bios/edit", {"bios": "seabios"})
    boss.post("/vms/101/hardware/watchdog/remove")
    full.vm.refresh_from_db()
    assert set(Waiting.of(full.vm).changes) == {"cores", "bios", "watchdog"}
    page = text_of(boss.get("/vms/101/hardware"))
    assert "3 changes wait for a cold start." in page
    assert "goes at the next start" in page
    boss.post("/vms/101/hardware/processors/revert")
    full.vm.refresh_from_db()
    assert set(Waiting.of(full.vm).changes) == {"bios", "watchdog"}
    boss.post("/vms/101/hardware/all/revert")
    full.vm.refresh_from_db()
    assert not full.vm.pending


# ---- rights

ROLES = {
    # row: the privilege that opens it, in the words of a page without it
    "memory/edit": "VM.Config.Memory", "processors/edit": "VM.Config.CPU", "vga/edit": "VM.Config.HWType",
    "bios/edit": "VM.Config.Options", "scsi0/edit": "VM.Config.Disk", "net0/edit": "VM.Config.Network",
    "add/disk": "VM.Config.Disk", "add/net": "VM.Config.Network", "add/serial": "VM.Config.HWType",
    "scsi0/remove": "VM.Config.Disk", "net0/remove": "VM.Config.Network",
}  # fmt: skip


def test_a_right_to_see_shows_why_nothing_can_be_changed(full: Scene) -> None:
    bob = signed_in(person("bob", vms="PVEAuditor", storage="PVEAdmin"))
    page = text_of(bob.get("/vms/101/hardware"))
    for path, privilege in ROLES.items():
        words = f"You may not: {privilege} on this VM is missing."
        assert words in page
        assert words in text_of(bob.get(f"/vms/101/hardware/{path}")), path
        sent = {
            "memory.current": "99",
            "cores": "9",
            "type": "std",
            "bios": "ovmf",
            "cache": "unsafe",
            "rate": "3",
        }
        answer = bob.post(f"/vms/101/hardware/{path}", sent, headers=HX)
        assert answer.status_code in (403, 422), path
    assert not Task.objects.filter(type="qmconfig").exists()


def test_a_user_of_a_machine_may_change_its_discs_only(full: Scene) -> None:
    anna = signed_in(person("anna", vms="PVEVMUser", storage="PVEDatastoreUser"))
    answer = anna.post("/vms/101/hardware/ide2/edit", {"medium": "none"})
    assert answer.status_code == 302
    assert config(full)["ide2"] == "none,media=cdrom"
    assert anna.post("/vms/101/hardware/memory/edit", {"memory.current": "99"}, headers=HX).status_code == 403


def test_a_device_of_the_node_is_for_operators(full: Scene) -> None:
    anna = signed_in(person("anna", root="Administrator"))
    assert "Only an operator may change this." in text_of(anna.get("/vms/101/hardware/add/parallel"))
    page = text_of(anna.get("/vms/101/hardware/add/hostpci"))
    assert "Only an operator may hand over a device by its own name." in page
    answer = anna.post("/vms/101/hardware/add/usb", {"host": "1234:5678"}, headers=HX)
    assert answer.status_code == 403
    assert "only an operator" in text_of(answer).lower()


def test_without_a_storage_there_is_no_disk_to_add(full: Scene, boss: Client) -> None:
    Storage.objects.update(enabled=False)
    page = text_of(boss.get("/vms/101/hardware"))
    assert "No storage takes disks of yours." in page
    assert "No storage takes disks" in text_of(boss.get("/vms/101/hardware/add/disk", follow=True))


def test_a_templates_disks_and_a_locked_machine_say_why_they_stay(full: Scene, boss: Client) -> None:
    VM.objects.filter(pk=full.vm.pk).update(template=True)
    assert "A template's disks stay as they are." in text_of(boss.get("/vms/101/hardware"))
    VM.objects.filter(pk=full.vm.pk).update(template=False, lock="backup")
    page = text_of(boss.get("/vms/101/hardware"))
    assert "The VM is locked (backup)" in page
