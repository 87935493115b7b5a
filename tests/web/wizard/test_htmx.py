"""With JavaScript: every change is saved at once, only the inner part comes back, dependent fields follow."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test.utils import CaptureQueriesContext

from tests.web.wizard.conftest import Hand
from vms.models import VM, Node

TABS = ("general", "os", "system", "disks", "cpu", "memory", "network", "confirm")


def disabled(page: str, name: str) -> bool:
    """Whether a field is greyed out."""
    found = re.search(rf'<(?:input|select)[^>]*name="{re.escape(name)}"[^>]*>', page)
    assert found, name
    return " disabled" in found[0]


def test_a_change_is_saved_and_only_the_inner_part_comes_back(hand: Hand) -> None:
    page = hand.change(name="web-02")
    assert page.lstrip().startswith('<form id="wizard"')
    assert "<html" not in page
    assert hand.config["name"] == "web-02"
    assert "guest=web-02" in page


def test_the_address_follows_a_new_id(hand: Hand) -> None:
    hand.change(vmid="250")
    assert hand.url == "/vms/create/250/general"
    assert 'hx-post="/vms/create/250/general"' in hand.html


def test_a_taken_id_is_told_while_typing(hand: Hand, node: Node) -> None:
    VM.everything.create(vmid=250, node=node, stage=VM.Stage.DEFINED)
    hand.change(vmid="250")
    assert "VM 250 already exists" in hand.error("vmid")


def test_a_field_nobody_filled_in_yet_is_not_complained_about(hand: Hand) -> None:
    hand.next()
    hand.change(ostype_group="Other")
    assert hand.error("iso") == ""
    hand.next()
    assert "missing" in hand.error("iso")
    hand.change(ostype_group="Linux")
    assert "missing" in hand.error("iso")


def test_the_command_follows_each_change(hand: Hand) -> None:
    hand.to("cpu")
    assert "-smp 4,sockets=1,cores=4,maxcpus=4" in hand.change(cores="4")
    assert hand.value("total") == "4"
    assert hand.html.index('<h3 class="is-here">CPU</h3>') < hand.html.index("<h3>General</h3>")


def test_bus_and_its_dependents(hand: Hand) -> None:
    hand.to("disks")
    assert not disabled(hand.html, "iothread")
    page = hand.change(bus="sata")
    assert hand.url.endswith("?slot=sata0")
    assert disabled(page, "iothread")
    assert disabled(page, "ro")
    assert "0 to 5" in page
    page = hand.change(bus="virtio")
    assert disabled(page, "ssd")
    assert not disabled(page, "iothread")
    assert "0 to 15" in page


def test_firmware_and_tpm_bring_their_fields(hand: Hand) -> None:
    hand.to("system")
    assert "efi_storage" not in hand.html
    page = hand.change(bios="ovmf")
    assert 'name="efi_storage"' in page
    assert not disabled(page, "efi_storage")
    page = hand.change(efi=None)
    assert disabled(page, "efi_storage")
    assert 'name="tpm_storage"' not in page
    assert 'name="tpm_storage"' in hand.change(tpm="on")


def test_ballooning_and_shares(hand: Hand) -> None:
    hand.to("memory")
    assert disabled(hand.html, "shares")
    assert not disabled(hand.change(memory__current="4096", balloon="1024"), "shares")
    page = hand.change(ballooning=None)
    assert disabled(page, "balloon")
    assert disabled(page, "shares")


def test_memory_and_its_equal_minimum_move_together(hand: Hand) -> None:
    hand.to("memory").change(memory__current="1024")
    assert (hand.value("memory.current"), hand.value("balloon")) == ("1024", "1024")


def test_model_and_mtu(hand: Hand) -> None:
    hand.to("network")
    hand.change(mtu="1400")
    assert "mtu=1400" in hand.config["net0"]
    assert disabled(hand.change(model="e1000"), "mtu")
    assert "mtu" not in hand.config["net0"]


def test_rate_is_said_in_megabits_too(hand: Hand) -> None:
    hand.to("network")
    assert ">about 105 Mbit/s<" in hand.change(rate="12.5")


def test_a_disabled_field_cannot_be_forced(hand: Hand) -> None:
    hand.to("network").change(model="e1000")
    response = hand.client.post(hand.url, {**hand.fields(), "mtu": ["9000"]}, headers={"HX-Request": "true"})
    assert response.status_code == 200
    assert "mtu" not in hand.config["net0"]


def test_everything_a_person_typed_is_escaped(hand: Hand) -> None:
    page = hand.change(name='"><script>alert(1)</script>')
    assert "<script>alert" not in page
    assert "alert(1)" in html.unescape(hand.error("name"))


def test_every_field_has_its_label_and_its_help(hand: Hand) -> None:
    for tab in TABS[:-1]:
        hand.to(tab)
        for found in re.finditer(r'<(?:input|select)[^>]*\bid="(f-[^"]+)"[^>]*>', hand.html):
            identity = found[1]
            if 'type="radio"' in found[0]:
                continue
            assert f'for="{identity}"' in hand.html, identity
            assert f"{identity}_helptext" in found[0] or identity == "f-none", identity
        identities = re.findall(r'\bid="([^"]+)"', hand.html)
        assert len(identities) == len(set(identities)), tab


def test_nothing_inline(hand: Hand) -> None:
    for tab in TABS:
        hand.to(tab)
        form = hand.html[hand.html.index('<form id="wizard"') :]
        assert not re.search(r"\sstyle=|<script|\son[a-z]+=", form), tab


@pytest.mark.parametrize("tab", TABS)
def test_queries_do_not_grow_with_disks_and_cards(hand: Hand, tab: str, iso: Any) -> None:
    from django.db import connection

    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert hand.client.get(f"/vms/create/{hand.vm.vmid}/{tab}").status_code == 200
        return len(captured)

    hand.to("confirm")
    few = count()
    hand.press("tab:disks").press("add").press("add").press("add")
    hand.press("tab:network").press("add").press("add").press("add")
    assert count() <= few
    assert few <= 24


def test_a_save_that_arrives_late_does_not_undo_a_newer_one(hand: Hand) -> None:
    old = hand.fields(name="old", page="p1", seq="1")
    hand.press("save", name="new", page="p1", seq="2")
    hand.client.post(hand.url, old, headers={"HX-Request": "true"})
    assert hand.config["name"] == "new"
    hand.press("save", name="newer", page="p2", seq="1")
    hand.client.post(hand.url, old, headers={"HX-Request": "true"})
    assert hand.config["name"] == "newer"


def test_a_minimum_that_was_not_sent_follows_the_memory(hand: Hand) -> None:
    hand.to("memory")
    for amount in ("4096", "2048"):
        hand.client.post(hand.url, {"memory.current": amount, "slot": ""})
        hand.open(hand.url)
        assert (hand.value("memory.current"), hand.value("balloon")) == (amount, amount)
    assert "balloon" not in hand.config
