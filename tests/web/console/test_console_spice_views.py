"""The doors of SPICE: its pages, its tickets, and the file for a viewer program."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console import tickets
from console.certificate import ensure
from console.models import ConsoleTicket
from console.tickets import digest
from vms.models import VM, AclEntry, Node

pytestmark = pytest.mark.django_db
VIEWER_KEYS = {
    "type", "host", "tls-port", "password", "ca", "host-subject", "delete-this-file", "title",
    "secure-attention", "toggle-fullscreen", "release-cursor",
}  # fmt: skip
PAGES = ("console:spice", "console:spice_window")


@pytest.fixture
def vm() -> VM:
    return VM.everything.create(
        vmid=101, node=Node.objects.create(name=settings.CONF.node), stage=VM.Stage.DEFINED, name="web-01",
        status=VM.Status.RUNNING, run_id=uuid.uuid4().hex, options={"vga": "qxl"},
    )  # fmt: skip


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operator who allowed a port on every address; the console role has made its certificate."""
    ensure(tmp_path, settings.CONF.node)
    conf = replace(settings.CONF, home=tmp_path, spice=("0.0.0.0", 61000))
    monkeypatch.setattr(settings, "CONF", conf)
    return tmp_path


def signed_in(role: str = "", *, superuser: bool = False, **options: Any) -> Client:
    user = User.objects.create_user(uuid.uuid4().hex, is_superuser=superuser)
    if role:
        AclEntry.objects.create(path="/vms/101", user=user, role=role)
    client = Client(**options)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("name", [*PAGES, "console:viewer_file"])
def test_who_may(vm: VM, allowed: Path, name: str) -> None:
    address = reverse(name, args=[101])
    method = "post" if name == "console:viewer_file" else "get"

    def status(client: Client) -> int:
        return int(getattr(client, method)(address).status_code)

    assert status(Client()) == 302
    assert status(signed_in()) == 404
    assert status(signed_in("PVEAuditor")) == 403
    assert status(signed_in("PVEVMUser")) == 200
    wrong = signed_in(superuser=True).get(address) if method == "post" else signed_in().post(address)
    assert wrong.status_code == 405


def test_the_viewer_file(vm: VM, allowed: Path) -> None:
    client = signed_in("PVEVMUser", enforce_csrf_checks=True)
    address = reverse("console:viewer_file", args=[101])
    assert client.post(address).status_code == 403, "no CSRF token"
    page = client.get(reverse("console:spice", args=[101])).content.decode()
    token = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    answer = client.post(address, {"csrfmiddlewaretoken": token}, headers={"host": "localhost:8006"})
    assert answer.headers["Content-Type"] == "application/x-virt-viewer"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="vm-101.vv"'
    assert "no-store" in answer.headers["Cache-Control"]
    lines = dict(line.split("=", 1) for line in answer.content.decode().splitlines()[1:])
    assert set(lines) == VIEWER_KEYS
    assert (lines["type"], lines["delete-this-file"], lines["title"]) == ("spice", "1", "101 (web-01)")
    assert (lines["host"], lines["tls-port"]) == ("localhost", "61000"), "as the browser calls us"
    row = ConsoleTicket.objects.get()
    assert (row.kind, row.digest, row.run_id) == ("viewer", digest(lines["password"]), vm.run_id)
    assert lines["password"] not in str(ConsoleTicket.objects.values_list().get())


def test_without_a_port_the_page_says_what_an_operator_sets(vm: VM) -> None:
    client = signed_in("PVEVMUser")
    page = client.get(reverse("console:spice", args=[101])).content.decode()
    assert "PVELITE_SPICE=0.0.0.0:61000 allows one" in page
    assert "/spice/viewer" not in page
    answer = client.post(reverse("console:viewer_file", args=[101]))
    assert answer.status_code == 409
    assert "There is no viewer file for VM 101." in answer.content.decode()
    assert not ConsoleTicket.objects.exists()


def test_elsewhere_stopped_or_only_watching(vm: VM, allowed: Path) -> None:
    client, address = signed_in(superuser=True), reverse("console:viewer_file", args=[101])
    assert client.post(address, {"view_only": "1"}).status_code == 409
    Node.objects.update(name="elsewhere")
    assert "on node elsewhere" in client.post(address).content.decode()
    Node.objects.update(name=settings.CONF.node)
    VM.objects.update(status=VM.Status.STOPPED)
    answer = client.post(address)
    assert (answer.status_code, "is not running" in answer.content.decode()) == (409, True)
    assert not ConsoleTicket.objects.exists()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_says_why_there_is_none(vm: VM, name: str) -> None:
    client, address = signed_in(superuser=True), reverse(name, args=[101])
    assert "SPICE cannot be watched only" in client.get(address, {"view": "only"}).content.decode()
    VM.objects.update(options={"vga": "std"})
    page = client.get(address).content.decode()
    assert "VM 101 has no SPICE screen" in page
    assert "Choose SPICE (qxl) or VirtIO-GPU" in page
    VM.objects.update(options={"vga": "qxl"})
    Node.objects.update(facts={"spice": False})
    assert "was built without SPICE" in client.get(address).content.decode()
    menu = client.get("/vms/101").content.decode()
    assert "was built without SPICE" in menu, "the Console menu says it too"


def test_a_page_gets_spice_tickets_and_no_others(vm: VM) -> None:
    client, address = signed_in("PVEVMUser"), reverse("console:ticket", args=[101])
    assert client.post(address, {"kind": "spice"}).status_code == 200
    refused = client.post(address, {"kind": "spice", "view_only": "1"})
    assert (refused.status_code, "only watch" in refused.json()["error"]) == (409, True)
    assert client.post(address, {"kind": "viewer"}).status_code == 400
    VM.objects.update(options={"vga": "std"})
    assert client.post(address, {"kind": "spice"}).json()["error"] == "VM 101 has no SPICE screen."


def test_used_tickets_stay_while_their_session_may_want_channels(vm: VM) -> None:
    client, address = signed_in("PVEVMUser"), reverse("console:ticket", args=[101])
    for kind in ("spice", "spice", "spice", "vnc"):
        client.post(address, {"kind": kind})
    now = timezone.now()
    unused, old, open_session, _ = ConsoleTicket.objects.order_by("pk")
    ConsoleTicket.objects.update(expires=now - timedelta(seconds=1))
    ConsoleTicket.objects.exclude(pk=unused.pk).update(used=now)
    ConsoleTicket.objects.filter(pk=old.pk).update(created=now - timedelta(days=2))
    assert tickets.sweep() == 3
    assert list(ConsoleTicket.objects.all()) == [open_session]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_what_novnc_has(vm: VM, name: str) -> None:
    client, address = signed_in("PVEVMUser"), reverse(name, args=[101])
    assert client.post(reverse("console:keys"), {"keys": "win-r", "label": "Run"}).status_code == 302
    page = client.get(address).content.decode()
    assert 'data-keys="MetaLeft KeyR"' in page
    for each in (
        "data-keys-menu",
        "data-type ",
        "data-clip-menu",
        'data-act="keyboard"',
        "data-shot",
        "Change them",
    ):
        assert each in page, each
    assert 'View only</span><span class="sr">, not available: SPICE has one viewer at a time' in page


def test_the_clipboard_in_words(vm: VM) -> None:
    client, address = signed_in("PVEVMUser"), reverse("console:clipboard", args=[101])

    def words() -> str:
        return str(client.get(address, {"screen": "spice"}).json()["words"])

    assert words().startswith(("Asking whether", "Redis")), "a SPICE display has the agent's channel always"
    VM.objects.update(options={"vga": "qxl,clipboard=vnc"})
    assert "set to VNC, so the noVNC console has it" in words()
    VM.objects.update(status=VM.Status.STOPPED)
    assert words() == "The guest is not running."
