"""Restore by the worker: to a new number, in place, and refused, with nothing lost and nothing left."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from diskkit import config, created, holds_pattern, lines, second
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from enginekit import ROOT, Engine, until
from restorekit import (
    CONF,
    MIB,
    SIZE,
    Memory,
    backup,
    content,
    disks,
    done,
    drives,
    failed,
    forged,
    holds,
    nothing_left,
    packed,
    put,
    restore,
)

from vms.backup.nbd import Extent
from vms.errors import AccessError, ConfigError, NotFound, StateError
from vms.models import VM, AclEntry, Storage, Volume
from vms.operations.base import submit, submit_on
from vms.operations.configure import change
from vms.operations.protection import said_of


def set_(engine: Engine, vm: VM, **values: str) -> None:
    task = engine.end(change(vm, None, set=values))
    assert task.status == "ok", task.message
    vm.refresh_from_db()


def test_to_a_new_number(engine: Engine) -> None:
    """The same machine: disks byte for byte, in their formats, its addresses, a new generation."""
    archive = backup(engine)
    task = restore(engine, archive)
    assert VM.everything.get(vmid=101).stage == "draft", "the number is taken at once"
    vm = done(engine, task)
    found = config(vm)
    assert drives(vm) == {"scsi0": "local:101/vm-101-disk-0.qcow2", "virtio1": "local:101/vm-101-disk-1.raw"}
    holds(vm, disks())
    assert found["scsi0"] == CONF["scsi0"]
    assert (found["net0"], found["smbios1"], found["name"]) == (CONF["net0"], CONF["smbios1"], "restored")
    assert found["vmgenid"] not in (CONF["vmgenid"], "1")
    assert found["description"].strip() == "as it was"
    used = (engine.home / "local" / "images" / "101" / "vm-101-disk-1.raw").stat().st_blocks * 512
    assert used < 4 * MIB, "gaps stay gaps"
    assert (vm.lock, vm.draft) == ("", {})
    nothing_left(engine)
    # Beside it under another number, as a machine of its own; its disks elsewhere.
    store = second(engine)
    with pytest.raises(ConfigError, match="VM 101 already exists"):
        restore(engine, archive)
    assert "unique" in failed(engine, restore(engine, archive, 102))
    assert not VM.everything.filter(vmid=102).exists()
    other = done(engine, restore(engine, archive, 102, unique="1", storage=store.name))
    assert set(drives(other).values()) == {
        "second:102/vm-102-disk-0.qcow2", "second:102/vm-102-disk-1.raw"
    }  # fmt: skip
    holds(other, disks())
    for key in ("net0", "smbios1", "vmgenid"):
        assert config(other)[key] != found[key], key
    nothing_left(engine)


def test_in_place(engine: Engine) -> None:
    """The old disks go only when the new ones are there; what the backup does not hold stays."""
    vm = created(engine, 101)
    set_(engine, vm, scsi5="local:0.01,format=raw", scsi6="local:0.01,format=qcow2,backup=0")
    before = drives(vm)
    conf = CONF | {"scsi6": f"{before['scsi6']},backup=0,size=10M", "description": "then"}
    archive = backup(engine, conf)
    with pytest.raises(ConfigError, match="already exists"):
        restore(engine, archive)
    vm = done(engine, restore(engine, archive, force="1"))
    after = drives(vm)
    holds(vm, disks())
    assert after["scsi0"] != before["scsi0"]
    assert after["scsi6"] == before["scsi6"], "a drive that is in no backup stays"
    assert after["unused0"] == before["scsi5"], "and so does a disk the backup knows nothing of"
    assert config(vm)["name"] == "restored"
    assert len(engine.images()) == 4
    assert not Volume.objects.filter(name=before["scsi0"].partition(":")[2]).exists()
    assert vm.draft == {}
    nothing_left(engine)


def test_protection_that_lay_in_the_backup(engine: Engine) -> None:
    """Whoever restored it protects it, and the words say where that comes from."""
    anna = get_user_model().objects.create_superuser("anna")
    try:
        vm = done(engine, restore(engine, backup(engine, CONF | {"protection": "1"}), user=anna))
        assert said_of(vm).startswith("Protected by anna since ")
        assert said_of(vm).endswith(", as it was in its backup; no reason was given.")
    finally:
        anna.delete()


def test_what_in_place_is_refused_for(engine: Engine) -> None:
    archive = backup(engine)
    vm = created(engine, 101)
    set_(engine, vm, protection="1")
    with pytest.raises(StateError, match="protection mode"):
        restore(engine, archive, force="1")
    set_(engine, vm, protection="0")
    engine.do("qmstart", vm)
    with pytest.raises(StateError, match="vm is running"):
        restore(engine, archive, force="1")
    engine.do("qmstop", vm)
    assert holds_pattern(drives(vm)["scsi0"])


def damaged(engine: Engine) -> dict[str, tuple[str, str]]:
    """Backups that cannot be restored, and a word of what is said of each."""
    whole = (engine.home / "local" / "dump" / backup(engine).rpartition("/")[2]).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    size = 8192
    conf = b"name: x\nmemory: 64\nscsi0: local:101/vm-101-disk-0.qcow2,size=8K\n"
    disk, data = {"scsi0.raw": size}, random.Random(3).randbytes(size)
    extents = [Extent(0, size)]
    wrong = forged(disk, conf).disk("scsi0.raw", size, extents, data)
    wrong.sums[2]["xxh128"] = "0" * 32
    escape = forged(disk, conf).text("../../../../tmp/evil", b"x")
    link = forged(disk, conf).raw(subprocess.run(
        ["tar", "-cf", "-", "-C", "/proc/self", "--format=ustar", "cwd"], capture_output=True, check=True
    ).stdout[:512])  # fmt: skip

    def with_conf(text: bytes) -> bytes:
        return packed(forged(disk, text).disk("scsi0.raw", size, extents, data).end())

    other = b"scsi1: local:103/vm-103-disk-0.qcow2,size=64M\n"
    cases = {
        "truncated": (whole[: len(whole) * 2 // 3], "not complete"),
        "flipped": (bytes(flipped), "damaged"),
        "garbage": (random.Random(1).randbytes(50_000), "no zstd file"),
        "sum": (packed(wrong.end()), "the sum of scsi0.raw does not match"),
        "escape": (packed(escape.end()), "scsi0.raw: is missing; '../../../../tmp/evil'"),
        "link": (packed(link.end()), "is a symbolic link"),
        "no drive": (with_conf(b"name: x\n"), "scsi0"),
        "conf": (with_conf(b"\0\0\0"), "qemu.conf"),
        "path": (with_conf(conf + b"scsi1: /etc/shadow,size=1G\n"), ""),
        "other's": (with_conf(conf + other), ""),
    }
    found = {}
    for name, (bad, word) in cases.items():
        found[name] = (put(engine, lambda path, bad=bad: path.write_bytes(bad)), word)
    return found


def test_archives_that_are_damaged_or_lie(engine: Engine) -> None:
    """To a new number and in place: a clear error, nothing lost, nothing left."""
    victim, other = created(engine, 101), created(engine, 103)
    before = (config(victim), engine.images())
    for name, (archive, word) in damaged(engine).items():
        if not word:
            vm = done(engine, restore(engine, archive, 104))
            assert "scsi1" not in config(vm), "neither another VM's disk nor a file of the host is given away"
            assert "Not in the backup: `scsi1: " in config(vm)["description"]
            engine.end(engine.submit("qmdestroy", vm, now="1"))
            continue
        message = failed(engine, restore(engine, archive, 104))
        assert archive in message, name
        assert word in message, name
        assert not VM.everything.filter(vmid=104).exists(), name
        message = failed(engine, restore(engine, archive, force="1"))
        assert word in message, name
        assert (config(victim), engine.images()) == before, name
        victim.refresh_from_db()
        assert (victim.lock, victim.draft) == ("", {})
        nothing_left(engine)
    assert holds_pattern(drives(victim)["scsi0"])
    assert holds_pattern(drives(other)["scsi0"])
    assert not Path("/tmp/evil").exists()


def test_a_qcow2_with_a_backing_file_is_raw_bytes(engine: Engine) -> None:
    """A member that begins as an image over a file of the host becomes those very bytes in the disk."""
    base, top = engine.home / "secret.raw", engine.home / "top.qcow2"
    base.write_bytes(b"secret" * 1000)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(top), "1M"]
    subprocess.run(create, check=True)
    image = top.read_bytes().ljust(SIZE, b"\0")
    vm = done(engine, restore(engine, backup(engine, content={**disks(), "scsi0": Memory(SIZE, {0: image})})))
    assert content(drives(vm)["scsi0"]) == image
    assert b"secret" * 10 not in content(drives(vm)["scsi0"])
    vm2 = done(
        engine,
        restore(
            engine, backup(engine, content={**disks(), "virtio1": Memory(SIZE, {0: image})}), 102, unique="1"
        ),
    )
    assert content(drives(vm2)["virtio1"]) == image, "raw, and read as raw"


def test_a_storage_that_fills_up(engine: Engine, tiny: Storage) -> None:
    """The room ends in the middle: told in words, all of it taken back; in place the VM stays as it was."""
    large = {"scsi0": Memory(128 * MIB, {0: b"pvelite!" * (16 << 20)}), "virtio1": disks()["virtio1"]}
    archive = backup(engine, CONF | {"scsi0": "local:101/vm-101-disk-0.qcow2,size=128M"}, large)
    message = failed(engine, restore(engine, archive, 105, storage=tiny.name))
    assert "scsi0.raw: cannot be written" in message
    assert "space" in message
    assert not VM.everything.filter(vmid=105).exists()
    vm = created(engine, 101)
    before = (config(vm), engine.images())
    assert "space" in failed(engine, restore(engine, archive, force="1", storage=tiny.name))
    assert (config(vm), engine.images()) == before
    assert holds_pattern(drives(vm)["scsi0"])
    assert not list(Path(tiny.path).glob("images/*/*"))
    nothing_left(engine)


def test_cancelled(engine: Engine) -> None:
    """With a limit it takes long enough to be caught; then nothing of it is there."""
    from vms.tasks import queue

    held = {"scsi0": Memory(SIZE, {0: random.Random(5).randbytes(SIZE)}), "virtio1": disks()["virtio1"]}
    task = restore(engine, backup(engine, content=held), bwlimit="512")
    until(lambda: engine.images() and list((engine.run_dir / "nbd").glob("*/nbd.pid")), "it writes", 60)
    queue.request_cancel(task)
    engine.end(task, 60)
    assert task.status == "cancelled"
    until(lambda: not VM.everything.filter(vmid=101).exists(), "its number is free")
    assert engine.images() == []
    nothing_left(engine)


def test_firmware_tpm_template_and_cloudinit_come_back(engine: Engine) -> None:
    conf = CONF | {
        "bios": "ovmf", "efidisk0": "local:101/vm-101-disk-2.qcow2,efitype=4m,size=528K",
        "tpmstate0": "local:101/vm-101-disk-3.raw,size=4M,version=v2.0", "template": "1",
        "scsi3": "local:101/vm-101-cloudinit.qcow2,media=cdrom", "ide0": "local:iso/gone.iso,media=cdrom",
        "ciuser": "anna",
    }  # fmt: skip
    noise = random.Random(9)
    held = disks() | {
        "efidisk0": Memory(540672, {0: noise.randbytes(540672)}),
        "tpmstate0": Memory(4 * MIB, {0: noise.randbytes(70_000)}),
    }
    task = restore(engine, backup(engine, conf, held))
    vm = done(engine, task)
    assert task.status == "warnings"
    assert "'local:iso/gone.iso' is not here" in lines(task)
    holds(vm, held)
    found = config(vm)
    assert vm.template
    assert all("/base-101-disk-" in drives(vm)[key] for key in held), drives(vm)
    assert found["ide0"] == "none,media=cdrom"
    assert found["scsi3"].startswith("local:101/vm-101-cloudinit.qcow2,media=cdrom")
    assert found["efidisk0"].endswith("efitype=4m,size=528K")
    assert os.stat(engine.home / "local" / "images" / "101" / "base-101-disk-0.qcow2").st_mode & 0o222 == 0


def test_who_may(engine: Engine) -> None:
    """The backup, the number, the room, the bridge, and what only an operator may set."""
    archive = backup(engine, CONF | {"net0": "virtio=BC:24:11:00:01:01,bridge=vmbr7"})
    hostile = backup(engine, CONF | {"args": "-device pvpanic"})
    User.objects.filter(username="anna").delete()
    anna = User.objects.create_user("anna")

    def grant(path: str, role: str) -> User:
        AclEntry.objects.create(user=anna, path=path, role=role)
        return User.objects.get(pk=anna.pk)

    with pytest.raises(AccessError, match="Datastore"):
        restore(engine, archive, user=anna)
    user = grant("/storage/local", "PVEDatastoreAdmin")
    with pytest.raises(AccessError, match=r"VM\.Allocate"):
        restore(engine, archive, user=user)
    user = grant("/vms/101", "PVEVMAdmin")
    assert "/sdn/zones/localnetwork/vmbr7, SDN.Use" in failed(engine, restore(engine, archive, user=user))
    assert "only an operator may restore a VM with 'args" in failed(
        engine, restore(engine, hostile, user=user)
    )
    assert not VM.everything.filter(vmid=101).exists()
    user = grant("/sdn/zones/localnetwork/vmbr7", "PVESDNUser")
    vm = done(engine, restore(engine, archive, user=user))
    # Over it: what it has already, it may have again.
    assert "args" in failed(engine, restore(engine, hostile, user=user, force="1"))
    set_(engine, vm, args="-device pvpanic")
    done(engine, restore(engine, hostile, user=user, force="1"))
    anna.delete()


def test_a_machine_without_disks(engine: Engine) -> None:
    conf = {"name": "bare", "memory": "64", "ide2": "none,media=cdrom"}
    vm = done(engine, restore(engine, backup(engine, conf, {}), 106))
    assert config(vm) == conf
    nothing_left(engine)


def test_started_and_verified(engine: Engine) -> None:
    archive = backup(engine)
    task = engine.end(submit_on("verifybackup", node=engine.node, user=None, params={"volume": archive}), 60)
    assert task.status == "ok", task.message
    row = Volume.objects.get(name=archive.partition(":")[2])
    assert (row.verdict, row.checked is not None) == ("ok", True)
    vm = done(engine, restore(engine, archive, start="1"))
    engine.status(vm, "running")
    engine.do("qmstop", vm)
    path = engine.home / "local" / "dump" / archive.rpartition("/")[2]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    task = engine.end(submit_on("verifybackup", node=engine.node, user=None, params={"volume": archive}), 60)
    assert task.status == "error"
    row.refresh_from_db()
    assert row.verdict == task.message
    assert archive in row.verdict
    path.unlink()
    engine.end(submit_on("storagescan", node=engine.node, user=None))
    with pytest.raises(NotFound):
        submit("qmrestore", vm=vm, user=None, params={"archive": archive, "force": "1"})


def test_from_the_command_line(engine: Engine) -> None:
    """PVE's own command, by volume and by path; exit codes and words; ``qm verifybackup``."""
    archive = backup(engine)
    path = engine.home / "local" / "dump" / archive.rpartition("/")[2]

    def call(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        module, function = {"qmrestore": ("qm", "qmrestore")}.get(program, (program, "main"))
        entry = f"import sys; from vms.cli import {module}; sys.exit({module}.{function}())"
        return subprocess.run(
            [sys.executable, "-c", entry, *words],
            cwd=ROOT, env=engine.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip

    told = call("qmrestore", "--help").stdout
    for word in ("ARCHIVE", "VMID", "--storage", "--unique", "--force", "--start", "--bwlimit", "--pool"):
        assert word in told
    first = call("qmrestore", str(path), "101")
    assert first.returncode == 0, first.stderr
    assert "VM 101 is restored" in first.stdout
    holds(VM.objects.get(vmid=101), disks())
    again = call("qmrestore", archive, "101")
    assert again.returncode == 1
    assert "VM 101 already exists" in again.stderr
    assert call("qm", "restore", archive, "101", "--force", "1").returncode == 0
    assert call("qm", "verifybackup", archive).returncode == 0
    told = call("pvesm", "extractconfig", archive)
    assert told.returncode == 0, told.stderr
    assert "name: restored\n" in told.stdout
    nowhere = call("qmrestore", "/tmp/nowhere.tar.zst", "102")
    assert nowhere.returncode == 1
    assert "folder 'dump'" in nowhere.stderr
    path.write_bytes(b"nothing")
    bad = call("qm", "verifybackup", archive)
    assert bad.returncode == 1
    assert "no zstd file" in bad.stderr + bad.stdout
