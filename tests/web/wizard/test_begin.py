"""How a draft begins: presets, values in the address, a machine as the pattern; and the list of drafts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.web.wizard.conftest import Hand, person
from vms.config.creation import complete
from vms.hardware.context import NodeFacts
from vms.models import VM, Node, Pool, Storage, Volume
from vms.models.configuration import config_of, save_config
from vms.wizard.drafts import Draft
from vms.wizard.presets import PRESETS
from vms.wizard.preview import rule_findings


@pytest.fixture
def start(admin: Any, storage: Storage, hand_of: Callable[[Any], Hand]) -> Hand:
    """The operator's hand, nothing begun."""
    return hand_of(admin)


def begin(hand: Hand, **values: str) -> Hand:
    """Post the start page's form with values."""
    return hand._follow(hand.client.post("/vms/create", values))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_makes_a_draft_no_rule_refuses(start: Hand, preset: str, admin: Any) -> None:
    Storage.objects.create(name="second", path="/srv/second")
    page = start.client.get("/vms/create").content.decode()
    assert f'name="preset" value="{preset}"' in page
    assert PRESETS[preset].words in html.unescape(page)
    begin(start, preset=preset)
    blocking = [f for f in rule_findings(Draft(start.vm, admin)) if f.severity == "block"]
    assert not blocking
    start.walk("confirm")
    assert PRESETS[preset].mapping.items() <= start.config.items()


def test_windows_11_in_one_click(start: Hand) -> None:
    config = begin(start, preset="windows-11").config
    wanted = {"machine": "q35", "bios": "ovmf", "memory": "8192", "cores": "2", "agent": "1"}
    assert {key: config[key] for key in wanted} == wanted
    assert config["tpmstate0"] == "local:1,version=v2.0"
    assert config["efidisk0"].startswith("local:1,efitype=4m")
    assert config["ide0"] == "local:64,format=qcow2"


def test_linux_server_in_one_click(start: Hand) -> None:
    config = begin(start, preset="linux-server").config
    assert config["scsi0"] == "local:32,discard=on,format=qcow2,iothread=1"
    assert config["net0"] == "virtio,bridge=vmbr0,firewall=1"


def test_an_address_shows_what_it_will_begin_with_and_makes_nothing(start: Hand) -> None:
    url = "/vms/create?ostype=win11&memory=4096&name=web-03&net0=virtio,bridge=vmbr0&colour=red&cores=0"
    page = html.unescape(start.client.get(url).content.decode())
    assert "New machine with these values" in page
    assert '<input type="hidden" name="memory" value="4096">' in page
    assert "There is no option 'colour'." in page
    assert "below the smallest allowed value" in page
    assert not VM.everything.exists()


def test_an_address_begins_a_draft(start: Hand) -> None:
    begin(start, ostype="win11", memory="4096", name="web-03", net0="virtio,bridge=vmbr0", vmid="250")
    config = start.config
    wanted = {"ostype": "win11", "memory": "4096", "name": "web-03", "net0": "virtio,bridge=vmbr0"}
    assert {key: config[key] for key in wanted} == wanted
    assert (config["machine"], config["bios"]) == ("q35", "ovmf")
    assert start.vm.vmid == 250
    start.next()
    start.press("save", ostype_group="Linux")
    assert (start.config["memory"], start.config["net0"]) == ("4096", "virtio,bridge=vmbr0")


def test_given_disks_and_cards_stand_in_place_of_the_default_ones(start: Hand, iso: Volume) -> None:
    begin(
        start, virtio0="local:8,cache=writeback", net1="e1000,bridge=vmbr1",
        ide2="local:iso/debian.iso,media=cdrom", vga="serial0", efidisk0="local:1,efitype=4m", bios="ovmf",
    )  # fmt: skip
    config = start.config
    assert config["virtio0"].startswith("local:8,cache=writeback")
    assert not {"scsi0", "net0"} & set(config)
    assert config["serial0"] == "socket"
    assert config["ide2"].startswith("local:iso/debian.iso,")
    start.next().next()
    assert start.tab == "system"


WRONG = [
    ("vmid", "99", "general", "vmid", "below the smallest"),
    ("vmid", "abc", "general", "vmid", "not a whole number"),
    ("name", "web_01", "general", "name", "use '-'"),
    ("memory", "8", "memory", "memory.current", "below the smallest"),
    ("cores", "many", "cpu", "cores", "not a whole number"),
    ("bios", "uefi", "system", "bios", "not one of"),
    ("net0", "virtio,bridge=a b", "network", "", ""),
    ("scsi0", "nowhere:32", "general", "", ""),
]


@pytest.mark.parametrize(("key", "text", "tab", "field", "words"), WRONG)
def test_wrong_values_are_errors_on_their_field(
    start: Hand, key: str, text: str, tab: str, field: str, words: str
) -> None:
    begin(start, **{key: text, "tags": "kept"})
    assert start.config["tags"] == "kept"
    if tab != "general":
        start.to(tab)
    if field:
        assert words in html.unescape(start.error(field))
    else:
        errors = html.unescape(start.open(f"/vms/create/{start.vm.vmid}/general").html)
        assert "cannot stand" in errors or "cannot stand" in html.unescape(start.to(tab).html)
        assert text not in str(start.config)


HOSTILE = ["\0", "a" * 20_000, "<script>", "%n%s", "../../etc/passwd", "local:32,file=/etc/shadow", "é,ü=ö"]


@pytest.mark.parametrize("typed", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_addresses_are_survived(start: Hand, typed: str) -> None:
    keys = ("vmid", "name", "ostype", "memory", "scsi0", "net0", "ide2", "cpu", "args", "hostpci0", "pool")
    query = "&".join(f"{key}={quote(typed)}" for key in keys)
    page = start.client.get(f"/vms/create?{query}&{quote(typed)[:100]}=1")
    assert page.status_code == 200
    assert "<script>" not in page.content.decode().partition("wizard-start")[2]
    begin(start, **dict.fromkeys(keys, typed))
    assert start.tab == "general"
    assert not {"args", "hostpci0"} & set(start.config)
    assert "/etc" not in str(start.config)
    VM.everything.update(draft={**start.vm.draft, "errors": {}, "typed": {}})
    for tab in ("os", "system", "disks", "cpu", "memory", "network"):
        start.to(tab)


def test_options_beyond_the_wizard_and_rights_are_refused(
    start: Hand, storage: Storage, hand_of: Callable[[Any], Hand]
) -> None:
    begin(start, args="-daemonize")
    assert "args" not in start.config
    assert "not set in the wizard" in html.unescape(start.html)
    anna = hand_of(person("anna", vms="PVEVMAdmin", storage__local="PVEDatastoreUser"))
    begin(anna, affinity="0", cores="2")
    assert "affinity" not in anna.config
    assert anna.config["cores"] == "2"
    carl = hand_of(person("carl", vms="PVEAuditor"))
    assert carl.client.post("/vms/create", {"cores": "2"}).status_code == 403


def test_the_list_of_drafts_resumes_and_discards(start: Hand) -> None:
    begin(start, name="web-03")
    vmid = start.vm.vmid
    page = start.client.get("/vms/create").content.decode()
    assert "web-03" in page
    assert '<td class="wide">admin</td>' in page
    assert "ago" in page
    action = re.search(r'<form method="post" action="([^"]+)">.{0,200}?value="discard"', page, re.S)
    assert action
    start.client.post(action[1], {"go": "discard"})
    assert not VM.everything.filter(vmid=vmid).exists()


# ---- a machine as the pattern


@pytest.fixture
def machine(hand: Hand, iso: Volume, node: Node) -> VM:
    """A defined machine with everything a copy must not share."""
    vm = hand.vm
    for number in (0, 1, 2):
        suffix = "raw" if number == 2 else "qcow2"
        Volume.objects.create(
            storage=iso.storage, node=node, name=f"{vm.vmid}/vm-{vm.vmid}-disk-{number}.{suffix}",
            content="images", format=suffix, size=(5 << 30) + (1 << 29), vmid=vm.vmid,
        )  # fmt: skip
    disk = f"local:{vm.vmid}/vm-{vm.vmid}-disk"
    config = dict(
        hand.config, name="web-01", tags="prod", scsi0=f"{disk}-0.qcow2,discard=on,iothread=1,size=5632M",
        efidisk0=f"{disk}-1.qcow2,efitype=4m,pre-enrolled-keys=1,size=528K", bios="ovmf",
        tpmstate0=f"{disk}-2.raw,version=v2.0,size=4M", ide2="local:iso/debian.iso,media=cdrom,size=658M",
        net0="virtio=BC:24:11:00:00:07,bridge=vmbr1,tag=7", cores="3", cipassword="geheim", ciuser="anna",
        smbios1="uuid=9b2d1e0e-1f6a-4a55-9d0c-0a4c3c1d2e3f,serial=abc", protection="1",
    )  # fmt: skip
    save_config(vm, complete(config, NodeFacts.from_json(node.facts)))
    VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED, draft={})
    return VM.objects.get()


def test_a_machine_is_duplicated_as_a_draft(hand: Hand, machine: VM) -> None:
    page = hand.client.get(f"/vms/{machine.vmid}").content.decode()
    assert f'action="/vms/create/from/{machine.vmid}"' in page
    assert "Duplicate as draft" in page
    before = config_of(machine)
    hand._follow(hand.client.post(f"/vms/create/from/{machine.vmid}"))
    config = hand.config
    assert config["name"] == "web-01-copy"
    assert (config["cores"], config["tags"], config["ciuser"]) == ("3", "prod", "anna")
    assert config["net0"] == "virtio,bridge=vmbr1,tag=7"
    assert config["scsi0"] == "local:5.5,discard=on,format=qcow2,iothread=1"
    assert config["efidisk0"] == "local:1,efitype=4m,format=qcow2,pre-enrolled-keys=1"
    assert config["tpmstate0"] == "local:1,version=v2.0"
    assert config["ide2"].startswith("local:iso/debian.iso,media=cdrom")
    assert config["machine"] == before["machine"]
    assert not {"vmgenid", "meta", "cipassword", "protection"} & set(config)
    assert "uuid" not in config.get("smbios1", "")
    assert config_of(VM.objects.get(pk=machine.pk)) == before
    hand.next().next().next().next().next().next().next()
    assert hand.tab == "confirm"
    made = hand.config
    assert {key: made[key] for key in ("scsi0", "net0", "cores")} == {
        key: config[key] for key in ("scsi0", "net0", "cores")
    }


def test_htmx_is_led_to_the_copy(hand: Hand, machine: VM) -> None:
    response = hand.client.post(f"/vms/create/from/{machine.vmid}", headers={"HX-Request": "true"})
    assert response.status_code == 204
    assert re.fullmatch(r"/vms/create/\d+/general", response.headers["HX-Redirect"])


def test_who_may_duplicate(machine: VM, hand_of: Callable[[Any], Hand], node: Node) -> None:
    url = f"/vms/create/from/{machine.vmid}"
    assert hand_of(person("carl", vms="PVEAuditor")).client.post(url).status_code == 403
    assert hand_of(person("dora", vms__999="PVEVMAdmin")).client.post(url).status_code == 404
    assert hand_of(person("emil", vms="PVEAuditor")).client.get(url).status_code == 405
    Pool.objects.create(name="web")
    VM.everything.filter(pk=machine.pk).update(pool=Pool.objects.get())
    anna = hand_of(person("anna", vms="PVEVMAdmin"))
    save_config(machine, {**config_of(machine), "args": "-snapshot"})
    anna._follow(anna.client.post(url))
    assert anna.vm.pool is None
    assert "args" not in anna.config
