"""Backup jobs as rows: checked by the same rules whoever writes them, and whose they are."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from vms import access
from vms.config import calendar, retention
from vms.errors import ConfigError, ConfigErrors, StateError
from vms.models import AuditEntry, BackupJob, Task
from vms.operations import backupjobs
from vms.tasks import notify

LOOK, CHANGE = "Sys.Audit", "Sys.Modify"
"""What looking at jobs and changing them needs, on ``/`` (PVE)."""
COMPRESS = ("zstd", "0")
VMIDS = 2000
"""VM IDs a job may name."""


def check(job: BackupJob) -> None:
    """Raise :class:`ConfigErrors`, one per wrong column, unless the job can stand."""
    errors = [*_columns(job), *_rules(job), *_whom(job), *_where(job)]
    if errors:
        raise ConfigErrors(errors)


def _columns(job: BackupJob) -> list[ConfigError]:
    """What the columns themselves refuse: a name, a length, a number."""
    try:
        job.clean_fields(exclude=["storage", "owner", "node", "pool", "fleecing", "schedule", "keep"])
        job.validate_unique()
    except ValidationError as error:
        return [ConfigError(key, " ".join(texts)) for key, texts in error.message_dict.items()]
    return []


def _rules(job: BackupJob) -> list[ConfigError]:
    found: list[ConfigError] = []
    for read, text, key in ((calendar.parse, job.schedule, "schedule"), (retention.parse, job.keep, "keep")):
        try:
            read(text, key)
        except ConfigErrors as error:
            found += [ConfigError(key, f"{one.part}: {one.text}" if one.part else one.text) for one in error]
        except ConfigError as error:
            found.append(error)
    if job.compress not in COMPRESS:
        found.append(ConfigError("compress", "is neither zstd nor 0"))
    return found


def _whom(job: BackupJob) -> list[ConfigError]:
    found = []
    for key, numbers in (("vmids", job.vmids), ("exclude", job.exclude)):
        if not isinstance(numbers, list) or any(type(one) is not int or one < 100 for one in numbers):
            found.append(ConfigError(key, "is no list of VM IDs, such as 100, 101"))
        elif len(numbers) > VMIDS:
            found.append(ConfigError(key, f"names {len(numbers)} VMs, at most {VMIDS} are allowed"))
    if sum((bool(job.all_vms), job.pool_id is not None, bool(job.vmids))) != 1:
        found.append(ConfigError("vmids", "choose one: every VM, a pool, or the VMs by their IDs"))
    return found


def _where(job: BackupJob) -> list[ConfigError]:
    if job.storage_id is None:
        return [ConfigError("storage", "is missing")]
    found = []
    if "backup" not in job.storage.content:
        found.append(ConfigError("storage", f"{job.storage} does not take backups"))
    elif job.owner_id is not None:
        path = f"/storage/{job.storage.name}"
        if not access.may(job.owner, "Datastore.AllocateSpace", path):
            found.append(ConfigError("storage", f"{job.owner} has no Datastore.AllocateSpace on {path}"))
    if job.fleecing is not None and "images" not in job.fleecing.content:
        found.append(ConfigError("fleecing", f"{job.fleecing} does not take disk images"))
    return found


def require(user: Any) -> None:
    """Raise :class:`AccessError` unless ``user`` may change backup jobs."""
    access.require(user, CHANGE, "/")


def save(job: BackupJob, user: Any) -> BackupJob:
    """Keep a new or changed job; it is ``user``'s from now on, and its next run is reckoned anew.

    Whoever says what is backed up lends the job their rights, nobody else's. Raises :class:`AccessError`,
    :class:`ConfigErrors`.
    """
    require(user)
    job.owner = user
    check(job)
    with transaction.atomic():
        job.next_run = reckon(job)
        job.save()
        _note(user, "backup-job-save", job)
    return job


def reckon(job: BackupJob) -> Any:
    """When the job comes next, from now; ``None`` when it is off or never comes."""
    if not job.enabled:
        return None
    return calendar.next_run(calendar.parse(job.schedule), timezone.now(), timezone.get_default_timezone())


def switch(job: BackupJob, user: Any, enabled: bool) -> None:
    """Let the job begin at its times, or not. Whose it is does not change. Raises :class:`AccessError`."""
    require(user)
    job.enabled = enabled
    BackupJob.objects.filter(pk=job.pk).update(enabled=enabled, next_run=reckon(job))
    _note(user, "backup-job-on" if enabled else "backup-job-off", job)


def remove(job: BackupJob, user: Any) -> None:
    """Forget the job; the backups it made stay. Raises :class:`AccessError`."""
    require(user)
    with transaction.atomic():
        _note(user, "backup-job-remove", job)
        job.delete()


def run_now(job: BackupJob, user: Any) -> list[Task]:
    """Begin a run in the name of ``user``, whatever the hour; on each node that has a VM of it.

    Raises :class:`AccessError`, :class:`StateError` while one is under way.
    """
    require(user)
    with transaction.atomic():
        tasks = backupjobs.begin(job, user)
        if not tasks:
            raise StateError(f"Backup job {job.name} is running already.")
        BackupJob.objects.filter(pk=job.pk).update(last_run=timezone.now())
        _note(user, "backup-job-run", job)
    return tasks


def _note(user: Any, action: str, job: BackupJob) -> None:
    AuditEntry.objects.create(username=user.get_username(), action=action, target=job.name)
    transaction.on_commit(lambda: notify.changed("tasks"))
