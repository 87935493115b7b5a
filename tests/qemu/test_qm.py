"""``qm`` as an operator types it: a real worker, real machines, exit codes, the task's log as it grows."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "engine"))

from enginekit import ROOT, Engine, database_at, layer_at, until

QM = Path(sys.executable).parent / "qm"
CONFIG = {
    "name": "qm-test",
    "ostype": "l26",
    "memory": "64",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local:1,format=qcow2",
    "boot": "order=scsi0",
}


class Shell:
    """Runs ``qm`` on one home."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    def __call__(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(QM), *words], cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def good(self, *words: str) -> str:
        """What it printed; it has to end well."""
        done = self(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words: str, code: int = 1) -> str:
        """What it said on standard error; it has to end with that code and print nothing else."""
        done = self(*words)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.good(*words, "--json"))


@pytest.fixture(scope="module")
def engine(django_db_blocker: Any) -> Iterator[Engine]:
    """A worker with an empty home."""
    made = Engine()
    try:
        made.set_up()
        made.start_redis()
        with django_db_blocker.unblock(), database_at(made.home / "pvelite.sqlite3"), layer_at(made.redis):
            made.start()
            yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def qm(engine: Engine) -> Shell:
    return Shell(engine.environ)


@pytest.fixture
def vm(engine: Engine) -> Iterator[int]:
    """A machine, stopped; whatever the test leaves of it is removed."""
    from vms.models import VM

    vm = engine.draft(CONFIG)
    engine.do("qmcreate", vm)
    yield vm.vmid
    left = VM.objects.filter(vmid=vm.vmid).first()
    if left is not None:
        engine.do("qmstop", left)
        assert engine.end(engine.submit("qmdestroy", left, now="1")).status == "ok"


def test_a_whole_life(qm: Shell, engine: Engine, vm: int) -> None:
    number = str(vm)
    assert number in qm.good("list")
    said = qm.good("start", number)
    assert "QEMU runs as process" in said
    assert said.splitlines()[-1] == "TASK OK"
    assert qm.good("status", number) == "status: running\n"
    pid = engine.qemus()[vm]
    [row] = qm.json("list")
    assert (row["vmid"], row["name"], row["status"], row["pid"]) == (vm, "qm-test", "running", pid)
    assert row["bootdisk"] == 1
    qm.good("suspend", number)
    assert qm.json("status", number)["qmpstatus"] == "paused"
    qm.good("resume", number)
    qm.good("reset", number)
    assert engine.qemus()[vm] == pid
    assert qm.json("status", number)["status"] == "running"
    assert qm.json("stop", number) == {"upid": qm_upid(vm, "qmstop"), "status": "ok", "message": ""}
    assert engine.qemus() == {}
    assert qm.good("status", number) == "status: stopped\n"
    assert "removed volume" in qm.good("destroy", number, "--now")
    assert qm.json("list") == []
    assert "does not exist" in qm.refused("status", number)


def qm_upid(vmid: int, type_: str) -> str:
    """The last task of that kind, in PVE's unique form."""
    from vms.models import Task

    found = Task.objects.filter(vmid=vmid, type=type_).latest("pk").upid
    assert found.startswith("UPID:pve1:")
    return found


def test_the_configuration(qm: Shell, vm: int) -> None:
    lines = dict(line.split(": ", 1) for line in qm.good("config", str(vm)).splitlines())
    assert lines == qm.json("config", str(vm))
    assert lines["name"] == "qm-test"
    assert lines["scsi0"] == f"local:{vm}/vm-{vm}-disk-0.qcow2,size=1G"
    assert "pid" not in qm.good("status", str(vm))
    assert f"vmid: {vm}" in qm.good("status", str(vm), "--verbose")


def test_disks(qm: Shell, engine: Engine, vm: int) -> None:
    """Proxmox's words, long and short; a file of the shell's own folder; exit codes."""
    number, image = str(vm), engine.home / "local" / "image.qcow2"
    assert "scsi0: has 2G now" in qm.good("disk", "resize", number, "scsi0", "2G")
    assert "scsi0: has 3G now" in qm.good("resize", number, "scsi0", "+1G")
    assert "shrinking" in qm.refused("resize", number, "scsi0", "1G")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M"], check=True)
    image.chmod(0o644)
    said = qm.good("importdisk", number, str(image), "local", "--format", "raw", "--target-disk", "scsi1")
    assert f"as scsi1: 'local:{vm}/vm-{vm}-disk-1.raw'" in said
    said = qm.good("disk", "move", number, "scsi1", "--format", "qcow2", "--delete", "1")
    assert f"scsi1: is 'local:{vm}/vm-{vm}-disk-2.qcow2' now" in said
    assert "same storage with same format" in qm.refused("move_disk", number, "scsi0", "local")
    assert "changed: scsi1" in qm.good("unlink", number, "--idlist", "scsi1")
    assert qm.json("config", number)["unused0"] == f"local:{vm}/vm-{vm}-disk-2.qcow2"
    qm.good("disk", "unlink", number, "--idlist", "unused0", "--force")
    assert "every volume is known" in qm.good("disk", "rescan", "--vmid", number, "--dryrun")
    assert qm.json("rescan", "--vmid", number)["status"] == "ok"
    assert "arguments are required" in qm.refused("disk", code=2)


def test_a_change(qm: Shell, vm: int) -> None:
    """At once while it is stopped; while it runs, what cannot be is pending."""
    number = str(vm)
    said = qm.good("set", number, "--cores", "2", "--description", "two\nlines: 1", "--onboot")
    assert said.splitlines()[0] == "update: -cores 2 -description two\\nlines: 1 -onboot 1"
    assert "description: two%0Alines%3A 1" in qm.good("config", number).splitlines()
    assert "scsi1: successfully created disk" in qm.good("set", number, "--scsi1", "1")
    qm.good("start", number)
    said = qm.good("set", number, "--memory", "128", "--delete", "onboot,cores")
    assert "memory: pending, hotplug of 'memory' is off for this VM" in said
    pending = qm.good("pending", number).splitlines()
    assert [line for line in pending if "memory" in line] == ["cur memory: 64", "new memory: 128"]
    assert "del cores: 2" in pending
    assert not [line for line in pending if "onboot" in line]
    assert "memory: 128" in qm.good("config", number).splitlines()
    assert "memory: 64" in qm.good("config", number, "--current").splitlines()
    assert {"key": "memory", "current": "64", "pending": "128", "delete": 0} in qm.json("pending", number)
    qm.good("set", number, "--revert", "memory")
    assert "new memory" not in qm.good("pending", number)
    said = qm.refused("set", number, "--memory", "much", "--net0", "virtio,tag=5000")
    assert said.startswith("qm set: memory.current: 'much' is not a whole number\nnet0.tag: 5000")
    assert "nothing to change" in qm.refused("set", number)
    assert "unrecognized arguments: --flying" in qm.refused("set", number, "--flying", "1", code=2)
    assert "snapshot 'no' does not exist" in qm.refused("config", number, "--snapshot", "no")
    assert "checksum mismatch" in qm.refused("set", number, "--name", "x", "--digest", "0" * 40)


def test_create(qm: Shell, engine: Engine) -> None:
    """One command; what is wrong is said by key and leaves nothing, neither a draft nor a disk."""
    from vms.models import VM

    said = qm.refused("create", "300", "--memory", "64", "--scsi0", "nowhere:1", "--boot", "order=net3")
    assert "scsi0.file: storage 'nowhere' does not exist" in said or "boot.order: net3" in said
    assert not VM.everything.filter(vmid=300).exists()
    words = ["--name", "typed", "--memory", "64", "--ostype", "l26", "--scsi0", "1,format=qcow2", "--start"]
    words += ["--protection", "1"]
    assert "Execute autostart" in qm.good("create", "300", *words)
    assert engine.qemus().keys() == {300}
    assert "name: typed" in qm.good("config", "300").splitlines()
    assert "VM 300 already exists" in qm.refused("create", "300", "--memory", "64")
    qm.good("stop", "300")
    said = qm.refused("destroy", "300", "--now")
    assert f"Protected by {getpass.getuser()} (qm) since " in said
    assert "; no reason was given. Switch Protection off under Options first." in said
    qm.good("set", "300", "--protection", "0")
    qm.good("destroy", "300", "--now")
    done = qm("create", "301", "--memory", "64", "--scsi0", "local:100000,format=raw")
    assert done.returncode == 1
    assert not VM.everything.filter(vmid=301).exists()
    assert not [file for file in engine.images() if "301" in file]


def test_what_is_refused_at_once(qm: Shell, vm: int) -> None:
    """Exit code 1 and a sentence; 2 for a call that cannot be read."""
    from vms.models import Task

    number, before = str(vm), Task.objects.count()
    for verb in ("shutdown", "reboot", "reset", "suspend", "resume"):
        assert qm.refused(verb, number) == f"qm {verb}: VM {vm} is not running.\n"
    for verb in ("start", "config", "status", "destroy"):
        assert "VM 99 does not exist" in qm.refused(verb, "99")
    assert "timeout" in qm.refused("stop", number, "--timeout", "-1")
    assert "timeout" in qm.refused("stop", number, "--timeout", "soon")
    assert "invalid int value" in qm.refused("start", "web_01", code=2)
    assert "required: VMID" in qm.refused("start", code=2)
    assert "there is no command 'fly'" in qm.refused("fly", number, code=2)
    assert Task.objects.count() == before
    qm.good("start", number)
    assert "already running" in qm.refused("start", number)
    assert "is running - destroy failed" in qm.refused("destroy", number)


def test_a_task_that_fails(qm: Shell, engine: Engine, vm: int) -> None:
    """The guest heeds no power button: code 1, the reason on standard error; with forceStop it ends."""
    qm.good("start", str(vm))
    done = qm("shutdown", str(vm), "--timeout", "1")
    assert done.returncode == 1
    assert "pressing the power button" in done.stdout
    assert "got timeout" in done.stderr
    done = qm("reboot", str(vm), "--timeout", "1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "error"
    assert "got timeout" in done.stderr
    assert vm in engine.qemus()
    assert "stopping it" in qm.good("shutdown", str(vm), "--timeout", "1", "--forceStop")
    assert engine.qemus() == {}


def test_a_launch_that_fails_says_qemus_words(qm: Shell, engine: Engine, vm: int) -> None:
    from vms.models import VM
    from vms.models.configuration import config_of, save_config

    row = VM.objects.get(vmid=vm)
    save_config(row, {**config_of(row), "args": "-device no-such-device"})
    done = qm("start", str(vm))
    assert done.returncode == 1
    assert "no-such-device" in done.stderr
    assert "exit code 1" in done.stderr
    assert "/qemu-system-x86_64" in done.stdout + done.stderr, "the command is shown"
    assert engine.strays() == []
    assert engine.run_files(vm) == []


def test_the_log_is_followed_while_it_grows(qm: Shell, vm: int) -> None:
    """Lines arrive when they are written, not at the end."""
    qm.good("start", str(vm))
    with subprocess.Popen(
        [str(QM), "shutdown", str(vm), "--timeout", "3"], cwd=ROOT, env=qm.environ, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "power button" in line:
                break
        early = time.monotonic()
        assert process.wait(30) == 1
    assert time.monotonic() - early > 1


def test_without_a_worker_it_says_so(qm: Shell, engine: Engine, vm: int) -> None:
    engine.kill()
    from vms.models import Node

    Node.objects.update(heartbeat=None)
    with subprocess.Popen(
        [str(QM), "start", str(vm)], cwd=ROOT, env=qm.environ, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline() == "Waiting: the worker of node pve1 is not running.\n"
        engine.start()
        assert process.wait(30) == 0
    until(lambda: vm in engine.qemus(), "the machine runs")


def test_without_an_installation(tmp_path: Path) -> None:
    environ = {**os.environ, "PVELITE_HOME": str(tmp_path / "nothing")}
    environ.pop("DATABASE_URL", None)
    said = Shell(environ).refused("list")
    assert said.startswith(f"qm list: there is no installation in {tmp_path}/nothing.")
    assert not (tmp_path / "nothing").exists()


def test_showcmd_needs_neither(tmp_path: Path) -> None:
    """0 with the command; 2 with one line per error, its key first."""
    shell = Shell({**os.environ, "PVELITE_HOME": str(tmp_path / "nothing")})
    good, bad = tmp_path / "104.conf", tmp_path / "105.conf"
    good.write_text("name: web\nmemory: 512\n")
    bad.write_text("name: web_01\nmemory: much\nflying: 1\n")
    assert "guest=web" in shell.good("showcmd", "--file", str(good))
    words = shell.json("showcmd", "--file", str(good), "--vmid", "120")
    assert any("/vm/120/" in word for word in words)
    said = shell.refused("showcmd", "--file", str(bad), "--json", code=2)
    assert all(line.split(":")[0] in ("name", "memory", "flying") for line in said.splitlines())
    assert "file: cannot be read" in shell.refused("showcmd", "--file", str(tmp_path / "no.conf"), code=2)
    assert "--file" in shell.refused("showcmd", code=2)


def test_snapshots(qm: Shell, vm: int) -> None:
    number = str(vm)
    assert "`-> current" in qm.good("listsnapshot", number)
    qm.good("snapshot", number, "one", "--description", "first\nline")
    qm.good("start", number)
    qm.good("snapshot", number, "two", "--vmstate")
    said = qm.good("listsnapshot", number).splitlines()
    assert [line.split()[1] for line in said] == ["one", "two", "current"]
    assert [line.index("`->") for line in said] == [0, 1, 2]
    assert said[0].endswith("first")
    assert " RAM" in said[1]
    assert said[2].endswith("You are here!")
    assert [row["parent"] for row in qm.json("listsnapshot", number)] == ["", "one", "two"]
    assert "\nparent: two\n" in qm.good("config", number)
    assert "already used" in qm.refused("snapshot", number, "two")
    qm.good("rollback", number, "one")
    assert qm.good("status", number) == "status: stopped\n"
    assert [row["name"] for row in qm.json("listsnapshot", number)] == ["one", "two", "current"]
    qm.good("rollback", number, "two")
    assert qm.good("status", number) == "status: running\n"
    qm.good("delsnapshot", number, "one")
    assert "does not exist" in qm.refused("delsnapshot", number, "one")
    assert [row["parent"] for row in qm.json("listsnapshot", number)] == ["", "two"]


def test_hibernation(qm: Shell, vm: int) -> None:
    number = str(vm)
    qm.good("start", number)
    assert "means nothing without --todisk" in qm.refused("suspend", number, "--statestorage", "local")
    qm.good("suspend", number, "--todisk")
    assert qm.json("status", number)["lock"] == "suspended"
    assert qm.json("config", number)["vmstate"].startswith(f"local:{vm}/vm-{vm}-state-suspend-")
    qm.good("resume", number)
    assert qm.good("status", number) == "status: running\n"
    qm.good("suspend", number, "--todisk", "1", "--statestorage", "local")
    qm.good("discard", number)
    assert qm.json("status", number)["lock"] == ""


def test_templates_clones_and_the_trash(qm: Shell, vm: int) -> None:
    number = str(vm)
    qm.good("template", number)
    assert "can't convert a template to a template" in qm.refused("template", number)
    qm.good("clone", number, "700", "--name", "twin")
    linked = qm.json("config", "700")
    assert linked["name"] == "twin"
    assert linked["scsi0"].startswith(f"local:{vm}/base-{vm}-disk-0.qcow2/700/")
    assert "still in use by linked cloned VMs: 700" in qm.refused("destroy", number)
    qm.good("clone", "700", "701", "--full")
    assert qm.json("config", "701")["scsi0"].startswith("local:701/vm-701-disk-0.qcow2,")
    assert "already exists" in qm.refused("clone", number, "701")
    qm.good("destroy", "700")
    assert [row["vmid"] for row in json.loads(qm.good("trash", "list", "--json"))] == [700]
    assert "in the trash" in qm.refused("start", "700")
    qm.good("trash", "restore", "700")
    assert qm.json("config", "700") == linked
    qm.good("destroy", "700")
    qm.good("trash", "purge", "700")
    assert "is not in the trash" in qm.refused("trash", "restore", "700")
    qm.good("destroy", "701", "--now")


def test_a_long_task_shows_a_bar_on_a_terminal(qm: Shell, engine: Engine, vm: int) -> None:
    """Redrawn on its line while it grows; the log's lines stand above it."""
    disk = engine.home / "local" / "images" / str(vm) / f"vm-{vm}-disk-0.qcow2"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 90 0 24M", disk], check=True)
    master, slave = os.openpty()
    words = ["move-disk", str(vm), "scsi0", "--format", "raw", "--bwlimit", "8192", "--delete"]
    with subprocess.Popen(
        [str(QM), *words], cwd=ROOT, env=qm.environ, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        said = b""
        with suppress(OSError):  # how Linux says that nobody has the other end any more
            while part := os.read(master, 4096):
                said += part
        assert process.wait(60) == 0, said
    os.close(master)
    bars = re.findall(rb"\r\x1b\[K\[(#*)(\.*)\] +\d+% copying scsi0: \d+%", said)
    assert any(done and left for done, left in bars), said
    assert said.endswith(b"TASK OK\r\n")


def test_vzdump(qm: Shell, engine: Engine, vm: int) -> None:
    """A program of its own: numbers or all, Proxmox's options, an exit code for all of them together."""
    program = QM.with_name("vzdump")

    def vzdump(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *words], cwd=ROOT, env=qm.environ, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip

    done = vzdump(str(vm), "--compress", "zstd", "--notes-template", "{{vmid}}", "--quiet", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "vzdump: --quiet means nothing here\n"
    assert f"starting new backup job: vzdump {vm} --compress zstd --notes-template" in done.stdout
    assert done.stdout.endswith("TASK OK\n")
    (notes,) = (engine.home / "local" / "dump").glob(f"vzdump-qemu-{vm}-*.tar.zst.notes")
    assert notes.read_text() == str(vm)
    others = ",".join(str(row["vmid"]) for row in qm.json("list"))
    done = vzdump("--all", "--exclude", others)
    assert (done.returncode, done.stdout) == (0, "")
    done = vzdump(str(vm), "--all", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "give the VMs' numbers, or --all 1, or --pool POOL" in done.stderr
    done = vzdump(str(vm), "--storage", "nowhere")
    assert done.returncode == 1
    assert f"vzdump: VM {vm}: storage: storage 'nowhere' does not exist" in done.stderr
    assert "Storages that take backups: local." in done.stderr
    assert vzdump(str(vm), "--mode", "quick").returncode == 1
