"""One installation a module: database file, run folder, a console server inside the test's process."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from consolekit import ORIGIN, Browser, Screen, database, dial
from django.core.management import call_command
from django.test import Client

from console import tickets
from console.proxy import ConsoleServer
from console.registry import Registry
from console.sweeper import Sweeper
from vms.models import VM, Node


@dataclass
class Person:
    """A user with a browser session."""

    user: Any
    client: Client

    @property
    def key(self) -> str:
        return self.client.cookies["sessionid"].value if "sessionid" in self.client.cookies else ""


@dataclass
class Desk:
    """Everything a console test needs at hand."""

    home: Path
    server: ConsoleServer | None = None
    screens: list[Screen] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    @property
    def address(self) -> Path:
        assert self.server is not None
        return Path(str(self.server.server_address))

    def person(self, *, superuser: bool = False) -> Person:
        from django.contrib.auth.models import User

        user = User.objects.create_user(f"u{uuid.uuid4().hex[:10]}", password="x", is_superuser=superuser)
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return Person(user, client)

    def vm(self, *, screen: bool = True, flood: int = 0, **fields: Any) -> VM:
        """A running VM; its screen greets with ``VM<vmid>;`` and echoes."""
        vmid = 100 + next(self.numbers)
        values: dict[str, Any] = {
            "vmid": vmid, "node": Node.objects.get_or_create(name="pve1")[0], "stage": VM.Stage.DEFINED,
            "name": f"vm-{vmid}", "status": VM.Status.RUNNING, "run_id": uuid.uuid4().hex,
        }  # fmt: skip
        vm = VM.everything.create(**{**values, **fields})
        if screen:
            self.screen(vmid, flood=flood)
        return vm

    def screen(self, vmid: int, *, flood: int = 0, file: str = "vnc.sock") -> Screen:
        path = self.home / "run" / "vm" / str(vmid) / "console" / file
        greeting = b"" if flood else f"VM{vmid};".encode()
        self.screens.append(Screen(path, greeting, flood))
        return self.screens[-1]

    def mint(self, person: Person, vm: VM, **more: Any) -> str:
        return tickets.mint(person.user, person.key, vm, **{"kind": "vnc", "view_only": False, **more})

    def headers(self, person: Person, token: str) -> dict[str, str]:
        return {
            "Origin": ORIGIN,
            "Cookie": f"sessionid={person.key}",
            "Sec-WebSocket-Protocol": f"binary, pvelite.ticket.{token}",
        }

    def open(self, person: Person, vm: VM, *, address: Any = None, **more: Any) -> Browser:
        """Mint a ticket and open the console with it."""
        token = self.mint(person, vm, **more)
        browser = dial(address or self.address)
        return browser.upgrade(f"/vms/{vm.vmid}/vncwebsocket", self.headers(person, token))


@pytest.fixture(scope="session")
def migrated(django_db_blocker: Any) -> Iterator[Path]:
    """A database file with every table, to copy."""
    folder = Path(tempfile.mkdtemp(prefix="pvc-", dir="/tmp"))
    path = folder / "pvelite.sqlite3"
    with django_db_blocker.unblock(), database(path):
        call_command("migrate", verbosity=0)
    yield path
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def home(migrated: Path, django_db_blocker: Any) -> Iterator[Path]:
    """A home whose database is Django's default one while the module runs."""
    folder = Path(tempfile.mkdtemp(prefix="pvc-", dir="/tmp"))
    shutil.copy(migrated, folder / "pvelite.sqlite3")
    (folder / "run" / "vm").mkdir(parents=True)
    with django_db_blocker.unblock(), database(folder / "pvelite.sqlite3"):
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def desk_without_server(home: Path) -> Iterator[Desk]:
    found = Desk(home)
    yield found
    for screen in found.screens:
        screen.stop()


@pytest.fixture(scope="module")
def desk(home: Path, desk_without_server: Desk) -> Iterator[Desk]:
    server = ConsoleServer(home / "run" / "console.sock", home / "run", [ORIGIN], Registry(10_000, 10_000))
    sweeper = Sweeper(server.registry, every=0.2)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    sweeper.start()
    desk_without_server.server = server
    yield desk_without_server
    sweeper.stop()
    server.close()
