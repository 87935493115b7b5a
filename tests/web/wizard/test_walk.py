"""Tab by tab, without JavaScript: what untouched defaults make, and what choices make."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone

from tests.web.wizard.conftest import Hand
from vms.models import VM, Node, Volume

DEFAULTS = {
    "cores": "1",
    "cpu": "x86-64-v2-AES",
    "ide2": "none,media=cdrom",
    "machine": "q35",
    "memory": "2048",
    "net0": "virtio,bridge=vmbr0,firewall=1",
    "numa": "0",
    "ostype": "l26",
    "scsi0": "local:32,format=qcow2,iothread=1",
    "scsihw": "virtio-scsi-single",
    "sockets": "1",
}


def test_untouched_defaults_are_proxmox(hand: Hand) -> None:
    hand.walk("confirm")
    assert hand.config == DEFAULTS


def test_a_draft_holds_its_defaults_before_any_tab_was_opened(hand: Hand) -> None:
    assert hand.config == DEFAULTS
    assert hand.vm.stage == VM.Stage.DRAFT
    assert [disk.slot for disk in hand.vm.disks.all()] == ["ide2", "scsi0"]
    assert [nic.slot for nic in hand.vm.nics.all()] == ["net0"]


def test_general(hand: Hand) -> None:
    hand.next(
        vmid="250", name="web-02", onboot="on", startup__order="2", startup__up="30", startup__down="120",
        tags="web Prod;web",
    )  # fmt: skip
    assert hand.url == "/vms/create/250/os"
    config = hand.config
    assert config["name"] == "web-02"
    assert config["onboot"] == "1"
    assert config["startup"] == "order=2,up=30,down=120" or config["startup"] == "2,down=120,up=30"
    assert config["tags"] == "prod;web"


def test_old_address_leads_to_the_draft_after_its_id_changed(hand: Hand) -> None:
    old = hand.url
    hand.next(vmid="250")
    hand.open(old)
    assert hand.url == "/vms/create/250/general"


def test_iso(hand: Hand, iso: Volume) -> None:
    hand.to("os").next(iso="local:iso/debian.iso")
    assert hand.tab == "system"
    assert hand.config["ide2"].split(",")[:2] == ["local:iso/debian.iso", "media=cdrom"]
    assert hand.vm.disks.get(slot="ide2").volume == iso


def test_an_iso_must_be_chosen_or_no_media(hand: Hand, iso: Volume) -> None:
    hand.to("os")
    assert hand.error("iso") == ""
    hand.next()
    assert hand.tab == "os"
    assert hand.error("iso") == "ISO image is missing; choose one."
    hand.next(medium="none")
    assert hand.tab == "system"
    assert hand.config["ide2"] == "none,media=cdrom"


def test_physical_drive(hand: Hand) -> None:
    hand.to("os").next(medium="cdrom")
    assert hand.config["ide2"] == "cdrom,media=cdrom"


def test_system(hand: Hand) -> None:
    hand.to("system").press(
        "save", vga__type="serial1", machine__type="q35", bios="ovmf", scsihw="pvscsi", agent__enabled="on",
        tpm="on",
    )  # fmt: skip
    config = hand.config
    assert config["vga"] == "serial1"
    assert config["serial1"] == "socket"
    assert config["machine"] == "q35"
    assert config["bios"] == "ovmf"
    assert config["scsihw"] == "pvscsi"
    assert config["agent"] == "1"
    assert config["efidisk0"].split(",")[0] == "local:1"
    assert set(config["efidisk0"].split(",")[1:]) == {
        "efitype=4m", "format=qcow2", "pre-enrolled-keys=1"
    }  # fmt: skip
    assert config["tpmstate0"] == "local:1,version=v2.0"
    hand.next(bios="", tpm=None, vga__type="", agent__enabled=None)
    config = hand.config
    assert not {"efidisk0", "tpmstate0", "vga", "serial1", "agent", "bios"} & set(config)


def test_efi_disk_without_keys(hand: Hand) -> None:
    hand.to("system").press("save", bios="ovmf")
    hand.press("save", **{"efidisk0__pre-enrolled-keys": None})
    assert "pre-enrolled-keys=1" not in hand.config["efidisk0"]
    hand.next(efi=None)
    assert "efidisk0" not in hand.config
    assert hand.tab == "disks"


def test_disk_options(hand: Hand) -> None:
    hand.to("disks").next(
        size="1.5", cache="writeback", discard="on", ssd="on", ro="on", backup=None, skip_replication="on",
        aio="threads", mbps_rd="50", mbps_rd_max="100", iops_wr="300",
    )  # fmt: skip
    assert hand.tab == "cpu"
    parts = hand.config["scsi0"].split(",")
    assert parts[0] == "local:1.5"
    assert set(parts[1:]) == {
        "aio=threads", "backup=0", "cache=writeback", "discard=on", "format=qcow2", "iops_wr=300",
        "iothread=1", "mbps_rd=50", "mbps_rd_max=100", "replicate=0", "ro=1", "ssd=1",
    }  # fmt: skip


def test_several_disks(hand: Hand) -> None:
    hand.to("disks").press("add")
    assert hand.url.endswith("?slot=scsi1")
    hand.press("add", size="10", bus="virtio")
    assert hand.config["virtio0"] == "local:10,format=qcow2,iothread=1"
    hand.press("select:virtio0")
    assert hand.value("size") == "10"
    hand.press("add")
    assert sorted(slot for slot in hand.config if slot[:4] in ("scsi", "virt") and slot != "scsihw") == [
        "scsi0", "scsi1", "scsi2", "virtio0"
    ]  # fmt: skip
    hand.press("remove:scsi1").press("remove:scsi2")
    assert {disk.slot for disk in hand.vm.disks.all()} == {"ide2", "scsi0", "virtio0"}


def test_no_disk_at_all(hand: Hand) -> None:
    hand.to("disks").press("remove:scsi0")
    assert "No disks" in hand.html
    hand.next()
    assert hand.tab == "cpu"
    assert "scsi0" not in hand.config


def test_a_bus_change_takes_the_next_free_place_and_its_rules(hand: Hand) -> None:
    hand.to("disks").press("save", bus="ide", ssd="on")
    assert hand.url.endswith("?slot=ide0")
    assert hand.config["ide0"] == "local:32,format=qcow2,ssd=1"
    hand.press("save", bus="virtio")
    assert hand.config["virtio0"] == "local:32,format=qcow2,iothread=1"


def test_cpu(hand: Hand) -> None:
    hand.to("cpu").next(
        sockets="2", cores="4", cpu__cputype="host", vcpus="6", cpulimit="1.5", cpuunits="200",
        affinity="0-3", numa="on",
        **{"flag.aes": "+", "flag.pcid": "-"},
    )  # fmt: skip
    assert hand.tab == "memory"
    config = hand.config
    assert config["cpu"] == "host,flags=+aes;-pcid" or config["cpu"] == "host,flags=-pcid;+aes"
    wanted = {"sockets": "2", "cores": "4", "vcpus": "6", "cpulimit": "1.5", "cpuunits": "200"}
    wanted |= {"affinity": "0-3", "numa": "1"}
    assert {key: config[key] for key in wanted} == wanted


def test_the_flags_a_node_has_are_told(hand: Hand, node: Node) -> None:
    assert "On this node" not in hand.to("cpu").html
    node.facts = {**node.facts, "cpu_flags": ["aes", "vmx", "pdpe1gb"]}
    node.save()
    page = hand.open(hand.url).html
    told = dict(re.findall(r'<label for="f-flag.([^"]+)">.*?<td class="muted">([^<]*)</td></tr>', page, re.S))
    assert {told[name] for name in ("aes", "nested-virt", "pdpe1gb")} == {"yes"}
    assert (told["pcid"], told["hv-tlbflush"]) == ("no", "not told")
    assert page.count("<tr data-absent>") == list(told.values()).count("no")


def test_bandwidth_folds_away_until_something_is_set(hand: Hand) -> None:
    page = hand.to("disks").html
    assert '<details class="fold" id="fold-bandwidth"><summary>Bandwidth</summary>' in page
    page = hand.press("save", mbps_rd="50", iops_wr="100").html
    assert 'id="fold-bandwidth" open><summary>Bandwidth <span class="muted">(2 set)</span>' in page
    assert "iops_wr=100,iothread=1,mbps_rd=50" in hand.config["scsi0"]


@pytest.mark.parametrize(("name", "text"), [("mbps_rd", "0.5"), ("iops_wr", "9")])
def test_a_limit_too_low_to_live_with_is_refused(hand: Hand, name: str, text: str) -> None:
    hand.to("disks").next(**{name: text})
    assert hand.tab == "disks"
    assert "the least a guest can work with" in hand.error(name)
    assert name not in hand.config["scsi0"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"memory": "2048"}),
        ({"memory__current": "4096"}, {"memory": "4096"}),
        ({"memory__current": "4096", "balloon": "1024"}, {"memory": "4096", "balloon": "1024"}),
        ({"ballooning": None}, {"memory": "2048", "balloon": "0"}),
        ({"allow-ksm": None}, {"memory": "2048", "allow-ksm": "0"}),
    ],
)
def test_memory(hand: Hand, fields: dict[str, str | None], expected: dict[str, str]) -> None:
    hand.to("memory").next(**fields)
    keys = ("memory", "balloon", "shares", "allow-ksm")
    assert {key: text for key, text in hand.config.items() if key in keys} == expected


def test_minimum_memory_below_the_memory_gives_shares(hand: Hand) -> None:
    hand.to("memory").press("save", memory__current="4096", balloon="1024")
    hand.next(shares="2000")
    assert hand.config["shares"] == "2000"


def test_network(hand: Hand) -> None:
    hand.to("network").next(
        bridge="vmbr1", tag="20", firewall=None, macaddr="bc:24:11:00:00:01", link_down="on", mtu="1",
        rate="12.5", queues="4",
    )  # fmt: skip
    head, *rest = hand.config["net0"].split(",")
    assert head == "virtio=BC:24:11:00:00:01"
    assert set(rest) == {
        "bridge=vmbr1", "link_down=1", "mtu=1", "queues=4", "rate=12.5", "tag=20"
    }  # fmt: skip


def test_several_cards_and_none(hand: Hand) -> None:
    hand.to("network").press("add", tag="7").press("add")
    assert [nic.slot for nic in hand.vm.nics.all()] == ["net0", "net1", "net2"]
    hand.press("remove:net1")
    assert [nic.slot for nic in hand.vm.nics.all()] == ["net0", "net2"]
    hand.press("save", none="on")
    assert not hand.vm.nics.exists()
    hand.press("save", none=None)
    assert [nic.slot for nic in hand.vm.nics.all()] == ["net0", "net2"]
    assert "tag=7" in hand.config["net0"]


def test_no_bridge_means_user_mode_and_says_so(hand: Hand, node: Node) -> None:
    node.facts = {**node.facts, "bridges": []}
    node.save()
    hand.begin()
    assert hand.config["net0"] == "virtio,firewall=1"
    hand.to("network")
    assert "This node has no bridge. The guest reaches out through the node (NAT)" in hand.html


def test_an_emulating_node_says_what_becomes_of_the_cpu_type(hand: Hand, node: Node) -> None:
    node.facts = {**node.facts, "kvm": False, "accel_reason": "/dev/kvm is not there"}
    node.save()
    hand.to("cpu")
    assert "This node emulates the processor (/dev/kvm is not there)" in hand.html
    hand.press("save", cpu__cputype="host")
    assert "QEMU gets host as &#x27;max&#x27; instead" in hand.html
    assert hand.config["cpu"] == "host"


def test_a_closed_browser_resumes_where_it_was(hand: Hand, client: Client, admin: object) -> None:
    hand.next(name="web-02").next(medium="none")
    client.force_login(admin)
    page = client.get("/vms/create").content.decode()
    assert "web-02" in page
    assert client.get(f"/vms/create/{hand.vm.vmid}")["Location"] == f"/vms/create/{hand.vm.vmid}/system"
    assert "is-done" in client.get(f"/vms/create/{hand.vm.vmid}/system").content.decode()


def test_later_tabs_are_locked_until_the_way_is_free(hand: Hand, iso: Volume) -> None:
    assert hand.html.count("is-locked") == 6
    hand.open(f"/vms/create/{hand.vm.vmid}/network")
    assert hand.tab == "general"
    hand.to("network").press("tab:general")
    hand.press("tab:network")
    assert hand.tab == "network"
    hand.press("tab:general").press("tab:network", name="web_01")
    assert hand.tab == "general"
    assert hand.html.count("is-locked") == 7


def test_advanced_is_remembered(hand: Hand) -> None:
    assert 'data-advanced="closed"' in hand.html
    hand.press("advanced:1")
    assert 'data-advanced="open"' in hand.html
    hand.begin()
    assert 'data-advanced="open"' in hand.html
    hand.press("advanced:0")
    assert 'data-advanced="closed"' in hand.html


def test_discard(hand: Hand) -> None:
    vmid = hand.vm.vmid
    hand.press("discard")
    assert hand.url == "/vms/create"
    assert not VM.everything.filter(vmid=vmid).exists()


def test_cpu_types_stand_in_groups_and_only_what_the_node_runs(hand: Hand, node: Node) -> None:
    node.facts = {**node.facts, "cpu_models": ["EPYC", "Haswell", "kvm64", "max"], "cpu_flags": ["pni"]}
    node.save()
    hand.begin()
    assert "cpu" not in hand.config
    hand.to("cpu")
    assert "Default (kvm64)" in hand.html
    groups = ["AMD", "Intel", "QEMU", "Host"]
    places = [hand.html.index(f'<optgroup label="{group}">') for group in groups]
    assert places == sorted(places)
    assert "x86-64-v2" not in hand.html[places[0] : places[-1]]
    flags = ["pni", "popcnt", "sse4_1", "sse4_2", "ssse3", "aes"]
    node.facts = {**node.facts, "cpu_flags": flags}
    node.save()
    hand.begin()
    assert hand.config["cpu"] == "x86-64-v2-AES"
    hand.to("cpu")
    assert "x86-64-v2-AES" in hand.html
    assert "x86-64-v3" not in hand.html.partition("optgroup")[2].partition("</select>")[0]


def test_an_absent_cpu_is_shown_as_what_it_means(hand: Hand) -> None:
    hand.to("cpu").press("save", cpu__cputype="kvm64")
    assert hand.config["cpu"] == "kvm64"
    VM.everything.update(options={key: text for key, text in hand.vm.options.items() if key != "cpu"})
    hand.open(hand.url)
    assert hand.value("cpu.cputype") == "kvm64"


def test_a_machine_version_is_pinned_and_follows_the_board(hand: Hand, node: Node) -> None:
    names = ["pc-i440fx-7.2", "pc-q35-7.2", "pc-q35-7.1"]
    node.facts = {**node.facts, "machines": names}
    node.save()
    hand.to("system")
    assert "Latest (7.2 today" in hand.html
    hand.press("save", machine_version="7.1")
    assert hand.config["machine"] == "pc-q35-7.1"
    assert (hand.value("machine.type"), hand.value("machine_version")) == ("q35", "7.1")
    hand.press("save", machine__type="")
    assert "machine" not in hand.config
    hand.press("save", machine_version="7.2")
    assert hand.config["machine"] == "pc-i440fx-7.2"
    hand.press("save", machine__type="q35")
    assert hand.config["machine"] == "pc-q35-7.2"


def test_the_drivers_disc_never_boots_first(hand: Hand, iso: Volume) -> None:
    hand.to("os").press("save", ostype_group="Microsoft Windows", iso="local:iso/debian.iso")
    hand.press("save", drivers="on")
    hand.press("save", drivers_iso="local:iso/debian.iso")
    assert hand.config["boot"] == "order=scsi0;ide2;ide0;net0"
    hand.press("save", drivers=None)
    assert "boot" not in hand.config


def test_the_node_says_what_it_has(hand: Hand, node: Node) -> None:
    assert "pve1 (16 GiB memory, 8 CPUs, offline)" in hand.html
    assert "seems to be offline!" in hand.html
    node.facts = {**node.facts, "memory_free": 4 << 30}
    node.heartbeat = timezone.now()
    node.save()
    hand.open(hand.url)
    assert "pve1 (75 % of 16 GiB memory in use, 8 CPUs)" in hand.html
    assert "offline" not in hand.html


def test_a_nameless_machine_is_offered_one(hand: Hand) -> None:
    assert 'value="fix:R28:name"' in hand.html
    hand.press("fix:R28:name")
    assert hand.config["name"] == f"vm-{hand.vm.vmid}"
    assert "R29" not in hand.html


def test_the_agents_commands_can_be_copied(hand: Hand) -> None:
    page = hand.to("system").press("save", agent__enabled="on").html
    assert "# Debian, Ubuntu\napt install qemu-guest-agent" in page
    hand.to("os").press("save", ostype_group="Microsoft Windows")
    assert "apt install" not in hand.html
    assert "virtio-win-guest-tools.exe" in hand.html


def test_another_scsi_controller_decides_about_threads(hand: Hand) -> None:
    assert "iothread=1" in hand.to("system").config["scsi0"]
    hand.press("save", scsihw="virtio-scsi-pci")
    assert "iothread" not in hand.config["scsi0"]
    hand.press("save", scsihw="virtio-scsi-single")
    assert "iothread=1" in hand.config["scsi0"]
    hand.to("disks").press("save", iothread=None)
    hand.to("system").press("save", scsihw="virtio-scsi-pci").press("save", scsihw="virtio-scsi-single")
    assert "iothread" not in hand.config["scsi0"], "somebody unticked it"
