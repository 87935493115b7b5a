"""A real agent asked by the real worker: commands, files, a password, a freeze, and a worker that dies."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from enginekit import ROOT, Engine, until
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper

from vms.models import VM, Task
from vms.operations import agent
from vms.qemu.agent import Agent

SECRET = "Tr0ub4dor-and-3"
MOUNTED = """
modprobe -a virtio_scsi sd_mod ext4
for n in $(seq 50); do test -b /dev/sda && break; sleep 0.1; done
mke2fs /dev/sda >/dev/null 2>&1
mkdir -p /mnt
mount -t ext4 /dev/sda /mnt
"""


@pytest.fixture
def guest(engine: Engine, parcels: None, guest_media: Media, warm_state: Path) -> VM:
    """A guest with its agent, and a disk with a file system mounted."""
    from vms.operations.configure import change

    vm = sleeper(engine, guest_media, warm_state, 100, {"scsihw": "virtio-scsi-single"})
    engine.do("qmstart", vm)
    task = engine.end(change(vm, None, set={"scsi0": "local:0.0625"}))
    assert task.status == "ok", task.message
    inside(engine, 100, MOUNTED)
    return vm


def asked(engine: Engine, vm: VM, command: str, **given: Any) -> Any:
    """The agent's answer."""
    task = engine.end(agent.ask(command, vm=vm, user=None, **given), 60)
    assert task.status in ("ok", "warnings"), task.message
    found = agent.answer_of(task, None)
    assert found is not None
    return found["result"]


def failed(engine: Engine, vm: VM, command: str, **given: Any) -> str:
    task = engine.end(agent.ask(command, vm=vm, user=None, **given), 60)
    assert task.status == "error"
    return task.message


def told(vm: VM) -> dict[str, Any]:
    vm.refresh_from_db()
    return dict(vm.agent)


def frozen(engine: Engine, vm: VM) -> Task:
    """Freeze; answers the task that holds the guest still."""
    task = agent.ask("fsfreeze-freeze", vm=vm, user=None)
    until(lambda: agent.answer_of(task, None), "the guest is frozen", 30)
    assert agent.answer_of(task, None) == {"result": 1}
    assert asked(engine, vm, "fsfreeze-status") == "frozen"
    return task


def test_a_guest_is_asked(engine: Engine, guest: VM) -> None:
    until(lambda: told(guest).get("host") == "pvelite-guest", "the agent is known", 30)
    assert guest.agent["os"]["kernel"]
    assert guest.agent["since"]
    assert [one["name"] for one in guest.agent["interfaces"]] == ["lo"]
    assert asked(engine, guest, "ping") == {}
    assert asked(engine, guest, "get-host-name") == {"host-name": "pvelite-guest"}
    assert "guest-exec" in [one["name"] for one in asked(engine, guest, "info")["supported_commands"]]

    done = asked(engine, guest, "exec", argv=["/bin/sh", "-c", "cat; echo no >&2; exit 3"], input=b"in\xff")
    pid = done.pop("pid")
    assert done == {"exited": True, "exitcode": 3, "out-data": "in\ufffd", "err-data": "no\n"}
    assert "Invalid parameter" in failed(engine, guest, "exec-status", pid=pid)
    assert "Agent error" in failed(engine, guest, "exec", argv=["/no/such/program"])
    slow = asked(engine, guest, "exec", argv=["/bin/sh", "-c", "read x </tmp/go; echo $x"], timeout=0)
    assert slow["exited"] is False
    assert asked(engine, guest, "exec-status", pid=slow["pid"])["exited"] in (True, False)

    assert asked(engine, guest, "file-write", file="/tmp/note", content=b"a\0b\n") == {"bytes-written": 4}
    found = asked(engine, guest, "file-read", file="/tmp/note")
    assert found == {"content": base64.b64encode(b"a\0b\n").decode(), "bytes-read": 4, "truncated": False}
    assert "No such file" in failed(engine, guest, "file-read", file="/no/such/file")

    script = b"#!/bin/sh\ncat >/tmp/set\n"
    asked(engine, guest, "file-write", file="/bin/chpasswd", content=script)
    inside(engine, 100, "chmod 755 /bin/chpasswd")
    asked(engine, guest, "set-user-password", username="root", password=SECRET)
    assert inside(engine, 100, "cat /tmp/set") == f"root:{SECRET}\n"
    assert qm(engine, "exec", "100", "--pass-stdin", "--", "/bin/cat", given="x")["out-data"] == "x"
    qm(engine, "passwd", "100", "ada", given=f"{SECRET}2\n")
    assert inside(engine, 100, "cat /tmp/set") == f"ada:{SECRET}2\n"
    nowhere(engine, SECRET)

    holding = frozen(engine, guest)
    assert "frozen" in failed(engine, guest, "exec", argv=["/bin/true"])
    assert asked(engine, guest, "fsfreeze-thaw") == 1
    assert engine.end(holding).status == "ok"
    holding = frozen(engine, guest)
    from vms.tasks.queue import request_cancel

    request_cancel(holding)
    assert engine.end(holding).status == "cancelled"
    assert asked(engine, guest, "fsfreeze-status") == "thawed"
    holding = agent.ask("fsfreeze-freeze", vm=guest, user=None, hold=1)
    assert "thawed after 1 s: 1 file" in "\n".join(line.text for line in engine.end(holding).lines.all())
    assert [one["path"] for one in asked(engine, guest, "fstrim")["paths"]] == ["/mnt"]

    inside(engine, 100, "sh -c 'sleep 0.2; killall -STOP init; killall qemu-ga' </dev/null >/dev/null 2>&1 &")
    until(lambda: not told(guest), "the agent's end is known", 30)


def qm(engine: Engine, *words: str, given: str) -> Any:
    """What ``qm guest`` prints, as JSON; None when it is silent."""
    argv = [sys.executable, "-m", "vms.cli.qm", "guest", *words]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=engine.environ,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
    return json.loads(done.stdout) if done.stdout else None


def nowhere(engine: Engine, secret: str) -> None:
    """Neither in a table, nor in a log, nor in any other file of the installation.

    Looked for by another process: closing a file drops this one's locks on it, the database's among them.
    """
    argv = ["grep", "-rlF", "--exclude-dir=images", "-D", "skip", secret, str(engine.home)]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, ""), found


def test_a_worker_that_dies_leaves_nobody_frozen(engine: Engine, guest: VM) -> None:
    engine.stop()
    engine.start(PVELITE_FAULT="qmagent:2")
    task = agent.ask("fsfreeze-freeze", vm=guest, user=None)
    process = engine.process
    assert process is not None

    def dead() -> bool:
        task.refresh_from_db()
        assert not task.finished, f"{task.message} {[line.text for line in task.lines.all()]}"
        return process.poll() is not None

    until(dead, "the worker dies where it was told to", 60)
    assert process.returncode == -signal.SIGKILL
    engine.process = None
    engine.start()
    assert engine.end(task, 60).status == "error"
    assert "The file systems were thawed (1)." in task.message
    assert asked(engine, guest, "fsfreeze-status") == "thawed"
    assert inside(engine, 100, "echo on >/mnt/file; cat /mnt/file") == "on\n"

    engine.stop()
    path = engine.run_dir / "vm" / "100" / "agent" / "qga.sock"
    assert asyncio.run(Agent(path).execute("guest-fsfreeze-freeze", timeout=60)) == 1
    engine.start()  # nobody's task: the worker finds it when it first hears the agent
    until(lambda: "a guest was left frozen: 1 file" in engine.log.read_text(), "the guest is thawed", 30)
    assert asked(engine, guest, "fsfreeze-status") == "thawed"
