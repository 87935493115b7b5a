"""Backups through the real worker: every bus, running and off; what is in them and what is left of them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from backupkit import EVERY_BUS, READ, archive, digest, disks, graph, left, raw, unpacked, write
from clonekit import clone as ask_clone
from clonekit import made as cloned
from enginekit import Engine
from snapkit import SECURE, config, lines, paint

from vms.models import VM, Storage, Volume


def made(engine: Engine, more: dict[str, str] | None = None) -> VM:
    vm = engine.draft(EVERY_BUS | (more or {}), 100)
    engine.do("qmcreate", vm, 60)
    return vm


def test_every_bus_while_it_runs_and_off(engine: Engine, tmp_path: Path) -> None:
    vm = made(engine)
    paint(engine, vm, 7)
    engine.do("qmstart", vm, 60)
    for number, key in enumerate(READ):
        write(engine, vm, key, f"write -P {number + 16} 128k 64k")
    before = graph(engine, 100)
    asked = {"compress": "zstd", "notes_template": "{{guestname}} {{vmid}}", "protected": "1"}
    task = engine.do("vzdump", vm, 60, **asked)
    assert task.status == "ok", lines(task)
    assert graph(engine, 100) == before
    assert (vm.lock, vm.draft, vm.status) == ("", {}, "prelaunch")
    path = archive(engine, task)
    assert left(engine) == [path.name, *(path.name + one for one in (".log", ".notes", ".protected"))]
    members = unpacked(path, tmp_path / "live")
    manifest = json.loads(members["manifest.json"].read_text())
    assert [disk["key"] for disk in manifest["disks"]] == list(READ)
    assert (manifest["mode"], manifest["vmid"]) == ("snapshot", 100)
    assert members["qemu.conf"].read_text().count("scsi0: ") == 1
    row = Volume.objects.get(content="backup")
    assert (row.notes, row.protected, row.vmid) == ("every 100", True, 100)
    assert row.used > 0
    log = lines(task)
    assert "leave out scsi5: backup=0" in log
    assert "leave out ide2: a CD drive" in log
    engine.do("qmstop", vm)
    for key in READ:
        assert digest(members[f"{key}.raw"]) == digest(raw(engine, vm, key, tmp_path / key)), key
    task = engine.do("vzdump", vm, 60)
    assert task.status == "ok", lines(task)
    off = unpacked(archive(engine, task), tmp_path / "off")
    for key in READ:
        assert digest(off[f"{key}.raw"]) == digest(members[f"{key}.raw"]), key
    assert engine.run_files(100) == []
    assert engine.strays() == []
    assert set(disks(engine, vm)) == {*READ, "scsi5"}
    assert config(vm)["scsi0"]
    subprocess.run(["zstd", "-tq", str(path)], check=True)


def test_a_tpm_a_silent_agent_and_retention(engine: Engine, tmp_path: Path) -> None:
    """Nobody in the guest answers: the copy is taken all the same, and by the storage's rules the next one
    replaces it."""
    alive = {key: text for key, text in EVERY_BUS.items() if key in ("name", "ostype", "memory", "vga")}
    disks_ = {"scsihw": "virtio-scsi-single", "scsi0": "local:0.03125,iothread=1", "agent": "1"}
    vm = engine.draft(alive | disks_ | {"tpmstate0": SECURE["tpmstate0"], "description": "a: b"}, 100)
    engine.do("qmcreate", vm, 60)
    engine.do("qmstart", vm, 60)
    engine.do("qmsnapshot", vm, snapname="one")
    VM.everything.filter(pk=vm.pk).update(pending={"cores": "2"})
    before = graph(engine, 100)
    task = engine.do("vzdump", vm, 60, mode="snapshot")
    assert "the guest agent does not answer" in lines(task)
    first = archive(engine, task)
    engine.status(vm, "running")
    engine.do("qmpause", vm)  # its firmware uses the TPM while it runs
    own = Storage.objects.filter(pk=engine.storage.pk)
    own.update(options={"prune-backups": "keep-last=1"})
    task = engine.do("vzdump", vm, 60, mode="suspend")
    own.update(options={})
    assert "the guest stood still for" in lines(task)
    assert f"removed backup 'local:backup/{first.name}'" in lines(task)
    assert "agent" not in lines(task)
    engine.status(vm, "paused")
    name = config(vm)["tpmstate0"].split(",")[0].partition(":")[2]
    state = (engine.home / "local" / "images" / name).read_bytes().rstrip(b"\0")
    engine.do("qmresume", vm)
    assert graph(engine, 100) == before
    path = archive(engine, task)
    assert left(engine) == [path.name, f"{path.name}.log"]
    assert "scsi0: " in (path.parent / f"{path.name}.log").read_text()
    assert [row.label for row in Volume.objects.filter(content="backup")] == [path.name]
    members = unpacked(path, tmp_path / "one")
    manifest = json.loads(members["manifest.json"].read_text())
    assert (manifest["mode"], manifest["consistent"]) == ("suspend", False)
    assert members["tpmstate0.raw"].read_bytes().rstrip(b"\0") == state
    text = members["qemu.conf"].read_text()
    assert text.startswith("#a%3A b\n")
    assert not re.search(r"\[|cores|parent|lock", text)


def test_a_template_and_what_lies_on_it(engine: Engine, tmp_path: Path) -> None:
    vm = engine.draft({"name": "gold", "memory": "16", "scsi0": "local:0.03125"}, 100)
    engine.do("qmcreate", vm)
    paint(engine, vm, 9)
    engine.do("qmtemplate", vm)
    task = engine.do("vzdump", vm, 60, compress="zstd")
    members = unpacked(archive(engine, task), tmp_path / "gold")
    assert set(members["scsi0.raw"].read_bytes()[: 64 << 10]) == {9}
    assert "template: 1" in members["qemu.conf"].read_text()
    twin = cloned(engine, ask_clone(engine, vm, newid=101))
    task = engine.do("vzdump", twin, 60)
    members = unpacked(archive(engine, task), tmp_path / "twin")
    assert set(members["scsi0.raw"].read_bytes()[: 64 << 10]) == {9}
    assert (engine.run_files(100), engine.run_files(101), engine.strays()) == ([], [], [])
