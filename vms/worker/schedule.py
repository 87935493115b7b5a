"""Backup jobs whose time has come.

Any node's worker may find a job due; the conditional UPDATE of ``next_run`` decides whose it is, in the
transaction that queues the run: a worker killed in between has done neither, and nobody does both twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from vms.config import calendar
from vms.errors import ConfigError
from vms.models import BackupJob, Node, Task
from vms.operations import backupjobs
from vms.tasks import notify, queue
from vms.worker.runner import CUT_SHORT

log = logging.getLogger(__name__)

RECENT = timedelta(hours=12)
"""How long ago a run may have been cut short that goes on; after that its next time is near enough."""
LATE = timedelta(minutes=5)
"""A run that is later than this was missed: no worker was there at its time."""


def next_run(job: BackupJob, after: datetime) -> datetime | None:
    """When the job comes next by its schedule; ``None`` when it is off, never comes or cannot be read."""
    if not job.enabled:
        return None
    try:
        event = calendar.parse(job.schedule)
    except ConfigError as error:
        log.debug("backup job %s: %s", job.name, error)  # it was told so to whoever wrote it
        return None
    return calendar.next_run(event, after, timezone.get_default_timezone())


def go_on(node: Node, now: datetime | None = None) -> list[str]:
    """Queue again, without what it had done, each run of this node that was cut short because the worker was
    stopped (database work); answers the names of the jobs."""
    since = (now or timezone.now()) - RECENT
    cut = Task.objects.filter(type=backupjobs.TYPE, node=node, message=CUT_SHORT, ended__gte=since)
    found = []
    for task in cut.select_related("user").order_by("pk"):
        name = str(task.params.get("job", ""))
        later = Task.objects.filter(type=backupjobs.TYPE, node=node, params__job=name, pk__gt=task.pk)
        with transaction.atomic():
            if not later.exists() and BackupJob.objects.filter(name=name).exists():
                params = {"job": name, "asked": backupjobs.still_good(task)}
                queue.enqueue(
                    backupjobs.TYPE, node=node, vm=None, user=task.user, label=task.label,
                    params={key: text for key, text in params.items() if text},
                )  # fmt: skip
                found.append(name)
    return found


def begin_due(now: datetime | None = None) -> list[str]:
    """Queue what is due (database work); answers the names of the jobs begun."""
    now = now or timezone.now()
    for job in BackupJob.objects.filter(enabled=True, next_run=None):
        coming = next_run(job, now)
        if coming is not None:
            BackupJob.objects.filter(pk=job.pk, next_run=None, schedule=job.schedule).update(next_run=coming)
    begun = []
    rows = BackupJob.objects.filter(enabled=True, next_run__lte=now).order_by("next_run", "name")
    for job in rows.select_related("node", "owner"):
        if _begin(job, now):
            begun.append(job.name)
    return begun


def _begin(job: BackupJob, now: datetime) -> bool:
    due = job.next_run
    missed = due is None or now - due > LATE
    with transaction.atomic():
        mine = BackupJob.objects.filter(pk=job.pk, enabled=True, next_run=due, schedule=job.schedule).update(
            next_run=next_run(job, now)
        )
        if not mine:
            return False
        transaction.on_commit(lambda: notify.changed("tasks"))
        if missed and not job.repeat_missed:
            log.warning("backup job %s missed its run of %s", job.name, due)
            return False
        if not backupjobs.begin(job, job.owner):
            log.warning("backup job %s is still running and misses its run of %s", job.name, due)
            return False
        BackupJob.objects.filter(pk=job.pk).update(last_run=now)
    return True
