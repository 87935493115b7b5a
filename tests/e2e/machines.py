"""Machines for browser tests that are not about the wizard, and QEMU's own word about them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from house import House

SMALL = {
    "name": "small",
    "ostype": "l26",
    "memory": "64",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:1,format=qcow2",
}
"""A machine whose disk is empty: SeaBIOS draws on its screen and then waits for ever."""

CODE = """
import json, time
from vms.models import VM, Node
from vms.models.configuration import save_config
from vms.operations.drafts import finish_draft, new_draft
import vms.operations
draft = new_draft(None, Node.objects.get())
save_config(draft, json.loads({config!r}))
task = finish_draft(draft, None, start={start})
deadline = time.monotonic() + 60
while not task.finished and time.monotonic() < deadline:
    time.sleep(0.05)
    task.refresh_from_db()
assert task.status == "ok", (task.status, task.message, task.detail)
print("made", draft.vmid)
"""


def make(house: House, *, start: bool, config: Mapping[str, str] = SMALL) -> int:
    """Create a machine through the operations, as every door does; answers its VM ID."""
    code = CODE.format(config=json.dumps(dict(config)), start=start)
    said = house.manage("shell", "-c", code, timeout=90)
    return int(said.rsplit("made", 1)[1])


TOLD = """
from vms.models import Task
for task in Task.objects.all():
    print(task.label, task.status, task.message, task.detail)
    print(*(f"  {line.text}" for line in task.lines.all()), sep="\\n")
"""


def tasks_of(house: House) -> str:
    """Every task with its log: for a failing test's report."""
    return house.manage("shell", "-c", TOLD)


class Ops:
    """The operators' QMP socket of a running machine."""

    def __init__(self, house: House, vmid: int) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(20)
        self.link.connect(str(house.home / "run" / "vm" / str(vmid) / "qmp" / "qmp-ops.sock"))
        self.lines = self.link.makefile("rw")
        self.events: list[dict[str, Any]] = []
        self.command("qmp_capabilities")

    def command(self, name: str) -> Any:
        """Run a command; events on the way are kept."""
        self.lines.write(json.dumps({"execute": name}) + "\n")
        self.lines.flush()
        for line in self.lines:
            message = json.loads(line)
            if "return" in message or "error" in message:
                assert "return" in message, message
                return message["return"]
            self.keep(message)
        raise AssertionError(f"QEMU ended during {name}")

    def event(self, name: str) -> float:
        """When (seconds since 1970) QEMU said that event; waits for it."""
        while not any(message["event"] == name for message in self.events):
            line = self.lines.readline()
            assert line, f"QEMU ended without {name}"
            self.keep(json.loads(line))
        found = next(message for message in self.events if message["event"] == name)
        self.events.remove(found)
        when = found["timestamp"]
        return float(when["seconds"] + when["microseconds"] / 1e6)

    def keep(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events.append(message)

    def close(self) -> None:
        self.lines.close()
        self.link.close()


@contextmanager
def ops(house: House, vmid: int) -> Iterator[Ops]:
    """The machine's operators' socket, closed at the end."""
    made = Ops(house, vmid)
    try:
        yield made
    finally:
        made.close()
