"""Backups through the real worker: every bus, running and off; what is in them and what is left of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from backupkit import EVERY_BUS, READ, archive, digest, disks, graph, left, raw, unpacked, write
from enginekit import Engine
from snapkit import config, lines, paint

from vms.models import VM, Volume


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
