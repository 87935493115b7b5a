"""Bad input: a clear error on its field, what was typed kept, nothing else lost."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest

from tests.web.wizard.conftest import Hand
from vms.models import VM, Nic, Node, Storage, StorageStatus, Volume

HOSTILE = ["a,b", "web\n01", "x,file=/etc/shadow", "ünïcodé" * 600]


def stays(hand: Hand, tab: str, field: str, typed: str, words: str) -> None:
    """The tab is still there, the field holds what was typed, and says what is wrong."""
    assert hand.tab == tab
    assert words in html.unescape(hand.error(field)), (hand.error(field), words)
    assert hand.value(field).replace("\r", "") == typed
    hand.open(hand.url)
    assert words in html.unescape(hand.error(field))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("99", "below the smallest allowed value, 100"),
        ("1000000000", "above the largest allowed value, 999999999"),
        ("abc", "not a whole number"),
        ("", "VM ID is missing"),
    ],
)
def test_vm_id(hand: Hand, typed: str, words: str) -> None:
    old = hand.vm.vmid
    hand.next(vmid=typed, name="web-02")
    assert hand.tab == "general"
    assert words in hand.error("vmid")
    assert VM.everything.get().vmid == old
    assert hand.config["name"] == "web-02"


def test_vm_id_taken_since_the_page_opened(hand: Hand, node: Node) -> None:
    VM.everything.create(vmid=250, node=node, stage=VM.Stage.DEFINED)
    hand.next(vmid="250", name="web-02")
    stays(hand, "general", "vmid", "250", "VM 250 already exists; the next free ID is 101")
    assert hand.config["name"] == "web-02"
    hand.next(vmid="251")
    assert hand.tab == "os"
    assert hand.vm.vmid == 251


@pytest.mark.parametrize("typed", ["web_01", "-web", "web 1", "a..b", *HOSTILE])
def test_name(hand: Hand, typed: str) -> None:
    hand.next(name=typed, tags="prod")
    assert hand.tab == "general"
    assert hand.error("name")
    assert hand.value("name").replace("\r", "") == typed
    assert "name" not in hand.config
    assert hand.config["tags"] == "prod"


def test_name_with_underscore_says_what_to_do(hand: Hand) -> None:
    hand.next(name="web_01")
    stays(hand, "general", "name", "web_01", "'_' is not allowed, use '-'")


TEXT_FIELDS = [
    ("general", "startup.order"),
    ("general", "tags"),
    ("disks", "size"),
    ("disks", "mbps_rd"),
    ("disks", "iops_wr_max"),
    ("disks", "index"),
    ("cpu", "cores"),
    ("cpu", "affinity"),
    ("cpu", "cpulimit"),
    ("memory", "memory.current"),
    ("memory", "balloon"),
    ("network", "tag"),
    ("network", "macaddr"),
    ("network", "rate"),
    ("network", "mtu"),
]


@pytest.mark.parametrize(("tab", "field"), TEXT_FIELDS)
def test_every_text_field_refuses_hostile_text(hand: Hand, tab: str, field: str) -> None:
    hand.to(tab)
    before = hand.config
    for typed in HOSTILE:
        if field == "tags" and typed == "a,b":
            continue
        hand.next(**{field: typed})
        assert hand.tab == tab, typed[:20]
        assert hand.error(field), typed[:20]
        assert hand.value(field).replace("\r", "") == typed
        assert hand.config == before
    assert "shadow" not in str(hand.config)


@pytest.mark.parametrize(
    ("tab", "field"),
    [
        ("general", "arch"),
        ("general", "pool"),
        ("general", "node"),
        ("os", "ostype"),
        ("os", "iso"),
        ("system", "vga.type"),
        ("system", "scsihw"),
        ("system", "bios"),
        ("disks", "storage"),
        ("disks", "format"),
        ("disks", "cache"),
        ("disks", "bus"),
        ("cpu", "cpu.cputype"),
        ("network", "model"),
        ("network", "bridge"),
    ],
)
def test_choices_take_only_what_is_offered(hand: Hand, iso: Volume, tab: str, field: str) -> None:
    hand.to(tab)
    before = hand.config
    response = hand.client.post(hand.url, {**hand.fields(), field: ["x,file=/etc/shadow"], "go": "next"})
    assert response.status_code == 303
    assert "shadow" not in str(hand.vm.disks.values_list("source", "options"))
    after = hand.config
    if field != "ostype":
        assert response["Location"].partition("?")[0].endswith(tab)
    assert after == before


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("0", "below the smallest allowed value"),
        ("1000000000", "above the largest allowed value, 131072 GiB"),
        ("101", "101 GiB is more than the 100 GiB free on 'local'"),
        ("", "Disk size (GiB) is missing"),
        ("-5", "below the smallest allowed value"),
    ],
)
def test_disk_size(hand: Hand, typed: str, words: str) -> None:
    hand.to("disks").next(size=typed, cache="writeback")
    stays(hand, "disks", "size", typed, words)
    assert "cache=writeback" in hand.config["scsi0"]
    hand.next(size="20")
    assert hand.tab == "cpu"
    assert hand.config["scsi0"].startswith("local:20,")


def test_two_disks_in_one_slot(hand: Hand) -> None:
    hand.to("disks").press("add")
    hand.next(index="0", size="5")
    stays(hand, "disks", "index", "0", "This device is already in use: scsi0. scsi2 is free.")
    assert hand.config["scsi1"].startswith("local:5,")
    assert hand.config["scsi0"].startswith("local:32,")
    hand.next(index="3")
    assert hand.tab == "cpu"
    assert {"scsi0", "scsi3"} <= set(hand.config)
    assert "scsi1" not in hand.config


def test_a_disk_where_the_cd_drive_is(hand: Hand) -> None:
    hand.to("disks").next(bus="ide", index="2")
    assert "already in use: ide2" in hand.error("index")


def test_a_number_the_bus_does_not_have(hand: Hand) -> None:
    hand.to("disks").next(bus="sata", index="6")
    assert hand.error("index") == "SATA has the places 0 to 5; 6 is not one of them."


def test_a_burst_without_its_limit(hand: Hand) -> None:
    hand.to("disks").next(mbps_wr_max="100", size="8")
    assert hand.tab == "disks"
    assert "burst needs its limit" in hand.error("mbps_wr_max")
    assert hand.value("mbps_wr_max") == "100"
    assert hand.config["scsi0"].startswith("local:8,")


def test_mac_twice_in_this_machine(hand: Hand) -> None:
    hand.to("network").press("save", macaddr="BC:24:11:00:00:01")
    hand.press("add")
    hand.next(macaddr="bc:24:11:00:00:01", tag="9")
    assert hand.tab == "network"
    assert "already the address of net0" in hand.error("macaddr")
    assert hand.value("macaddr").upper() == "BC:24:11:00:00:01"
    assert "tag=9" in hand.config["net1"]
    hand.next(macaddr="")
    assert hand.tab == "confirm"


def test_mac_of_another_machine(hand: Hand, node: Node) -> None:
    other = VM.everything.create(vmid=500, node=node, stage=VM.Stage.DEFINED)
    Nic.objects.create(vm=other, slot="net0", mac="BC:24:11:00:00:09")
    hand.to("network").next(macaddr="BC:24:11:00:00:09", tag="9")
    stays(hand, "network", "macaddr", "BC:24:11:00:00:09", "already used by net0 of VM 500")
    assert "tag" not in hand.error("tag")
    hand.next(macaddr="")
    assert hand.tab == "confirm"


@pytest.mark.parametrize("typed", ["BC:24:11", "01:00:00:00:00:01", "zz:zz:zz:zz:zz:zz"])
def test_mac(hand: Hand, typed: str) -> None:
    hand.to("network").next(macaddr=typed)
    assert hand.error("macaddr")
    assert hand.value("macaddr") == typed


def test_an_iso_that_vanished(hand: Hand, iso: Volume) -> None:
    hand.to("os").next(iso="local:iso/debian.iso")
    Volume.objects.filter(pk=iso.pk).update(present=False)
    hand.open(f"/vms/create/{hand.vm.vmid}/confirm")
    assert hand.tab == "os"
    assert "'debian.iso' is no longer on storage 'local'" in html.unescape(hand.error("iso"))
    assert hand.value("iso") == "local:iso/debian.iso"
    Volume.objects.filter(pk=iso.pk).update(present=True)
    hand.open(hand.url)
    assert hand.error("iso") == ""


def test_a_storage_that_filled_up_meanwhile(hand: Hand, node: Node) -> None:
    hand.to("confirm")
    StorageStatus.objects.update(available=1 << 30)
    hand.press("create")
    assert hand.tab == "disks"
    assert "more than the 1 GiB free" in hand.error("size")
    assert VM.everything.get().stage == VM.Stage.DRAFT


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"cores": "0"}, "cores", "below the smallest"),
        ({"cores": "257"}, "cores", "more than 256"),
        ({"vcpus": "2"}, "vcpus", "more than sockets times cores, which is 1"),
        ({"cpulimit": "129"}, "cpulimit", "above the largest allowed value, 128"),
        ({"affinity": "0-"}, "affinity", "not a list of CPUs"),
        ({"cpuunits": "0"}, "cpuunits", "below the smallest"),
    ],
)
def test_cpu(hand: Hand, fields: dict[str, str], field: str, words: str) -> None:
    hand.to("cpu").next(**fields)
    assert hand.tab == "cpu"
    assert words in hand.error(field)
    assert hand.value(field) == fields[field]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"memory__current": "8"}, "memory.current", "below the smallest allowed value, 16 MiB"),
        ({"memory__current": "99999999"}, "memory.current", "above the largest"),
        ({"balloon": "4096"}, "balloon", "4096 MiB is more than the memory of 2048 MiB"),
        ({"balloon": "0"}, "balloon", "untick Ballooning device"),
    ],
)
def test_memory(hand: Hand, fields: dict[str, str], field: str, words: str) -> None:
    hand.to("memory").next(**fields)
    assert hand.tab == "memory"
    assert words in hand.error(field)
    assert hand.value(field) == next(iter(fields.values()))


def test_efi_storage_has_to_be_chosen_when_there_are_several(
    hand: Hand, node: Node, storage: Storage
) -> None:
    Storage.objects.create(name="second", path="/srv/second")
    hand.to("system").next(bios="ovmf")
    assert hand.tab == "system"
    assert "missing" in hand.error("efi_storage")
    hand.next(efi_storage="second")
    assert hand.tab == "disks"
    assert hand.config["efidisk0"].startswith("second:1,")


def test_errors_are_summed_up_with_links(hand: Hand) -> None:
    hand.next(vmid="99", name="web_01")
    assert "2 values cannot stand. Everything else is saved." in hand.html
    assert 'href="#f-vmid"' in hand.html
    assert 'href="#f-name"' in hand.html
    assert 'aria-invalid="true"' in hand.html
    assert 'aria-describedby="f-name_helptext f-name_error"' in hand.html


def test_a_draft_is_its_owners_and_the_operators(
    hand_of: Callable[[Any], Hand], storage: Storage, admin: Any
) -> None:
    from tests.web.wizard.conftest import person

    anna, bert = person("anna", vms="PVEVMAdmin"), person("bert", vms="PVEVMAdmin")
    hand = hand_of(anna).begin()
    number = hand.vm.vmid
    assert hand_of(bert).client.get(f"/vms/create/{number}/general").status_code == 404
    assert hand_of(bert).client.post(f"/vms/create/{number}/general", {"go": "discard"}).status_code == 404
    assert hand_of(bert).client.get(f"/vms/create/{number + 7}/general").status_code == 404
    assert hand_of(admin).client.get(f"/vms/create/{number}/general").status_code == 200
    assert hand.client.get("/vms/create/99999999999999999999/general").status_code == 404
