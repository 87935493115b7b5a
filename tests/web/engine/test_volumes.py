"""The library's rows, and what may stand in a drive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from vms.errors import AccessError, ConfigErrors, NotFound, StateError
from vms.models import VM, AuditEntry, BackupJob, Node, Snapshot, Storage, StorageStatus, Volume
from vms.models.configuration import config_of, save_config
from vms.models.waiting import apply_pending
from vms.operations.destroy import erase, forget, leave_jobs, owned
from vms.operations.volumes import (
    find_volume,
    keep_volume,
    register_upload,
    remove_iso,
    snapshots_with,
    users_of,
)
from vms.storage import base
from vms.worker import storages
from vms.worker.storages import Scanner


@pytest.fixture
def iso(storage: Storage, node: Node) -> Volume:
    return register_upload(storage, node, "debian.iso", 1 << 20, "ab" * 32, None)


def test_an_upload_gets_its_row(iso: Volume, storage: Storage, node: Node, operator: Any) -> None:
    assert (iso.volid, iso.content, iso.node, iso.present) == ("local:iso/debian.iso", "iso", node, True)
    again = register_upload(storage, node, "iso/debian.iso", 2 << 20, "cd" * 32, operator)
    assert (again.pk, again.size) == (iso.pk, 2 << 20)
    assert AuditEntry.objects.filter(action="upload", username="root").exists()


def test_an_iso_in_use_stays(iso: Volume, make_vm: Callable[..., VM], operator: Any, anna: Any) -> None:
    make_vm(101, {"ide2": "local:iso/debian.iso,media=cdrom"})
    assert users_of(iso) == ["VM 101 (ide2)"]
    with pytest.raises(StateError, match=r"is used by VM 101 \(ide2\)"):
        remove_iso(iso, operator)
    with pytest.raises(AccessError):
        remove_iso(iso, anna)


def test_an_unused_iso_is_removed_by_a_task(iso: Volume, operator: Any) -> None:
    task = remove_iso(iso, operator)
    assert (task.type, task.label) == ("imgdel", "Remove local:iso/debian.iso")


def test_a_disk_in_use_is_no_iso(
    storage: Storage, node: Node, make_vm: Callable[..., VM], operator: Any, anna: Any
) -> None:
    disk = Volume.objects.create(
        storage=storage, node=node, name="100/vm-100-disk-0.raw", content="images", format="raw", vmid=100
    )
    make_vm(100, {"scsi0": disk.volid})
    with pytest.raises(StateError, match=r"is a disk and is used by VM 100 \(scsi0\)"):
        remove_iso(disk, operator)
    VM.objects.get(vmid=100).disks.all().delete()
    with pytest.raises(AccessError, match=r"Datastore\.AllocateSpace"):
        remove_iso(disk, anna)
    assert remove_iso(disk, operator).type == "imgdel"
    with pytest.raises(NotFound):
        find_volume("local:iso/none.iso", node)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("scsi0", "/etc/shadow", "a path of the host"),
        ("scsi0", "/dev/sda", "a path of the host"),
        ("scsi0", "nowhere:8", "storage 'nowhere' does not exist"),
        ("ide2", "local:iso/gone.iso,media=cdrom", "there is no volume"),
        ("scsi0", "local:iso/debian.iso", "goes into a CD drive"),
        ("scsi0", "local:101/vm-101-disk-0.raw", "belongs to VM 101"),
    ],
)
def test_what_may_not_be_in_a_drive(
    iso: Volume, storage: Storage, node: Node, make_vm: Callable[..., VM], key: str, text: str, words: str
) -> None:
    Volume.objects.create(
        storage=storage, node=node, name="101/vm-101-disk-0.raw", content="images", format="raw", vmid=101
    )
    vm = make_vm()
    before = config_of(vm)
    with pytest.raises(ConfigErrors) as caught:
        save_config(vm, before | {key: text})
    assert words in caught.value.by_key()[key]
    assert config_of(VM.everything.get(pk=vm.pk)) == before


def test_efi_and_tpm_are_drives(make_vm: Callable[..., VM], iso: Volume) -> None:
    """They have rows, so that they are allocated and removed like every disk."""
    config = {"efidisk0": "local:1,efitype=4m", "tpmstate0": "local:1,version=v2.0", "scsi0": "local:0.5"}
    vm = make_vm(stage=VM.Stage.DRAFT, config=config)
    assert config_of(vm) == config
    assert [disk.slot for disk in vm.disks.all()] == ["efidisk0", "scsi0", "tpmstate0"]


def test_pending_changes(make_vm: Callable[..., VM]) -> None:
    vm = make_vm(config={"memory": "512", "onboot": "1"})
    vm.pending = {"memory": "1024", "onboot": None, "cores": "2"}
    apply_pending(vm)
    fresh = VM.everything.get(pk=vm.pk)
    assert (config_of(fresh), fresh.pending) == ({"memory": "1024", "cores": "2"}, {})


def seen(storage: Storage, *volumes: base.Volume, active: bool = True) -> storages.Seen:
    status = base.StorageStatus(active=active, total=10, used=4, available=6, text="broken")
    return storages.Seen(storage, status, volumes)


def found(name: str, size: int = 1) -> base.Volume:
    content, vmid = ("iso", None) if name.startswith("iso/") else ("images", int(name.split("/")[0]))
    fmt = name.rpartition(".")[2]
    return base.Volume(
        volid=f"local:{name}", content=content, format=fmt, size=size, used=size, path=Path(name), vmid=vmid
    )  # type: ignore[arg-type]


def test_a_scan_brings_rows_in_line(node: Node, storage: Storage, make_vm: Callable[..., VM]) -> None:
    disk, one, two = found("100/vm-100-disk-0.qcow2"), found("iso/one.iso"), found("iso/two.iso")
    assert storages.store(node, seen(storage, disk, one, two), storages.known(storage, node))
    assert set(storages.known(storage, node)) == {
        "100/vm-100-disk-0.qcow2",
        "iso/one.iso",
        "iso/two.iso",
    }
    make_vm(config={"ide2": "local:iso/one.iso,media=cdrom"})
    assert storages.store(node, seen(storage, disk), storages.known(storage, node))
    rows = storages.known(storage, node)
    assert set(rows) == {"100/vm-100-disk-0.qcow2", "iso/one.iso"}  # in a drive: it stays, marked
    assert not rows["iso/one.iso"].present
    assert not storages.store(node, seen(storage, disk), rows)
    assert storages.store(node, seen(storage, disk, one), rows)
    assert Volume.objects.get(name="iso/one.iso").present


def test_a_clones_row_knows_its_base(node: Node, storage: Storage) -> None:
    lowest = found("900/base-900-disk-0.raw")
    middle = replace(found("900/base-900-disk-0.raw/901/base-901-disk-0.qcow2"), base=lowest.volid, vmid=901)
    top = replace(found("901/base-901-disk-0.qcow2/101/vm-101-disk-0.qcow2"), base=middle.volid, vmid=101)
    assert storages.store(node, seen(storage, top, middle, lowest), {})
    rows = storages.known(storage, node)
    assert rows[top.volid[6:]].base == rows[middle.volid[6:]]
    assert rows[middle.volid[6:]].base == rows[lowest.volid[6:]]
    assert not storages.store(node, seen(storage, top, middle, lowest), rows)
    storages.store(node, seen(storage, top), rows)
    left = storages.known(storage, node)
    assert set(left) == set(rows)  # a clone remembers what it lies on
    assert [left[name].present for name in (lowest.volid[6:], middle.volid[6:])] == [False, False]


def test_a_row_that_is_remembered_stays(node: Node, storage: Storage, make_vm: Callable[..., VM]) -> None:
    """Without its file a snapshot's disk or saved memory is missed by name, never forgotten."""
    memory, saved, old = (
        found(f"101/vm-101-{name}")
        for name in ("state-suspend-2026-01-01.raw", "state-one.raw", "disk-0.qcow2")
    )
    storages.store(node, seen(storage, memory, saved, old), {})
    rows = storages.known(storage, node)
    vm = make_vm(101)
    VM.everything.filter(pk=vm.pk).update(vmstate=rows[memory.volid[6:]])
    Snapshot.objects.create(
        vm=vm, name="one", config={"scsi0": f"{old.volid},size=1G"}, vmstate=rows[saved.volid[6:]]
    )
    assert snapshots_with(rows[old.volid[6:]]) == snapshots_with(rows[saved.volid[6:]]) == ["one of VM 101"]
    storages.store(node, seen(storage), rows)
    left = storages.known(storage, node)
    assert set(left) == set(rows)
    assert not any(row.present for row in left.values())


def test_a_broken_storage_loses_no_row(node: Node, storage: Storage, iso: Volume) -> None:
    storages.store(node, seen(storage, active=False), storages.known(storage, node))
    assert Volume.objects.get(pk=iso.pk).present
    assert StorageStatus.objects.get().error == "broken"


def test_a_row_made_while_we_looked_stays(node: Node, storage: Storage) -> None:
    before = storages.known(storage, node)
    row = register_upload(storage, node, "new.iso", 1, "", None)
    storages.store(node, seen(storage), before)
    assert Volume.objects.filter(pk=row.pk, present=True).exists()


def test_destroy_takes_only_its_own(
    node: Node,
    storage: Storage,
    iso: Volume,
    make_vm: Callable[..., VM],
    grant: Callable[..., Any],
    anna: Any,
) -> None:
    own = Volume.objects.create(
        storage=storage, node=node, name="100/vm-100-disk-0.raw", content="images", format="raw", vmid=100
    )
    other = Volume.objects.create(
        storage=storage, node=node, name="101/vm-101-disk-0.raw", content="images", format="raw", vmid=101
    )
    config = {"scsi0": own.volid, "ide2": f"{iso.volid},media=cdrom", "boot": "order=scsi0"}
    vm = make_vm(config=config)
    grant(anna, "/vms/100", "PVEVMUser")
    assert owned(vm) == [own]
    forget(vm, own)
    erase(vm)
    assert not VM.everything.exists()
    assert set(Volume.objects.all()) == {iso, other}
    assert not type(anna).objects.get(pk=anna.pk).acl_entries.exists()


def test_a_backups_row_mirrors_what_stands_beside_it(node: Node, storage: Storage) -> None:
    name = "backup/vzdump-qemu-101-2026_11_27-02_00_05.tar.zst"
    made = datetime(2026, 11, 27, 2, 0, 5, tzinfo=UTC)
    one = base.Volume(
        volid=f"local:{name}", content="backup", format="tar.zst", size=9, used=4096, path=Path(name),
        vmid=101, made=made, notes="first",
    )  # fmt: skip
    assert storages.store(node, seen(storage, one), {})
    row = Volume.objects.get(name=name)
    assert (row.content, row.vmid, row.used, row.made, row.notes) == ("backup", 101, 4096, made, "first")
    Volume.objects.update(verdict="ok")
    assert not storages.store(node, seen(storage, one), storages.known(storage, node))
    changed = replace(one, notes="second", protected=True)
    assert storages.store(node, seen(storage, changed), storages.known(storage, node))
    row.refresh_from_db()
    assert (row.notes, row.protected, row.verdict) == ("second", True, "ok")


def test_a_backup_outlives_its_vm_and_is_no_disk(
    node: Node, storage: Storage, make_vm: Callable[..., VM]
) -> None:
    vm = make_vm(101)
    name = "backup/vzdump-qemu-101-2026_11_27-02_00_05.tar.zst"
    row = Volume.objects.create(
        storage=storage, node=node, name=name, content="backup", format="tar", vmid=101
    )
    with pytest.raises(ConfigErrors, match="is a backup, no disk; restore it"):
        save_config(vm, config_of(vm) | {"scsi5": row.volid})
    assert owned(vm) == []
    erase(vm)
    assert Volume.objects.filter(pk=row.pk).exists()


def test_a_vm_leaves_the_backup_jobs_that_name_it(
    storage: Storage, make_vm: Callable[..., VM], operator: Any
) -> None:
    common = {"schedule": "sat 02:00", "storage": storage, "owner": operator}
    BackupJob.objects.create(name="one", vmids=[100, 101], **common)
    BackupJob.objects.create(name="rest", all_vms=True, exclude=[101], **common)
    BackupJob.objects.create(name="other", vmids=[102], **common)
    assert leave_jobs(make_vm(101)) == ["one", "rest"]
    assert list(BackupJob.objects.values_list("name", "vmids", "exclude")) == [
        ("one", [100], []),
        ("other", [102], []),
        ("rest", [], []),
    ]


def test_a_row_a_scan_has_made_needs_no_further_question(
    storage: Storage, node: Node, django_assert_num_queries: Any
) -> None:
    """A task that keeps its volume goes on with the row outside the database's threads."""
    name = "100/vm-100-state-one.raw"
    found = base.Volume(
        volid=f"local:{name}", content="images", format="raw", size=9, used=9, path=Path(name), vmid=100
    )
    for _ in range(2):
        row = keep_volume(storage, node, found)
        with django_assert_num_queries(0):
            assert (row.volid, row.storage.facts()["type"], row.node) == (f"local:{name}", "dir", node)


def test_a_scan_that_was_slower_than_a_removal(storage: Storage, node: Node, tmp_path: Path) -> None:
    """Seen, removed with its row, and only then told of by the scan: no row is left of it."""
    storage.path = str(tmp_path)
    storage.save()
    driver = Scanner(node, cast("Any", straight), None).driver(storage)
    disk = asyncio.run(driver.allocate(100, 1 << 20, "raw"))

    async def late(work: Callable[..., Any], *given: Any) -> Any:
        if work is storages.store:
            await driver.free(disk.volid)
            await straight(Volume.objects.filter(vmid=100).delete)
        return await straight(work, *given)

    async_to_sync(Scanner(node, cast("Any", late), None).scan)("local")
    assert not Volume.objects.filter(vmid=100).exists()
    again = asyncio.run(driver.allocate(100, 1 << 20, "raw"))
    async_to_sync(Scanner(node, cast("Any", straight), None).scan)("local")
    assert find_volume(again.volid, node).present


async def straight(work: Callable[..., Any], *given: Any) -> Any:
    return await sync_to_async(work)(*given)
