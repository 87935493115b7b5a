"""Backup jobs carried out by a real worker: at their time, one VM after the other, and once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from enginekit import Engine, until

from vms.models import BackupJob, Task, Volume
from vms.operations import backupjobs, jobrows

VMS = (160, 161)


@pytest.fixture
def job(engine: Engine) -> Iterator[BackupJob]:
    """A job that covers two VMs without disks, run by nobody yet."""
    owner = get_user_model().objects.create_superuser("keeper", "", "x")
    for vmid in VMS:
        engine.vm({"name": f"kept-{vmid}", "memory": "64"}, vmid)
    made = BackupJob(
        name="nightly", schedule="2199-01-01", storage=engine.storage, vmids=list(VMS), keep="keep-last=1"
    )
    yield jobrows.save(made, owner)
    made.delete()
    Task.objects.all().delete()
    owner.delete()
    shutil.rmtree(engine.home / "local" / "dump", ignore_errors=True)


def run_of(engine: Engine, job: BackupJob) -> Task:
    """The job's newest run, at its end."""
    task = until(
        lambda: Task.objects.filter(type="backupjob").order_by("-pk").first(), "the job is begun", 40
    )
    return engine.end(task, 120)


def children() -> list[tuple[int | None, str]]:
    return list(Task.objects.filter(type="vzdump").order_by("pk").values_list("vmid", "status"))


def archives(engine: Engine) -> list[Path]:
    return sorted((engine.home / "local" / "dump").glob("vzdump-qemu-*.tar.zst"))


def said(task: Task) -> str:
    return f"{task.message}\n" + "\n".join(line.text for line in task.lines.all())


def due(engine: Engine, job: BackupJob, **more: Any) -> None:
    """Its time came while nobody was there."""
    engine.kill()
    BackupJob.objects.filter(pk=job.pk).update(next_run=timezone.now() - timedelta(seconds=1), **more)


def test_a_job_runs_at_its_time_and_prunes(engine: Engine, job: BackupJob) -> None:
    for round_ in (1, 2):
        due(engine, job, schedule="*-*-01 03:00")
        engine.start()
        task = run_of(engine, job)
        assert task.status == "ok", said(task)
        assert (task.user, task.username) == (job.owner, "keeper")
        job.refresh_from_db()
        assert job.last_run is not None
        assert job.next_run is not None
        assert job.next_run > timezone.now()
        assert children() == [(vmid, "ok") for vmid in VMS] * round_
        assert len(archives(engine)) == 2, "keep-last=1 leaves one of each VM"
        Task.objects.filter(pk=task.pk).update(type="before")
    rows = Volume.objects.filter(content="backup", present=True)
    assert {(row.vmid, row.notes) for row in rows} == {(160, "kept-160"), (161, "kept-161")}


@pytest.mark.parametrize("border", [1, 2, 3])
def test_a_killed_worker_goes_on_and_backs_nothing_up_twice(
    engine: Engine, job: BackupJob, border: int
) -> None:
    due(engine, job)
    engine.launch(PVELITE_FAULT=f"backupjob:{border}")
    process = engine.process
    assert process is not None
    until(lambda: process.poll() is not None, "the worker is dead", 60)
    engine.start()
    task = run_of(engine, job)
    assert "going on with the VMs that are left" in said(task)
    assert [vmid for vmid, _ in children()] == list(VMS)
    assert Task.objects.filter(type="backupjob").count() == 1
    assert len(archives(engine)) >= 1
    assert not list((engine.home / "local" / "dump").glob(".*.part"))


def test_cancelling_a_run_cancels_the_backup_under_way(engine: Engine, job: BackupJob) -> None:
    from vms.tasks.queue import request_cancel

    engine.kill()
    (task,) = backupjobs.begin(job, job.owner)
    assert request_cancel(task)
    engine.start()
    assert engine.end(task).status == "cancelled"
    assert children() == []


def test_a_run_cut_short_by_an_ordered_stop_goes_on(engine: Engine, job: BackupJob) -> None:
    disk = engine.draft({"name": "slow", "memory": "64", "scsi0": "local:0.03125,format=raw"}, 162)
    engine.do("qmcreate", disk)
    image = engine.home / "local" / "images" / "162" / "vm-162-disk-0.raw"
    with image.open("r+b") as file:
        file.write(os.urandom(16 << 20))
    BackupJob.objects.filter(pk=job.pk).update(vmids=[160, 162], limit=400)  # far more than a stop waits for
    (first,) = backupjobs.begin(BackupJob.objects.get(pk=job.pk), job.owner)
    slow = until(
        lambda: Task.objects.filter(type="vzdump", vmid=162, status="running").first(), "it begins", 60
    )
    assert engine.stop() == 0
    BackupJob.objects.filter(pk=job.pk).update(limit=0)
    for task in (first, slow):
        task.refresh_from_db()
        assert (task.status, "worker was stopped" in task.message) == ("error", True), said(task)
    engine.start()
    again = run_of(engine, job)
    assert (again.pk > first.pk, again.status, again.user) == (True, "ok", job.owner), said(again)
    assert children() == [(160, "ok"), (162, "error"), (162, "ok")]
    assert [path.name[:15] for path in archives(engine)] == ["vzdump-qemu-160", "vzdump-qemu-162"]
    assert not list((engine.home / "local" / "dump").glob(".*.part"))


def test_runs_on_one_node_take_turns(engine: Engine, job: BackupJob) -> None:
    other = BackupJob(name="second", schedule="2199-01-01", storage=engine.storage, vmids=[160])
    jobrows.save(other, job.owner)
    engine.kill()
    runs = [*backupjobs.begin(job, job.owner), *backupjobs.begin(other, job.owner)]
    engine.start()
    for task in runs:
        assert engine.end(task, 120).status == "ok", said(task)
    *first, last = Task.objects.filter(type="vzdump").order_by("pk")
    assert [task.vmid for task in (*first, last)] == [*VMS, 160]
    assert all(task.ended is not None and task.ended <= last.created for task in first)
    other.delete()
