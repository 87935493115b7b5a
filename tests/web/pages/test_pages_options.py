"""The Options page and its dialogs: what is typed is kept, what is wrong named, what is right stored."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.forms.optionsheet import KEYS
from vms.models import VM, Task
from vms.models.configuration import config_of
from vms.views.words import OPTION_KEYS

pytestmark = pytest.mark.django_db
HX = {"HX-Request": "true"}


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return html.unescape(answer.content.decode())


def save(client: Client, key: str, data: dict[str, Any], status: int = 302, **more: Any) -> str:
    answer = client.post(f"/vms/101/options/{key}", data, **more)
    assert answer.status_code == status, answer.content.decode()
    return html.unescape(answer.content.decode())


def stored() -> dict[str, str]:
    return config_of(VM.objects.get(vmid=101))


def row(client: Client, key: str) -> str:
    """The words of a row."""
    found = re.search(rf'<tr id="row-{key}".*?</tr>', text_of(client, "/vms/101/options"), re.DOTALL)
    assert found, key
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0])).strip()


# ---- the page


def test_every_option_has_a_row_and_a_dialog(scene: Scene, boss: Client) -> None:
    page = text_of(boss, "/vms/101/options")
    assert [key for key in OPTION_KEYS if f'id="row-{key}"' not in page] == []
    assert set(OPTION_KEYS) - KEYS == {"description"}
    for key in KEYS:
        dialog = text_of(boss, f"/vms/101/options/{key}")
        assert "<form" in dialog
        assert boss.get(f"/vms/101/options/{key}", headers=HX).content.startswith(b"<dialog")
    assert boss.get("/vms/101/options/memory").status_code == 404


def test_what_rows_say(scene: Scene, boss: Client) -> None:
    VM.objects.filter(vmid=101).update(
        options={
            "startup": "order=2,up=30,down=60", "agent": "1,fstrim_cloned_disks=1", "hotplug": "disk,cpu",
            "smbios1": "base64=1,manufacturer=QWNtZSBHbWJI,uuid=11111111-2222-3333-4444-555555555555",
            "description": "# Front of the shop\n\nmore",
        }
    )  # fmt: skip
    for key, words in (
        ("startup", "Order 2, next one after 30 s, 60 s to shut down"), ("hotplug", "Disks, Processors"),
        ("smbios1", "Manufacturer Acme GmbH"), ("description", "Front of the shop Edit"),
        ("tags", "prod, web"),
        ("agent", "Yes, Trim after clone"), ("boot", "Default (ide2)"), ("onboot", "Default (No)"),
        ("acpi", "Default (Yes)"), ("vmstatestorage", "Automatic"),
    ):  # fmt: skip
        assert words in row(boss, key)


def test_what_waits_stands_below_and_can_be_reverted(scene: Scene, boss: Client) -> None:
    VM.objects.filter(vmid=101).update(status="running")
    assert "this waits for its next cold start" in text_of(
        boss, "/vms/101/options/acpi?part=fields&shown=acpi"
    )
    save(boss, "acpi", {"shown": "acpi"})
    assert "acpi" not in stored()
    assert VM.objects.get(vmid=101).pending == {"acpi": "0"}
    assert "after the next start: No" in row(boss, "acpi")
    assert boss.post("/vms/101/options/acpi/revert").status_code == 302
    assert VM.objects.get(vmid=101).pending == {}
    assert boss.post("/vms/101/options/acpi/revert", headers=HX).status_code == 409


@pytest.mark.parametrize("tab", ["options", "hardware"])
def test_who_only_looks_is_offered_no_way_back(scene: Scene, boss: Client, tab: str) -> None:
    VM.objects.filter(vmid=101).update(status="running", pending={"acpi": "0", "memory": "99"})
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    forms = re.compile(r'hx-post="[^"]*/revert"')
    assert len(forms.findall(boss.get(f"/vms/101/{tab}").content.decode())) == 2
    assert not forms.findall(bob.get(f"/vms/101/{tab}").content.decode())
    assert 'Revert all</span><span class="sr">, not available: You may not: VM.Config.' in text_of(
        bob, f"/vms/101/{tab}"
    )


def test_who_may_not_reads_why(scene: Scene) -> None:
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    assert "You may not: VM.Config.Options on this VM is missing." in row(bob, "name")
    assert 'id="row-args"' not in text_of(bob, "/vms/101/options")
    text = save(bob, "name", {"name": "other"}, 403, headers=HX)
    assert "VM.Config.Options" in text
    assert stored()["name"] == "web-01"
    anna = signed_in(person("anna", vms="PVEVMAdmin"))
    assert "Only an operator may change this." in row(anna, "vmgenid")
    assert "Sys.Modify on / is missing" in row(anna, "startup")
    save(anna, "args", {"args": "-nodefaults"}, 403, headers=HX)
    save(anna, "spice_enhancements", {"spice_enhancements.videostreaming": "all"}, 403, headers=HX)


def test_somebody_else_changed_it_meanwhile(scene: Scene, boss: Client) -> None:
    found = re.search(r'name="digest" value="(\w*)"', text_of(boss, "/vms/101/options/name"))
    assert found
    save(boss, "name", {"name": "first", "digest": found[1]})
    second = re.search(r'name="digest" value="(\w*)"', text_of(boss, "/vms/101/options/name"))
    assert second
    save(boss, "name", {"name": "second", "digest": second[1]})
    text = save(boss, "name", {"name": "third", "digest": second[1]}, 409, headers=HX)
    assert "changed by somebody else" in text
    assert 'value="third"' in text
    assert stored()["name"] == "second"


# ---- dialog by dialog: a good value, and a wrong one where there can be one


PLUGS = ["network", "disk", "usb", "cpu", "memory", "cloudinit"]
GOOD: list[tuple[str, dict[str, Any], str | None]] = [
    ("name", {"name": "shop.example.org"}, "shop.example.org"),
    ("onboot", {"onboot": "on", "shown": "onboot"}, "1"),
    ("startup", {"startup.order": "2", "startup.up": "30", "startup.down": ""}, "2,up=30"),
    ("ostype", {"ostype": "win8"}, "win8"),
    ("tablet", {"shown": "tablet"}, "0"),
    ("hotplug", {"shown": PLUGS, "disk": "on", "cpu": "on"}, "disk,cpu"),
    ("hotplug", {"shown": PLUGS}, "0"),
    ("acpi", {"shown": "acpi"}, "0"),
    ("kvm", {"shown": "kvm"}, "0"),
    ("freeze", {"shown": "freeze", "freeze": "on"}, "1"),
    ("localtime", {"localtime": "0"}, "0"),
    ("localtime", {"localtime": "1"}, "1"),
    ("startdate", {"startdate": "2006-06-17T16:01:21"}, "2006-06-17T16:01:21"),
    ("smbios1", {"manufacturer": "Acme, GmbH = ü", "uuid": "11111111-2222-3333-4444-555555555555"},
     "base64=1,manufacturer=QWNtZSwgR21iSCA9IMO8,uuid=11111111-2222-3333-4444-555555555555"),
    ("agent", {"shown": ["agent.enabled", "agent.fstrim_cloned_disks", "agent.freeze-fs"],
               "agent.type": "isa", "agent.enabled": "on"}, "1,freeze-fs=0,type=isa"),
    ("agent", {"shown": ["agent.enabled", "agent.fstrim_cloned_disks", "agent.freeze-fs"],
               "agent.type": "isa", "agent.freeze-fs": "on"}, "0,type=isa"),
    ("spice_enhancements",
     {"spice_enhancements.foldersharing": "on", "spice_enhancements.videostreaming": "all"},
     "foldersharing=1,videostreaming=all"),
    ("vmstatestorage", {"vmstatestorage": "local"}, "local"),
    ("reboot", {"shown": "reboot"}, "0"),
    ("keyboard", {"keyboard": "de-ch"}, "de-ch"),
    ("args", {"args": "-device pvpanic"}, "-device pvpanic"),
    ("tags", {"tags": "Web, prod web"}, "prod;web"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "data", "text"), GOOD, ids=[f"{key}-{text}" for key, _, text in GOOD])
def test_a_good_value_is_stored(
    scene: Scene, boss: Client, key: str, data: dict[str, Any], text: str | None
) -> None:
    answer = boss.post(f"/vms/101/options/{key}", data, follow=True)
    assert answer.redirect_chain == [("/vms/101/options", 302)], answer.content.decode()
    assert stored().get(key) == text
    again = boss.post(f"/vms/101/options/{key}", data, follow=True)
    assert "Nothing was changed." in again.content.decode()


WRONG: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("name", {"name": "no_underscore"}, "name", "no_underscore", "is not a host name"),
    ("startup", {"startup.order": "1st", "startup.up": "5"}, "startup.order", "1st", "not a whole number"),
    ("startup", {"startup.down": "-1"}, "startup.down", "-1", "below the smallest allowed value"),
    ("ostype", {"ostype": "beos"}, "ostype", "beos", "is not one of"),
    ("startdate", {"startdate": "yesterday"}, "startdate", "yesterday", "is not 'now', a date"),
    ("smbios1", {"uuid": "1234", "serial": "S 1"}, "uuid", "1234", "is not a UUID"),
    ("smbios1", {"serial": "x" * 199, "sku": "y" * 199}, "serial", "x" * 199, "shorten it"),
    ("vmstatestorage", {"vmstatestorage": "nowhere"}, "vmstatestorage", "nowhere", ""),
    ("keyboard", {"keyboard": "klingon"}, "keyboard", "klingon", ""),
    ("tags", {"tags": "good b@d"}, "tags", "good b@d", "'b@d' is not a tag"),
    ("protection", {"protection": "on", "reason": " "}, "reason", "", "say why nobody"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "data", "field", "typed", "words"), WRONG)
def test_a_wrong_value_is_kept_and_its_field_named(
    scene: Scene, boss: Client, key: str, data: dict[str, Any], field: str, typed: str, words: str
) -> None:
    before = stored()
    for headers in ({}, HX):
        text = save(boss, key, data, 422, headers=headers)
        where = text[text.index(f'id="field-{field}"') :]
        assert words in where[: where.index('class="help"')] if words else "error" in where
        assert f'id="f-{field}_error"' in text
        if typed:
            assert f'value="{typed}"' in text or typed in text
        for name, value in data.items():
            if name != field and isinstance(value, str) and name != "shown" and value not in ("on", " "):
                assert f'value="{value}"' in text, name
    assert stored() == before
    assert not Task.objects.filter(type="qmconfig").exists()


def test_defaults_are_stored_by_leaving_the_key_out(scene: Scene, boss: Client) -> None:
    VM.objects.filter(vmid=101).update(
        options={"onboot": "1", "startup": "3", "localtime": "0", "hotplug": "0", "agent": "1"}
    )
    save(boss, "onboot", {"shown": "onboot"})
    save(boss, "startup", {"startup.order": "", "startup.up": "", "startup.down": ""})
    save(boss, "localtime", {"localtime": ""})
    save(boss, "hotplug", {"network": "on", "disk": "on", "usb": "on", "shown": "cpu"})
    save(boss, "agent", {"shown": "agent.enabled"})
    assert not {"onboot", "startup", "localtime", "hotplug", "agent"} & stored().keys()


def test_smbios_texts_come_back_as_they_were_written(scene: Scene, boss: Client) -> None:
    VM.objects.filter(vmid=101).update(options={"smbios1": "manufacturer=Acme,serial=S1"})
    assert 'value="Acme"' in text_of(boss, "/vms/101/options/smbios1")
    save(boss, "smbios1", {"manufacturer": "Acme", "serial": "ds=nocloud;h=x"})
    assert stored()["smbios1"] == "base64=1,manufacturer=QWNtZQ==,serial=ZHM9bm9jbG91ZDtoPXg="
    text = text_of(boss, "/vms/101/options/smbios1")
    assert 'value="ds=nocloud;h=x"' in text


def test_another_generation_id(scene: Scene, boss: Client) -> None:
    save(boss, "vmgenid", {"identity": "new"})
    first = stored()["vmgenid"]
    assert re.fullmatch(r"[0-9a-f-]{36}", first)
    assert f"Keep {first}" in text_of(boss, "/vms/101/options/vmgenid")
    save(boss, "vmgenid", {"identity": "keep"})
    assert stored()["vmgenid"] == first
    save(boss, "vmgenid", {"identity": "none"})
    assert stored().get("vmgenid", "0") == "0"


# ---- protection


def test_protection_with_a_reason_stands_in_every_refusal(scene: Scene, boss: Client) -> None:
    save(boss, "protection", {"protection": "on", "shown": "protection", "reason": "holds the ledger"})
    vm = VM.objects.get(vmid=101)
    assert (vm.guard["reason"], vm.guard["owner"], stored()["protection"]) == (
        "holds the ledger",
        "operator",
        "1",
    )
    said = "holds the ledger."
    assert "Protected by operator since" in row(boss, "protection")
    assert said in row(boss, "protection")
    assert said in text_of(boss, "/vms/101/options/protection")
    assert said in text_of(boss, "/vms/101/ask/destroy")
    answer = boss.post("/vms/101/do/destroy", {"confirm": "101"}, headers=HX)
    assert answer.status_code == 409
    assert "protection mode enabled" in html.unescape(answer.content.decode())
    assert said in html.unescape(answer.content.decode())
    save(boss, "protection", {"protection": "on", "shown": "protection", "reason": "holds two ledgers"})
    assert VM.objects.get(vmid=101).guard["reason"] == "holds two ledgers"
    save(boss, "protection", {"shown": "protection", "reason": "holds two ledgers"})
    assert VM.objects.get(vmid=101).guard == {}
    assert "protection" not in stored()


# ---- boot order


def devices(text: str) -> list[str]:
    """The list as it is shown, ``+`` before the ticked ones."""
    found = re.findall(r'data-key="(\w+)".*?name="on" value="\w+"( checked)?', text, re.DOTALL)
    return [f"{'+' if on else ''}{key}" for key, on in found]


@pytest.fixture
def machine(scene: Scene) -> Scene:
    from vms.models.configuration import save_config

    mapping = {
        **config_of(scene.vm), "net0": "virtio=BC:24:11:00:00:09", "ide0": "none,media=cdrom",
        "boot": "order=scsi0;net0",
    }  # fmt: skip
    save_config(scene.vm, mapping)
    return scene


def test_the_boot_order_lists_what_exists(machine: Scene, boss: Client) -> None:
    text = text_of(boss, "/vms/101/options/boot")
    assert devices(text) == ["+scsi0", "+net0", "ide0", "ide2"]
    assert row(boss, "boot").startswith("Boot order scsi0, net0")


def test_without_javascript_buttons_move_rows(machine: Scene, boss: Client) -> None:
    data = {"device": ["scsi0", "net0", "ide0", "ide2"], "on": ["scsi0", "net0"], "go": "up:net0"}
    text = save(boss, "boot", data, 200)
    assert devices(text) == ["+net0", "+scsi0", "ide0", "ide2"]
    assert stored()["boot"] == "order=scsi0;net0"
    data = {"device": ["net0", "scsi0", "ide0", "ide2"], "on": ["net0", "scsi0", "ide2"], "go": "down:scsi0"}
    text = save(boss, "boot", data, 200)
    assert devices(text) == ["+net0", "ide0", "+scsi0", "+ide2"]
    save(boss, "boot", {"device": ["net0", "ide0", "scsi0", "ide2"], "on": ["net0", "scsi0", "ide2"]})
    assert stored()["boot"] == "order=net0;scsi0;ide2"


def test_only_what_exists_can_be_in_the_order(machine: Scene, boss: Client) -> None:
    save(boss, "boot", {"device": ["scsi7", "ide2", "scsi0"], "on": ["scsi7", "ide2", "net0"]})
    assert stored()["boot"] == "order=ide2;net0"
    save(boss, "boot", {"device": ["ide2", "scsi0"], "on": []})
    assert stored()["boot"] == "order="
    assert "nothing" in row(boss, "boot")
    assert "invalid" not in text_of(boss, "/vms/101/options/boot")


def test_letters_of_old_are_shown_as_the_list_they_mean(machine: Scene, boss: Client) -> None:
    """The letter c stands for the one boot disk, which has to be named; no list at all means cdn."""
    VM.objects.filter(vmid=101).update(options={"boot": "cdn", "bootdisk": "scsi0"})
    assert devices(text_of(boss, "/vms/101/options/boot")) == ["+scsi0", "+ide0", "+ide2", "+net0"]
    VM.objects.filter(vmid=101).update(options={"boot": "dn"})
    assert devices(text_of(boss, "/vms/101/options/boot")) == ["+ide0", "+ide2", "+net0", "scsi0"]
    VM.objects.filter(vmid=101).update(options={})
    assert devices(text_of(boss, "/vms/101/options/boot")) == ["+ide0", "+ide2", "+net0", "scsi0"]


# ---- notes


def test_notes_are_written_beside_their_preview(scene: Scene, boss: Client) -> None:
    text = boss.post("/vms/101/notes", {"notes": "**bold** <b>no</b>", "preview": "1"}).content.decode()
    assert "<strong>bold</strong> &lt;b&gt;no&lt;/b&gt;" in text
    assert "description" not in stored()
    part = boss.post("/vms/101/notes", {"notes": "*x*", "preview": "1", "part": "preview"}).content.decode()
    assert part.strip() == "<p><em>x</em></p>"
    answer = boss.post("/vms/101/notes", {"notes": "# Shop\r\n\r\nfront  "})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/vms/101")
    assert stored()["description"] == "# Shop\n\nfront"
    assert "<h3>Shop</h3><p>front</p>" in boss.get("/vms/101").content.decode()
    boss.post("/vms/101/notes", {"notes": ""})
    assert "description" not in stored()


def test_notes_that_are_too_long_are_kept_in_the_form(scene: Scene, boss: Client) -> None:
    answer = boss.post("/vms/101/notes", {"notes": "x" * 9000})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "x" * 9000 in text
    assert "9000 characters long, at most 8192 are allowed" in text
    assert 'aria-invalid="true"' in text


def test_notes_need_their_right(scene: Scene) -> None:
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    assert "VM.Config.Options on this VM is missing" in text_of(bob, "/vms/101/notes")
    assert bob.post("/vms/101/notes", {"notes": "x"}).status_code == 403


# ---- tags


def test_tags_come_and_go_on_the_title_line(scene: Scene, boss: Client) -> None:
    answer = boss.post("/vms/101/tags", {"add": "Alpha, web"}, headers=HX)
    assert answer.status_code == 200, answer.content.decode()
    assert stored()["tags"] == "alpha;prod;web"
    assert 'aria-label="Remove tag alpha"' in text_of(boss, "/vms/101")
    boss.post("/vms/101/tags", {"remove": "prod"})
    assert stored()["tags"] == "alpha;web"
    for tag in ("alpha", "web"):
        boss.post("/vms/101/tags", {"remove": tag})
    assert "tags" not in stored()


@pytest.mark.parametrize(
    ("data", "words"),
    [({"add": "b@d"}, "'b@d' is not a tag"), ({"add": "web"}, "not there yet"), ({}, "Nothing")],
)
def test_tags_that_cannot_be(scene: Scene, boss: Client, data: dict[str, str], words: str) -> None:
    answer = boss.post("/vms/101/tags", data, headers=HX)
    assert answer.status_code == 422
    assert words in html.unescape(answer.content.decode())
    assert stored()["tags"] == "prod;web"


def test_tags_need_their_right(scene: Scene) -> None:
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    assert "VM.Config.Options on this VM is missing" in text_of(bob, "/vms/101")
    assert bob.post("/vms/101/tags", {"add": "x"}, headers=HX).status_code == 403
