"""Backups that lie on a storage: noted, protected, pruned and removed by a real worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from enginekit import Engine, until

from vms.models import Task, Volume
from vms.operations.base import submit_on
from vms.storage import dump

DAYS = ("2026_11_24", "2026_11_25", "2026_11_26", "2026_11_27")


def name_of(day: str, vmid: int = 150) -> str:
    return f"vzdump-qemu-{vmid}-{day}-02_00_00.tar.zst"


@pytest.fixture
def folder(engine: Engine) -> Iterator[Path]:
    """The storage's folder of backups with four of VM 150 and one of 151, scanned."""
    place = engine.home / "local" / "dump"
    place.mkdir(exist_ok=True)
    for path in [name_of(day) for day in DAYS] + [name_of(DAYS[0], 151)]:
        (place / path).write_bytes(b"archive")
        dump.beside(place / path, dump.LOG).write_text("INFO: made")
    do(engine, "storagescan", storage="local")
    yield place
    shutil.rmtree(place)


def do(engine: Engine, verb: str, **params: str) -> Task:
    given = {key.replace("_", "-"): text for key, text in params.items()}
    return engine.end(submit_on(verb, node=engine.node, user=None, params=given))


def archives(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.tar.zst"))


def said(task: Task) -> str:
    return "\n".join(line.text for line in task.lines.all())


def test_notes_protection_and_removal(engine: Engine, folder: Path) -> None:
    row = Volume.objects.get(name=f"backup/{name_of(DAYS[0])}")
    assert (row.content, row.vmid, row.size) == ("backup", 150, 7)
    task = do(engine, "backupset", volume=row.volid, notes="before\nthe upgrade", protected="1")
    assert task.status == "ok", task.message
    assert dump.beside(folder / row.label, dump.NOTES).read_text() == "before\nthe upgrade"
    row.refresh_from_db()
    assert (row.notes, row.protected) == ("before\nthe upgrade", True)
    # The files are the truth: a mark taken away by hand is known after a scan.
    dump.beside(folder / row.label, dump.PROTECTED).unlink()
    do(engine, "storagescan", storage="local")
    row.refresh_from_db()
    assert (row.notes, row.protected) == ("before\nthe upgrade", False)
    assert do(engine, "imgdel", volume=row.volid).status == "ok"
    assert not list(folder.glob(f"{row.label}*"))
    assert not Volume.objects.filter(pk=row.pk).exists()


def test_a_mark_set_by_hand_is_heeded_before_a_scan(engine: Engine, folder: Path) -> None:
    row = Volume.objects.get(name=f"backup/{name_of(DAYS[0])}")
    dump.beside(folder / row.label, dump.PROTECTED).touch()
    task = do(engine, "imgdel", volume=row.volid)
    assert (task.status, "is protected" in task.message) == ("error", True)
    assert (folder / row.label).exists()


@pytest.mark.parametrize("killed", [False, True])
def test_pruning(engine: Engine, folder: Path, killed: bool) -> None:
    dump.beside(folder / name_of(DAYS[0]), dump.PROTECTED).touch()
    rules: dict[str, Any] = {"storage": "local", "prune-backups": "keep-last=1", "vmid": "150"}
    if killed:
        engine.kill()
        engine.launch(PVELITE_FAULT="prune:1")
    task = submit_on("prune", node=engine.node, user=None, params=rules)
    if killed:
        assert engine.process is not None
        until(lambda: engine.process and engine.process.poll() is not None, "the worker is dead")
        engine.start()
    engine.end(task)
    assert task.status == "ok", task.message
    assert archives(folder) == sorted([name_of(DAYS[0]), name_of(DAYS[3]), name_of(DAYS[0], 151)])
    assert set(Volume.objects.filter(present=True).values_list("name", flat=True)) == {
        f"backup/{name}" for name in archives(folder)
    }
    assert f"removed backup 'local:backup/{name_of(DAYS[1])}': no rule keeps it" in said(task)
    assert not list(folder.glob(f"*{DAYS[1]}*"))
