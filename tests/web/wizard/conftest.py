"""A node, a storage with an ISO, people and their rights, and a hand that clicks through the wizard."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import Client

from vms.models import VM, AclEntry, Node, Storage, StorageStatus, Volume
from vms.models.configuration import config_of
from vms.wizard.tabs import SLUGS

GIB = 1 << 30
FACTS = {
    "qemu_version": "7.2.0",
    "qemu_binary": "/usr/bin/qemu-system-x86_64",
    "kvm": True,
    "threads": 8,
    "memory": 16 * GIB,
    "bridges": [{"name": "vmbr0", "active": True, "mtu": 1500}, {"name": "vmbr1", "active": True}],
    "storages": {"local": {"type": "dir", "path": "/var/lib/pvelite/local"}},
}


@pytest.fixture
def node(db: None) -> Node:
    return Node.objects.create(name="pve1", facts=FACTS)


@pytest.fixture
def storage(node: Node) -> Storage:
    """``local`` with 100 GiB free."""
    made = Storage.objects.create(name="local", path="/var/lib/pvelite/local")
    StorageStatus.objects.create(storage=made, node=node, total=200 * GIB, available=100 * GIB)
    return made


@pytest.fixture
def iso(storage: Storage, node: Node) -> Volume:
    return Volume.objects.create(
        storage=storage, node=node, name="iso/debian.iso", content="iso", format="iso", size=658 << 20
    )


def person(name: str, **roles: str) -> Any:
    """A user with roles: ``person("anna", vms="PVEVMAdmin")`` means the path ``/vms``."""
    user = get_user_model().objects.create_user(name, password="x")
    for path, role in roles.items():
        AclEntry.objects.create(user=user, path="/" + path.replace("__", "/"), role=role)
    return user


@pytest.fixture
def admin(db: None) -> Any:
    return get_user_model().objects.create_superuser("admin", password="x")


class _Controls(HTMLParser):
    """The values a browser would send for the wizard's form."""

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[str, list[str]] = {}
        self._select = ""
        self._options: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, kind = given.get("name") or "", given.get("type") or "text"
        if tag == "select" and "disabled" not in given:
            self._select, self._options = name, []
        elif tag == "option" and self._select:
            self._options.append((given.get("value") or "", "selected" in given))
        elif tag == "input" and name and "disabled" not in given:
            if kind in ("checkbox", "radio") and "checked" not in given:
                return
            self.data.setdefault(name, []).append(given.get("value") or ("on" if kind == "checkbox" else ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select:
            chosen = [value for value, selected in self._options if selected] or [
                value for value, _ in self._options[:1]
            ]
            if chosen:
                self.data[self._select] = chosen[:1]
            self._select = ""


def controls(html: str) -> dict[str, list[str]]:
    """What the wizard's form on this page would send as it stands."""
    form = html[html.index('<form id="wizard"') :]
    parser = _Controls()
    parser.feed(form[: form.index("</form>")])
    return parser.data


class Hand:
    """Fills in the wizard as a browser without JavaScript does: whole forms, one button at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.url = ""
        self.html = ""

    def begin(self) -> Hand:
        """A new draft, on its first tab."""
        return self._follow(self.client.post("/vms/create"))

    def open(self, url: str) -> Hand:
        """Go to an address."""
        response = self.client.get(url, follow=True)
        assert response.status_code == 200, response.status_code
        self.url = response.request["PATH_INFO"] + (
            f"?{response.request['QUERY_STRING']}" if response.request["QUERY_STRING"] else ""
        )
        self.html = response.content.decode()
        return self

    def _follow(self, response: HttpResponse) -> Hand:
        assert response.status_code in (302, 303), (response.status_code, response.content[:2000])
        return self.open(response["Location"])

    def fields(self, **values: str | None) -> dict[str, list[str]]:
        """The form as shown, with some fields changed; ``None`` unticks a box. ``__`` stands for a dot."""
        data = controls(self.html)
        for name, value in values.items():
            key = name.replace("__", ".")
            if value is None:
                data.pop(key, None)
            else:
                data[key] = [value]
        return data

    def press(self, go: str, **values: str | None) -> Hand:
        """Change fields and press a button."""
        return self._follow(self.client.post(self.url, {**self.fields(**values), "go": go}))

    def next(self, **values: str | None) -> Hand:
        return self.press("next", **values)

    def change(self, **values: str | None) -> str:
        """Change a field with JavaScript on: htmx sends the form and gets the inner part."""
        response = self.client.post(self.url, self.fields(**values), headers={"HX-Request": "true"})
        assert response.status_code == 200, (response.status_code, response.headers)
        self.html = response.content.decode()
        self.url = response.headers.get("HX-Replace-Url", self.url)
        return self.html

    @property
    def tab(self) -> str:
        return self.url.partition("?")[0].rpartition("/")[2]

    @property
    def vm(self) -> VM:
        return VM.everything.get(vmid=int(self.url.split("/")[3]))

    @property
    def config(self) -> dict[str, str]:
        return config_of(self.vm)

    def value(self, name: str) -> str:
        """What a field shows."""
        return controls(self.html).get(name, [""])[0]

    def error(self, name: str) -> str:
        """The error under a field, "" when it has none."""
        found = re.search(rf'id="f-{re.escape(name)}_error">.*?<span>(.*?)</span>', self.html, re.S)
        return found[1] if found else ""

    def walk(self, tab: str) -> Hand:
        """Press Next, choosing nothing, until ``tab``."""
        while self.tab != tab:
            here = SLUGS.index(self.tab)
            extra = {"medium": "none"} if self.tab == "os" else {}
            self.next(**extra)
            errors = re.findall(r"_error\">.*?</span>", self.html)
            assert SLUGS.index(self.tab) == here + 1, (self.tab, errors)
        return self

    def to(self, tab: str) -> Hand:
        """Open ``tab`` of a draft whose maker saw the tabs before it; no medium unless one was chosen."""
        vm = self.vm
        notes = dict(vm.draft)
        notes["visited"] = sorted({*notes["visited"], *SLUGS[: SLUGS.index(tab)]})
        if tab not in ("general", "os"):
            notes["stash"] = {"medium": "none", **notes["stash"]}
        VM.everything.filter(pk=vm.pk).update(draft=notes)
        self.open(f"/vms/create/{vm.vmid}/{tab}")
        assert self.tab == tab
        return self


@pytest.fixture
def hand_of() -> Callable[[Any], Hand]:
    """A hand for a user."""

    def make(user: Any) -> Hand:
        client = Client()
        client.force_login(user)
        return Hand(client)

    return make


@pytest.fixture
def hand(admin: Any, storage: Storage, hand_of: Callable[[Any], Hand]) -> Hand:
    """The operator's hand, on a fresh draft."""
    return hand_of(admin).begin()
