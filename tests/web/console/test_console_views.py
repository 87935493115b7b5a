"""The doors of the console: the pages, the state, the ticket; and who may not pass them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from console.models import ConsoleTicket
from console.tickets import TOKEN, digest
from vms.access import ROLES
from vms.models import VM, AclEntry, Node

pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture
def vm() -> VM:
    return VM.everything.create(
        vmid=101, node=Node.objects.create(name="pve1"), stage=VM.Stage.DEFINED, name="<b>web</b>-01",
        status=VM.Status.RUNNING, run_id=uuid.uuid4().hex,
    )  # fmt: skip


def signed_in(role: str = "", *, superuser: bool = False, **options: Any) -> Client:
    user = User.objects.create_user(uuid.uuid4().hex, is_superuser=superuser)
    if role:
        AclEntry.objects.create(path="/vms/101", user=user, role=role)
    client = Client(**options)
    client.force_login(user, backend=BACKEND)
    return client


@pytest.fixture
def watcher_role(monkeypatch: pytest.MonkeyPatch) -> str:
    """No built-in role has VM.Console without VM.PowerMgmt; an installation may well have one."""
    monkeypatch.setitem(ROLES, "Watcher", frozenset({"VM.Console"}))
    return "Watcher"


PAGES = ["console:vm_console", "console:window", "console:state"]


@pytest.mark.parametrize("name", [*PAGES, "console:ticket"])
def test_who_may(vm: VM, name: str) -> None:
    address = reverse(name, args=[vm.vmid])
    method = "post" if name == "console:ticket" else "get"

    def status(client: Client, where: str = address) -> int:
        return int(getattr(client, method)(where).status_code)

    assert status(Client()) == 302, "strangers go to the login"
    assert status(signed_in()) == 404, "who may not see it does not learn of it"
    assert status(signed_in("PVEAuditor")) == 403
    assert status(signed_in("PVEVMUser")) == 200
    operator = signed_in(superuser=True)
    assert status(operator) == 200
    assert status(operator, reverse(name, args=[999])) == 404
    VM.everything.update(stage=VM.Stage.TRASH)
    assert status(operator) == 404


@pytest.mark.parametrize("name", PAGES)
def test_pages_only_read(vm: VM, name: str) -> None:
    client = signed_in(superuser=True)
    assert client.post(reverse(name, args=[101])).status_code == 405
    client.get(reverse(name, args=[101]))
    assert not ConsoleTicket.objects.exists()


def test_a_ticket_is_minted_by_post_with_csrf(vm: VM) -> None:
    client = signed_in(superuser=True, enforce_csrf_checks=True)
    address = reverse("console:ticket", args=[101])
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 403
    page = client.get(reverse("console:vm_console", args=[101])).content.decode()
    token = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    answer = client.post(address, {"csrfmiddlewaretoken": token, "view_only": "1"})
    given = answer.json()
    assert given["path"] == "/vms/101/vncwebsocket"
    assert TOKEN.fullmatch(given["ticket"])
    assert "no-store" in answer.headers["Cache-Control"]
    row = ConsoleTicket.objects.get()
    assert (row.digest, row.run_id) == (digest(given["ticket"]), vm.run_id)
    assert (row.kind, row.view_only) == ("vnc", True)
    assert row.session == digest(client.cookies["sessionid"].value)
    assert given["ticket"] not in str(ConsoleTicket.objects.values_list().get())


def test_no_ticket_for_a_stopped_vm(vm: VM) -> None:
    VM.objects.update(status=VM.Status.STOPPED)
    client = signed_in(superuser=True)
    answer = client.post(reverse("console:ticket", args=[101]))
    assert (answer.status_code, answer.json()["error"]) == (409, "VM 101 is not running.")
    assert client.get(reverse("console:state", args=[101])).json() == {
        "running": False, "status": "stopped", "words": "Stopped",
    }  # fmt: skip
    assert client.post(reverse("console:ticket", args=[101]), {"kind": "viewer"}).status_code == 400
    assert client.post(reverse("console:ticket", args=[101]), {"kind": "../vnc"}).status_code == 400


@pytest.mark.parametrize("name", ["console:vm_console", "console:window"])
def test_the_page(vm: VM, name: str) -> None:
    page = signed_in(superuser=True).get(reverse(name, args=[101])).content.decode()
    assert "&lt;b&gt;web&lt;/b&gt;-01" in page
    assert "<b>web" not in page
    for word in ("Ctrl-Alt-Del", "C-A-F12", "Scale", "View only", "Screenshot", "Full screen", "Alt-SysRq-B"):
        assert word in page
    assert 'data-running="yes"' in page
    assert page.count("<script") == page.count("<script src=") + page.count("<script defer") + page.count(
        '<script type="module" src='
    )
    VM.objects.update(status=VM.Status.STOPPED)
    page = signed_in(superuser=True).get(reverse(name, args=[101])).content.decode()
    assert 'data-running="no"' in page
    assert "is stopped" in page
    assert f'action="{reverse("vms:vm_action", args=[101, "start"])}"' in page


def test_who_may_not_start_is_told_why(vm: VM, watcher_role: str) -> None:
    VM.objects.update(status=VM.Status.STOPPED)
    page = signed_in(watcher_role).get(reverse("console:window", args=[101])).content.decode()
    assert "no role of yours has VM.PowerMgmt" in page
    assert "/do/start" not in page


def test_the_sockets_address_is_no_page(vm: VM) -> None:
    answer = signed_in(superuser=True).get("/vms/101/vncwebsocket")
    assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")


def test_the_admin_shows_tickets_and_changes_none(vm: VM) -> None:
    client = signed_in(superuser=True)
    user = User.objects.get()
    User.objects.update(is_staff=True)
    client.force_login(user, backend=BACKEND)
    client.post(reverse("console:ticket", args=[101]))
    row = ConsoleTicket.objects.get()
    listed = client.get("/admin/console/consoleticket/")
    shown = client.get(f"/admin/console/consoleticket/{row.pk}/change/")
    assert listed.status_code == shown.status_code == 200
    for secret in (row.digest, row.session):
        assert secret not in listed.content.decode() + shown.content.decode()
    assert client.post(f"/admin/console/consoleticket/{row.pk}/change/", {"used": ""}).status_code == 403
    assert client.get("/admin/console/consoleticket/add/").status_code == 403


def test_the_terminal_page_and_its_tickets(vm: VM) -> None:
    client = signed_in(superuser=True)
    page, ticket = "console:terminal", reverse("console:ticket", args=[101])
    assert "VM 101 has no serial terminal 1" in client.get(reverse(page, args=[101, 1])).content.decode()
    assert client.post(ticket, {"kind": "serial", "port": "1"}).status_code == 409
    VM.everything.update(options={"serial0": "/dev/ttyS0", "serial1": "socket", "vga": "type=serial1"})
    assert client.post(ticket, {"kind": "serial", "port": "0"}).status_code == 409, "that is the node's port"
    assert client.post(ticket, {"kind": "serial", "port": "4"}).status_code == 400
    assert client.post(ticket, {"kind": "serial", "port": "1"}).status_code == 200
    assert ConsoleTicket.objects.get().port == 1
    assert client.get(reverse(page, args=[101, 4])).status_code == 404
    for name in ("console:vm_console", "console:window"):
        shown = client.get(reverse(name, args=[101])).content.decode()
        assert 'name="port" value="1"' in shown, "the serial display is the console"
    for name in (page, "console:terminal_window"):
        assert 'name="port" value="1"' in client.get(reverse(name, args=[101, 1])).content.decode()
    assert signed_in("PVEAuditor").get(reverse(page, args=[101, 1])).status_code == 403


def test_the_menu_of_consoles(vm: VM) -> None:
    client, address = signed_in(superuser=True), reverse("vms:vm_summary", args=[101])
    assert "The VM has no serial port. Add one" in client.get(address).content.decode()
    VM.everything.update(options={"serial0": "socket", "serial2": "socket", "vga": "serial0"})
    shown = client.get(address).content.decode()
    assert "Serial terminal 2" in shown
    assert reverse("console:terminal", args=[101, 2]) in shown
    assert "The VM has no screen" in shown
