"""Hostile text in every text field of every hardware dialog: a reason on the field, what was typed is kept,
nothing is changed and nothing asked of the node. Choices take only what is offered."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from conftest import FACTS, FULL, Scene  # type: ignore[import-not-found]
from django.test import Client

from vms.forms.dialogs import ADDITIONS
from vms.models import VM, Node, Task
from vms.models.configuration import config_of, save_config

pytestmark = pytest.mark.django_db

HOSTILE = ("a,b", "x,file=/etc/shadow", "web\n01", "ünïcodé" * 600)
EDITS = (
    "memory", "processors", "bios", "vga", "machine", "scsihw", "scsi0", "ide2", "net0", "serial0", "usb0",
    "rng0", "watchdog", "audio0", "numa0", "hostpci0",
)  # fmt: skip
ADDED = tuple(f"add/{item.kind}" for item in ADDITIONS)
WORKS = ("scsi0/resize", "scsi0/move", "scsi0/reassign", "import-disk")
COMPARED = {"balloon"}
"""What is only compared with another field says nothing while that one cannot stand."""
MACHINERY = {"csrfmiddlewaretoken", "digest", "page", "shown", "go", "fixed"}


@pytest.fixture
def full(scene: Scene) -> Scene:
    """VM 101 with one of everything."""
    more = {"virtiofsd": "/usr/libexec/virtiofsd", "folder_mappings": {"docs": "/srv/docs"}}
    facts = {**FACTS, **more, "machines": ["pc-q35-7.2"], "pci_mappings": {"card": "0000:01:00.0"}}
    Node.objects.filter(pk=scene.node.pk).update(facts=facts)
    save_config(scene.vm, FULL)
    scene.vm.refresh_from_db()
    return scene


def text_of(answer: Any) -> str:
    return unescape(answer.content.decode()).replace("\r\n", "\n")


def form_of(page: str) -> str:
    """The dialog's own form in the page around it; "" when it has none."""
    rest = page.partition('name="digest"')[2]
    return rest.partition("</form>")[0]


def fields_of(page: str) -> list[str]:
    """The names of everything a hand, or a forged request, can fill in."""
    found = re.findall(r'<(?:input|select|textarea)\b[^>]*\bname="([^"]+)"', form_of(page))
    return [name for name in dict.fromkeys(found) if name not in MACHINERY]


def typed_in(page: str) -> list[str]:
    """Those of them that are free text."""
    texts = re.findall(r'<input\b[^>]*\btype="(?:text|number)"[^>]*>|<textarea\b[^>]*>', form_of(page))
    return [found[1] for text in texts if (found := re.search(r'\bname="([^"]+)"', text))]


def marked(page: str, name: str) -> bool:
    """Whether a field says that what is in it cannot stand."""
    found = re.search(rf'<(?:input|textarea)\b[^>]*\bname="{re.escape(name)}"[^>]*>', page)
    return found is not None and 'aria-invalid="true"' in found[0]


@pytest.mark.parametrize("path", [*(f"{row}/edit" for row in EDITS), *ADDED, *WORKS])
def test_every_field(full: Scene, boss: Client, path: str) -> None:
    config = {key: text for key, text in FULL.items() if path.removeprefix("add/") != key.rstrip("0")}
    save_config(full.vm, config)
    full.vm.refresh_from_db()
    address, before = f"/vms/101/hardware/{path}", config_of(full.vm)
    page = text_of(boss.get(address))
    assert form_of(page)
    texts = [name for name in typed_in(page) if name != "controller"]  # which only says what it is
    for hostile in HOSTILE:
        if texts:
            answer = boss.post(address, dict.fromkeys(texts, hostile))
            page = text_of(answer)
            assert answer.status_code == 422, hostile[:20]
            quiet = {name for name in texts if not marked(page, name)}
            assert quiet <= COMPARED, hostile[:20]
            assert page.count(hostile) >= len(set(texts) - COMPARED), hostile[:20]
            assert config_of(VM.objects.get(pk=full.vm.pk)) == before
    for name in [name for name in fields_of(page) if name not in texts]:
        answer = boss.post(address, {name: HOSTILE[1]})
        assert answer.status_code in (302, 404, 409, 422), name
        asked = str(list(Task.objects.values_list("params")))
        assert "shadow" not in str(config_of(VM.objects.get(pk=full.vm.pk))) + asked, name
