"""Backup jobs: whom they cover, when they begin, and who may handle what they made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings

from vms.config.retention import parse
from vms.errors import AccessError, ConfigErrors, StateError
from vms.models import VM, BackupJob, Node, Pool, Storage, Task, Volume
from vms.operations import backupjobs, backuprights
from vms.operations.base import OPERATIONS, submit_on
from vms.operations.prune import judged
from vms.worker.schedule import begin_due

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def make_job(storage: Storage, operator: Any) -> Callable[..., BackupJob]:
    def make(name: str = "nightly", **columns: Any) -> BackupJob:
        given = {"schedule": "02:00", "storage": storage, "owner": operator, "all_vms": True}
        return BackupJob.objects.create(name=name, **(given | columns))

    return make


@pytest.fixture
def backup(storage: Storage, node: Node) -> Callable[..., Volume]:
    def make(vmid: int = 101, made: datetime = NOON, **columns: Any) -> Volume:
        name = f"backup/vzdump-qemu-{vmid}-{made:%Y_%m_%d-%H_%M_%S}.tar.zst"
        return Volume.objects.create(
            storage=storage, node=node, name=name, content="backup", format="tar.zst", vmid=vmid, made=made,
            **columns,
        )  # fmt: skip

    return make


def numbers(rows: Any) -> list[int]:
    return [vm.vmid for vm in rows]


def test_whom_a_job_covers(
    make_vm: Callable[..., VM], make_job: Callable[..., BackupJob], node: Node
) -> None:
    pool = Pool.objects.create(name="prod")
    other = Node.objects.create(name="pve2")
    for vmid in (101, 102, 103):
        make_vm(vmid, pool=pool if vmid == 102 else None, node=other if vmid == 103 else node)
    make_vm(104, stage=VM.Stage.DRAFT)
    every = make_job("every", exclude=[101])
    pooled = make_job("pooled", all_vms=False, pool=pool)
    listed = make_job("listed", all_vms=False, vmids=[101, 999])
    here = make_job("here", node=node)
    assert numbers(backupjobs.covered(every)) == [102, 103]
    assert numbers(backupjobs.covered(pooled)) == [102]
    assert numbers(backupjobs.covered(listed)) == [101]
    assert numbers(backupjobs.covered(here)) == [101, 102]
    for job in (every, pooled, listed, here):
        alone = [vm.vmid for vm in VM.objects.order_by("vmid") if backupjobs.covers(job, vm)]
        assert alone == numbers(backupjobs.covered(job))
    assert numbers(backupjobs.uncovered([every])) == [101]
    assert numbers(backupjobs.uncovered([pooled])) == [101, 103]
    assert numbers(backupjobs.uncovered([pooled, listed])) == [103]
    pooled.enabled = False
    assert numbers(backupjobs.uncovered([pooled])) == [101, 102, 103]


def test_a_job_begins_once_at_its_time(
    make_vm: Callable[..., VM], make_job: Callable[..., BackupJob], operator: Any
) -> None:
    make_vm(101)
    job = make_job()
    assert begin_due(NOON) == []
    job.refresh_from_db()
    assert job.next_run == datetime(2026, 11, 28, 2, tzinfo=UTC)
    assert begin_due(job.next_run - timedelta(seconds=1)) == []
    at = job.next_run + timedelta(seconds=8)
    assert begin_due(at) == ["nightly"]
    assert begin_due(at) == []
    task = Task.objects.get()
    assert (task.type, task.user, task.params, task.label) == (
        "backupjob", operator, {"job": "nightly"}, "Backup job nightly",
    )  # fmt: skip
    job.refresh_from_db()
    assert (job.last_run, job.next_run) == (at, datetime(2026, 11, 29, 2, tzinfo=UTC))
    # Its next time comes while the run is still under way: it is passed over.
    assert begin_due(job.next_run) == []
    assert Task.objects.count() == 1


def test_times_are_those_of_the_zones_clocks(
    make_vm: Callable[..., VM], make_job: Callable[..., BackupJob]
) -> None:
    """On 28 March 2027 Berlin's clocks have no 02:30: what is due then comes at 03:30."""
    make_vm(101)
    with override_settings(TIME_ZONE="Europe/Berlin"):
        make_job("winter")
        make_job("spring", schedule="2027-03-28 02:30")
        make_job("summer", schedule="2027-03-29 02:30")
        assert begin_due(NOON) == []
        assert dict(BackupJob.objects.values_list("name", "next_run")) == {
            "winter": datetime(2026, 11, 28, 1, tzinfo=UTC),
            "spring": datetime(2027, 3, 28, 1, 30, tzinfo=UTC),
            "summer": datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
        }


def test_two_schedulers_begin_it_once(make_job: Callable[..., BackupJob], node: Node) -> None:
    from vms.worker import schedule

    job = make_job(next_run=NOON)
    stale = BackupJob.objects.get(pk=job.pk)
    assert begin_due(NOON) == ["nightly"]
    assert not schedule._begin(stale, NOON)
    assert Task.objects.count() == 1


@pytest.mark.parametrize(("repeat", "begun"), [(False, []), (True, ["nightly"])])
def test_a_missed_run(make_job: Callable[..., BackupJob], node: Node, repeat: bool, begun: list[str]) -> None:
    make_job(next_run=NOON - timedelta(hours=10), repeat_missed=repeat)
    assert begin_due(NOON) == begun
    assert Task.objects.count() == len(begun)
    assert BackupJob.objects.get().next_run == datetime(2026, 11, 28, 2, tzinfo=UTC)


def test_what_does_not_begin(make_job: Callable[..., BackupJob], node: Node) -> None:
    make_job("off", enabled=False, next_run=NOON)
    make_job("never", schedule="2015-10-21")
    make_job("broken", schedule="whenever")
    assert begin_due(NOON) == []
    assert set(BackupJob.objects.values_list("name", "next_run")) == {
        ("off", NOON), ("never", None), ("broken", None)
    }  # fmt: skip


def test_a_run_on_every_node_that_has_a_vm_of_it(
    make_vm: Callable[..., VM], make_job: Callable[..., BackupJob], node: Node, operator: Any
) -> None:
    other = Node.objects.create(name="pve2")
    Node.objects.create(name="pve3")
    make_vm(101)
    make_vm(102, node=other)
    job = make_job()
    assert [task.node.name for task in backupjobs.begin(job, operator)] == ["pve1", "pve2"]
    assert backupjobs.begin(job, operator) == []


def test_what_each_backup_is_told(make_job: Callable[..., BackupJob], storage: Storage) -> None:
    job = make_job(keep="keep-last=3", limit=1024, fleecing=storage, mode="stop")
    assert backupjobs.child_params(job) == {
        "storage": "local", "mode": "stop", "compress": "zstd", "bwlimit": "1024",
        "prune-backups": "keep-last=3", "notes-template": "{{guestname}}",
        "fleecing": "enabled=1,storage=local",
    }  # fmt: skip
    assert backupjobs.child_params(make_job("all", keep="keep-all=1"))["prune-backups"] == "keep-all=1"
    assert "prune-backups" not in backupjobs.child_params(make_job("as the storage says"))


def test_who_may_run_a_job(
    make_job: Callable[..., BackupJob], node: Node, anna: Any, grant: Callable[..., Any]
) -> None:
    make_job(owner=anna)
    make_job("theirs")
    run = OPERATIONS["backupjob"]
    run.authorise_on(anna, node, run.params(job="nightly"))  # type: ignore[attr-defined,call-arg]
    for verb_user in (anna, grant(anna, "/", "PVEAuditor")):
        with pytest.raises(AccessError, match=r"\(/, Sys.Modify\)"):
            submit_on("backupjob", node=node, user=verb_user, params={"job": "theirs"})


def test_who_may_handle_a_backup(
    backup: Callable[..., Volume], node: Node, anna: Any, grant: Callable[..., Any]
) -> None:
    row, other = backup(101), backup(102)
    told = {"volume": row.volid}
    for verb, params in (
        ("imgdel", told), ("backupset", told | {"notes": "x"}),
        ("prune", {"storage": "local", "prune-backups": "keep-last=1", "vmid": "101"}),
    ):  # fmt: skip
        with pytest.raises(AccessError, match=r"/storage/local, Datastore.Allocate"):
            submit_on(verb, node=node, user=anna, params=params)
    one = grant(anna, "/storage/local", "PVEDatastoreUser")
    assert backuprights.handled(one, [row, other]) == []
    one = grant(anna, "/vms/101", "PVEVMUser")
    assert backuprights.handled(one, [row, other]) == [row]
    submit_on("backupset", node=node, user=one, params=told | {"notes": "x"})
    submit_on("imgdel", node=node, user=one, params=told)
    with pytest.raises(AccessError):
        submit_on("imgdel", node=node, user=one, params={"volume": other.volid})
    with pytest.raises(AccessError):  # everybody's
        submit_on("prune", node=node, user=one, params={"storage": "local", "prune-backups": "keep-last=1"})
    boss = grant(anna, "/storage/local", "PVEDatastoreAdmin")
    assert backuprights.handled(boss, [row, other]) == [row, other]


def test_refusals(backup: Callable[..., Volume], node: Node, operator: Any) -> None:
    row = backup(protected=True)
    with pytest.raises(StateError, match="is protected"):
        submit_on("imgdel", node=node, user=operator, params={"volume": row.volid})
    Volume.objects.update(present=False)
    with pytest.raises(StateError, match=r"file of .* is missing"):
        submit_on("backupset", node=node, user=operator, params={"volume": row.volid, "protected": "0"})
    with pytest.raises(ConfigErrors, match="below the smallest"):
        submit_on(
            "prune", node=node, user=operator, params={"storage": "local", "prune-backups": "keep-last=-1"}
        )


def test_a_preview_judges_each_vm_alone(backup: Callable[..., Volume]) -> None:
    rows = [backup(vmid, NOON - timedelta(days=days)) for vmid in (101, 102) for days in (0, 1)]
    found = judged(rows, parse("keep-last=1"))
    assert {(row.vmid, row.made, one.kept) for row, one in found} == {
        (vmid, NOON - timedelta(days=days), days == 0) for vmid in (101, 102) for days in (0, 1)
    }  # fmt: skip
