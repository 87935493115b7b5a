"""Backups on pages: lists, what may be done with one, the jobs that make them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from vms.models import VM, AuditEntry, BackupJob, Disk, Pool, Snapshot, Task, Volume
from vms.models.configuration import config_of, save_config

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HTMX = {"HX-Request": "true"}


@pytest.fixture
def backup(scene: Scene) -> Callable[..., Volume]:
    def make(vmid: int = 101, days: int = 0, **columns: Any) -> Volume:
        made = NOON - timedelta(days=days)
        name = f"backup/vzdump-qemu-{vmid}-{made:%Y_%m_%d-%H_%M_%S}.tar.zst"
        return Volume.objects.create(
            storage=scene.storage, node=scene.node, name=name, content="backup", format="tar.zst", vmid=vmid,
            made=made, size=5 << 30, used=5 << 30, **columns,
        )  # fmt: skip

    return make


def text_of(answer: Any, status: int = 200) -> str:
    text: str = answer.content.decode()
    assert answer.status_code == status, text[-2000:]
    return text


# ---- lists


def test_the_tab_tells_of_each_backup(scene: Scene, boss: Client, backup: Callable[..., Volume]) -> None:
    backup(notes="before the upgrade", protected=True)
    backup(days=1, checked=NOON, verdict="ok")
    backup(days=2, checked=NOON, verdict="scsi0.raw: its sum is wrong")
    backup(days=3, present=False)
    backup(vmid=102)
    text = text_of(boss.get("/vms/101/backup"))
    assert [text.count(word) for word in ("<li class=", "2026-11-27 12:00</time>")] == [4, 1]
    for word in (
        "before the upgrade", "protected</span>", "verified</span>", "its sum is wrong",
        "file is missing", "5 GiB",
    ):  # fmt: skip
        assert word in text, word
    assert "qemu-102" not in text
    assert "<html" not in text_of(boss.get("/vms/101/backup?part=rows"))


def test_no_backups_yet(scene: Scene, boss: Client) -> None:
    assert "No backups yet" in text_of(boss.get("/vms/101/backup"))
    scene.storage.content = ["images"]
    scene.storage.save()
    assert "No storage takes backups" in text_of(boss.get("/vms/101/backup"))


def test_the_storage_lists_those_of_every_vm(
    scene: Scene, boss: Client, backup: Callable[..., Volume]
) -> None:
    backup()
    backup(vmid=999)
    text = text_of(boss.get("/storage/local"))
    assert "no such VM any more" in text
    assert '<span class="mono">101</span> web-01' in text


def test_only_whose_vm_one_may_back_up(scene: Scene, backup: Callable[..., Volume]) -> None:
    row, other = backup(), backup(vmid=999)
    anna = signed_in(person("anna", vms__101="PVEVMUser", storage__local="PVEDatastoreUser"))
    text = text_of(anna.get("/storage/local"))
    assert (row.label in text, other.label in text) == (True, False)
    assert "1 backup is not shown" in text
    assert anna.get(f"/backups/{other.pk}/notes").status_code == 404
    bob = signed_in(person("bob", vms__101="PVEAuditor", storage__local="PVEAuditor"))
    assert row.label not in text_of(bob.get("/storage/local"))
    hidden = text_of(bob.get("/vms/101/backup"))
    assert (row.label in hidden, "1 backup is not shown" in hidden, "No backups yet" in hidden) == (
        False, True, False
    )  # fmt: skip
    assert bob.post(f"/backups/{row.pk}/remove").status_code == 404
    assert not Task.objects.exclude(pk=scene.task.pk).exists()


@pytest.mark.parametrize("address", ["/vms/101/backup", "/storage/local", "/backup-jobs"])
def test_no_query_a_row(
    scene: Scene, boss: Client, backup: Callable[..., Volume], operator: Any, address: str
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as found:
            text_of(boss.get(address))
        return len(found)

    def add(number: int) -> None:
        backup(days=number)
        backup(vmid=200 + number)
        BackupJob.objects.create(
            name=f"job{number}", schedule="02:00", storage=scene.storage, owner=operator, vmids=[101]
        )
        Task.objects.create(type="backupjob", node=scene.node, params={"job": f"job{number}"}, status="ok")

    add(1)
    queries()
    few = queries()
    for number in range(2, 12):
        add(number)
    assert queries() == few


# ---- with one


def test_notes_protection_removal_and_verification(
    scene: Scene, boss: Client, backup: Callable[..., Volume]
) -> None:
    row = backup(notes="old")
    assert "old</textarea>" in text_of(boss.get(f"/backups/{row.pk}/notes"))
    boss.post(f"/backups/{row.pk}/notes", {"notes": "new\nwords"})
    boss.post(f"/backups/{row.pk}/do/protect")
    text_of(boss.post(f"/backups/{row.pk}/do/unprotect", headers=HTMX))
    assert "deleted for good" in text_of(boss.get(f"/backups/{row.pk}/remove"))
    boss.post(f"/backups/{row.pk}/remove")
    boss.post(f"/backups/{row.pk}/do/verify")
    tasks = Task.objects.exclude(pk=scene.task.pk).order_by("pk")
    assert [(task.type, task.params) for task in tasks] == [
        ("backupset", {"volume": row.volid, "notes": "new\nwords"}),
        ("backupset", {"volume": row.volid, "protected": "1"}),
        ("backupset", {"volume": row.volid, "protected": "0"}),
        ("imgdel", {"volume": row.volid}), ("verifybackup", {"volume": row.volid}),
    ]  # fmt: skip
    assert boss.post(f"/backups/{row.pk}/do/remove").status_code == 404


def test_a_protected_one_is_not_removed(scene: Scene, boss: Client, backup: Callable[..., Volume]) -> None:
    row = backup(protected=True)
    assert "It is protected." in text_of(boss.get(f"/backups/{row.pk}/remove"))
    assert "is protected" in text_of(boss.post(f"/backups/{row.pk}/remove", headers=HTMX), 409)
    assert "Its 1 backup stays" in text_of(boss.get("/vms/101/ask/destroy"))


# ---- Backup now


def test_what_goes_in_and_what_does_not(scene: Scene, boss: Client) -> None:
    config = config_of(scene.vm)
    save_config(scene.vm, config | {"scsi0": config["scsi0"] + ",backup=0"})
    text = text_of(boss.get("/vms/101/backup/now"))
    assert "its option Backup is off" in text
    assert "a CD drive" in text
    assert "local (60 GiB free)" in text
    assert "<dialog" in text_of(boss.get("/vms/101/backup/now", headers=HTMX))


def test_asking_for_a_backup(scene: Scene, boss: Client) -> None:
    given = {"storage": "local", "mode": "stop", "compress": "zstd", "notes-template": "{{vmid}}"}
    assert boss.post("/vms/101/backup/now", given | {"protected": "1"}).status_code == 302
    task = Task.objects.get(type="vzdump")
    assert task.params == given | {"protected": "1", "remove": "0"}


def test_bad_input_stands_at_its_field_and_stays(scene: Scene, boss: Client) -> None:
    given = {"storage": "nowhere", "mode": "stop", "compress": "rar", "notes-template": "kept words"}
    text = text_of(boss.post("/vms/101/backup/now", given), 422)
    assert 'value="kept words"' in text
    assert '<input type="radio" name="mode" value="stop" checked>' in text
    assert "is not one of" in text
    assert not Task.objects.filter(type="vzdump").exists()


def test_who_may_not_back_up_is_told_why(scene: Scene) -> None:
    bob = signed_in(person("bob", vms__101="PVEAuditor", storage__local="PVEDatastoreUser"))
    assert "VM.Backup on this VM is missing" in text_of(bob.get("/vms/101/backup/now"))
    given = {"storage": "local"}
    assert "VM.Backup" in text_of(bob.post("/vms/101/backup/now", given, headers=HTMX), 403)
    anna = signed_in(person("anna", vms__101="PVEVMUser"))
    assert "no storage for backups that you may use" in text_of(anna.get("/vms/101/backup/now"))
    assert "Datastore.AllocateSpace" in text_of(anna.post("/vms/101/backup/now", given, headers=HTMX), 403)


# ---- restore


def test_asking_for_a_restore_under_a_new_number(
    scene: Scene, boss: Client, backup: Callable[..., Volume]
) -> None:
    row = backup()
    given = {"how": "new", "newid": "300", "storage": "local", "unique": "1", "start": "1"}
    assert boss.post(f"/backups/{row.pk}/restore", given).status_code == 302
    task = Task.objects.get(type="qmrestore")
    assert (task.vmid, task.vm.stage) == (300, "draft")
    assert task.params == {"archive": row.volid, "storage": "local", "unique": "1", "start": "1"}


def test_a_number_that_is_taken_stands_at_its_field(
    scene: Scene, boss: Client, backup: Callable[..., Volume]
) -> None:
    row = backup()
    given = {"how": "new", "newid": "101", "unique": "1"}
    text = text_of(boss.post(f"/backups/{row.pk}/restore", given), 422)
    assert '<a href="#restore-newid">VM 101 already exists' in text
    assert 'value="101"' in text
    assert 'name="unique" value="1" checked' in text
    bad = text_of(boss.post(f"/backups/{row.pk}/restore", {"how": "new", "newid": "x"}, headers=HTMX), 422)
    assert "is no VM ID" in bad
    assert not Task.objects.filter(type="qmrestore").exists()


def test_in_place_wants_its_number_typed(scene: Scene, boss: Client, backup: Callable[..., Volume]) -> None:
    row = backup()
    address = f"/backups/{row.pk}/restore"
    assert "In place of VM 101" in text_of(boss.get(address))
    assert "Snapshots" not in text_of(boss.get(address))
    Snapshot.objects.create(vm=scene.vm, name="before-upgrade")
    warned = text_of(boss.get(address))
    assert "before-upgrade" in warned
    assert "is removed for good: the backup holds none" in warned
    for typed in ("", "102"):
        text = text_of(boss.post(address, {"how": "place", "confirm": typed, "newid": "300"}), 422)
        assert "type 101 to confirm" in text
    assert boss.post(address, {"how": "place", "confirm": "101"}).status_code == 302
    task = Task.objects.get(type="qmrestore")
    assert (task.vm, task.params) == (scene.vm, {"archive": row.volid, "force": "1"})


def test_what_cannot_be_replaced_says_why(scene: Scene, boss: Client, backup: Callable[..., Volume]) -> None:
    row, orphan = backup(), backup(vmid=999)
    VM.everything.filter(pk=scene.vm.pk).update(status="running")
    assert "The VM runs. Stop it first." in text_of(boss.get(f"/backups/{row.pk}/restore"))
    text = text_of(boss.get(f"/backups/{orphan.pk}/restore"))
    assert ("In place" in text, 'value="999"' in text) == (False, True)
    assert "The backup cannot be read." in text, "there is no such file"


def test_a_stranger_restores_nothing(scene: Scene, backup: Callable[..., Volume]) -> None:
    row = backup()
    anna = signed_in(person("anna", vms__101="PVEVMUser", storage__local="PVEDatastoreUser"))
    given = {"how": "new", "newid": "300"}
    assert "VM.Allocate" in text_of(anna.post(f"/backups/{row.pk}/restore", given, headers=HTMX), 403)
    assert not VM.everything.filter(vmid=300).exists()


# ---- pruning by hand


def test_pruning_shows_what_goes_and_asks_for_it(
    scene: Scene, boss: Client, backup: Callable[..., Volume]
) -> None:
    for days in range(3):
        backup(days=days)
    backup(vmid=999, days=9)
    address = "/storage/local/prune"
    assert "All 4 stay" in text_of(boss.get(address))
    fates = text_of(boss.get(address, {"part": "fates", "keep_last": "1", "vmid": "101"}))
    assert "2 of 3 go" in fates
    assert "<form" not in fates
    checked = text_of(boss.post(address, {"keep_last": "2", "go": "check"}))
    assert "1 of 4 goes" in checked
    assert 'name="keep_last" value="2"' in checked
    assert "greater than or equal" in text_of(boss.post(address, {"keep_last": "-1"}), 422)
    assert not Task.objects.filter(type="prune").exists()
    text_of(boss.post(address, {"keep_last": "1", "keep_weekly": "2", "vmid": "101"}, headers=HTMX))
    assert Task.objects.get(type="prune").params == {
        "storage": "local", "prune-backups": "keep-last=1,keep-weekly=2", "vmid": "101"
    }  # fmt: skip


def test_who_may_prune(scene: Scene, backup: Callable[..., Volume]) -> None:
    backup()
    anna = signed_in(person("anna", vms__101="PVEVMUser", storage__local="PVEDatastoreUser"))
    assert anna.get("/storage/local/prune").status_code == 404
    assert "All 1 stay" in text_of(anna.get("/storage/local/prune?vmid=101"))
    assert anna.post("/storage/local/prune", {"keep_last": "1"}).status_code == 404
    assert anna.post("/storage/local/prune", {"keep_last": "1", "vmid": "102"}).status_code == 404
    assert not Task.objects.filter(type="prune").exists()


# ---- jobs

JOB = {
    "name": "nightly", "enabled": "on", "schedule": "sat 02:00", "whom": "list", "vmids": ["101"],
    "mode": "snapshot", "compress": "zstd", "limit": "0", "keep_last": "3", "keep_daily": "7", "notes": "x",
}  # fmt: skip


def test_a_job_is_kept(scene: Scene, boss: Client, operator: Any) -> None:
    answer = boss.post("/backup-jobs/new", JOB | {"storage": scene.storage.pk})
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    job = BackupJob.objects.get()
    assert (job.owner, job.vmids, job.keep, job.all_vms) == (
        operator,
        [101],
        "keep-last=3,keep-daily=7",
        False,
    )
    assert job.next_run is not None
    assert f"{job.next_run:%a %Y-%m-%d} 02:00 UTC" in text_of(boss.get("/backup-jobs"))
    assert AuditEntry.objects.filter(action="backup-job-save", target="nightly").exists()
    text = text_of(boss.get(f"/backup-jobs/{job.pk}"))
    assert 'value="sat 02:00"' in text
    assert 'name="keep_daily" value="7"' in text
    changed = JOB | {"storage": scene.storage.pk, "whom": "all", "exclude": "103, 104"}
    assert boss.post(f"/backup-jobs/{job.pk}", changed).status_code == 302
    job.refresh_from_db()
    assert (job.all_vms, job.vmids, job.exclude, job.name) == (True, [], [103, 104], "nightly")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"schedule": "noon"}, "schedule", "is no weekday"), ({"name": "1x"}, "name", "starts with a letter"),
        ({"whom": "list", "vmids": []}, "whom", "choose one"), ({"whom": "pool"}, "whom", "choose one"),
        ({"keep_last": "-1"}, "keep_last", "greater than or equal"),
        ({"exclude": "x", "whom": "all"}, "exclude", "no VM ID"),
        ({"limit": "x"}, "limit", "whole number"), ({"compress": "rar"}, "compress", "valid choice"),
    ],
)  # fmt: skip
def test_a_bad_job_says_where(
    scene: Scene, boss: Client, change: dict[str, Any], field: str, words: str
) -> None:
    given = JOB | {"storage": scene.storage.pk, "comment": "typed words"} | change
    answer = boss.post("/backup-jobs/new", given)
    text = text_of(answer, 422)
    assert words.lower() in " ".join(answer.context["form"].errors[field]).lower()
    assert 'value="typed words"' in text
    assert not BackupJob.objects.exists()


def test_a_storage_the_owner_has_no_room_on(scene: Scene, boss: Client, operator: Any) -> None:
    scene.storage.content = ["images", "backup"]
    scene.storage.save()
    job = BackupJob.objects.create(
        name="theirs", schedule="02:00", storage=scene.storage, all_vms=True, owner=operator
    )
    user = person("anna", root="PVESysAdmin")
    anna = signed_in(user)
    assert "Sys.Modify on / is missing" in text_of(anna.get(f"/backup-jobs/{job.pk}"))
    given = JOB | {"storage": scene.storage.pk}
    assert anna.post(f"/backup-jobs/{job.pk}", given).status_code == 403
    for address in (
        f"/backup-jobs/{job.pk}/run",
        f"/backup-jobs/{job.pk}/disable",
        f"/backup-jobs/{job.pk}/remove",
    ):
        assert anna.post(address, headers=HTMX).status_code == 403, address
    job.refresh_from_db()
    assert (job.owner, job.enabled, job.schedule) == (operator, True, "02:00")


def test_next_runs_are_told_by_the_nodes_clocks(scene: Scene, boss: Client) -> None:
    with override_settings(TIME_ZONE="Asia/Kolkata"):
        boss.post("/backup-jobs/new", JOB | {"storage": scene.storage.pk, "schedule": "2050-01-01 02:00"})
        job = BackupJob.objects.get()
        assert f"{job.next_run:%Y-%m-%d %H:%M}" == "2049-12-31 20:30"
        assert "Sat 2050-01-01 02:00 IST" in text_of(boss.get("/backup-jobs"))
        assert "next Sat 2050-01-01 02:00 IST" in text_of(boss.get("/vms/101/backup"))
        edited = text_of(boss.get(f"/backup-jobs/{job.pk}"))
        assert "Asia/Kolkata" in edited
        assert "2050-01-01 02:00 IST" in edited


def test_switching_running_and_removing(scene: Scene, boss: Client, operator: Any) -> None:
    job = BackupJob.objects.create(
        name="nightly", schedule="02:00", storage=scene.storage, all_vms=True, owner=operator
    )
    boss.post(f"/backup-jobs/{job.pk}/disable")
    job.refresh_from_db()
    assert (job.enabled, job.next_run) == (False, None)
    boss.post(f"/backup-jobs/{job.pk}/enable")
    job.refresh_from_db()
    assert job.next_run is not None
    assert boss.post(f"/backup-jobs/{job.pk}/run").status_code == 302
    assert "is running already" in text_of(boss.post(f"/backup-jobs/{job.pk}/run", headers=HTMX), 409)
    assert Task.objects.get(type="backupjob").user == operator
    assert boss.post(f"/backup-jobs/{job.pk}/remove").status_code == 302
    assert not BackupJob.objects.exists()


def test_the_preview_shows_runs_and_fates(scene: Scene, boss: Client, backup: Callable[..., Volume]) -> None:
    for days in range(4):
        backup(days=days, protected=days == 3)
    backup(vmid=999)
    given = {
        "schedule": "02:00",
        "storage": scene.storage.pk,
        "whom": "all",
        "keep_last": "1",
        "keep_daily": "1",
    }
    text = text_of(boss.get("/backup-jobs/preview", given))
    assert text.count("<li>") == 5
    assert (text.count("stays</span>"), text.count("goes</span>")) == (3, 1)
    assert "1 of 4, frees 5 GiB" in text
    assert "keep-daily, 2026-11-26" in text
    assert "no rule keeps it" in text
    bad = text_of(boss.get("/backup-jobs/preview", given | {"schedule": "25:00"}))
    assert "goes from 0 to 23" in bad
    assert "Choose a storage" in text_of(boss.get("/backup-jobs/preview"))
    odd = {
        "job": "\u00b2",
        "schedule": "\x00",
        "vmids": ["x", "\u0663"],
        "storage": "\u00b2",
        "keep_last": "1e9",
    }
    assert "no minute" in text_of(boss.get("/backup-jobs/preview", odd))
    text_of(boss.get("/backup-jobs/new?vmid=\u00b2"))
    text_of(boss.get("/storage/local/prune?vmid=\u00b2&keep_last=\u0663"))


def test_what_no_job_covers(scene: Scene, boss: Client, operator: Any) -> None:
    scene.add_vms(2)
    pool = Pool.objects.create(name="prod")
    VM.everything.filter(vmid=200).update(pool=pool)
    BackupJob.objects.create(name="one", schedule="daily", storage=scene.storage, owner=operator, vmids=[101])
    BackupJob.objects.create(name="two", schedule="daily", storage=scene.storage, owner=operator, pool=pool)
    assert 'Backed up by <a href="/backup-jobs/' in text_of(boss.get("/vms/101/backup"))
    assert "No backup job covers this VM." in text_of(boss.get("/vms/201/backup"))
    assert 'value="201" id="job-vmids' in text_of(boss.get("/backup-jobs/new?vmid=201"))
    text = text_of(boss.get("/backup-jobs"))
    bare = text[text.index("Not covered") :]
    assert ("app-201" in bare, "app-200" in bare, "web-01" in bare) == (True, False, False)


def test_check_only_keeps_nothing(scene: Scene, boss: Client) -> None:
    given = JOB | {"storage": scene.storage.pk, "go": "check"}
    assert "Next runs" in text_of(boss.post("/backup-jobs/new", given))
    assert not BackupJob.objects.exists()
    assert Disk.objects.filter(vm=scene.vm).count() == 2
