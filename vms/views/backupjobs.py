"""Backup jobs: the list, the VMs none of them covers, and the verbs on a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import F, OuterRef, Subquery
from django.db.models.fields.json import KT
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from vms import access
from vms.config import retention
from vms.errors import VMError
from vms.models import VM, BackupJob, Task
from vms.operations import backupjobs, jobrows
from vms.operations.prune import rules_of
from vms.views.doors import signed_in, wants_fragment
from vms.views.echo import echo, echo_refusal
from vms.views.tasks import Shown, shown

NO_CHANGE = "You may not: Sys.Modify on / is missing."
UNCOVERED = 200
"""VMs without a job that are named; the rest is counted."""


@dataclass(frozen=True)
class Row:
    """A job in the list. ``whom`` in words; ``last`` its newest run."""

    job: BackupJob
    whom: str
    keep: str
    last: Shown | None


def looked(request: HttpRequest) -> None:
    """404 unless the user may look at jobs."""
    if not access.may(request.user, jobrows.LOOK, "/"):
        raise Http404("There are no backup jobs that you may see.")


def job_or_404(request: HttpRequest, pk: int) -> BackupJob:
    """A job, for who may look at jobs."""
    looked(request)
    rows = BackupJob.objects.select_related("storage", "node", "pool", "fleecing", "owner")
    job = rows.filter(pk=pk).first()
    if job is None:
        raise Http404("There is no such backup job.")
    return job


def change_reason(user: Any) -> str:
    """Why the user cannot change jobs; empty when they can."""
    return "" if access.may(user, jobrows.CHANGE, "/") else NO_CHANGE


@signed_in
@require_GET
def backup_jobs(request: HttpRequest) -> HttpResponse:
    """The jobs and the VMs none of them covers; ``?part=rows`` answers these alone."""
    looked(request)
    rows = rows_of()
    bare = access.visible_vms(request.user, backupjobs.uncovered([row.job for row in rows]))
    context = {
        "rows": rows, "reason": change_reason(request.user), "bare": list(bare[:UNCOVERED]),
        "more": max(0, bare.count() - UNCOVERED),
    }  # fmt: skip
    part = request.GET.get("part") == "rows"
    return render(request, "vms/backupjobs/rows.html" if part else "vms/backupjobs/page.html", context)


def rows_of() -> list[Row]:
    """Every job with its newest run, in three queries."""
    runs = Task.objects.filter(type=backupjobs.TYPE).annotate(job=KT("params__job"))
    newest = runs.filter(job=OuterRef("name")).order_by("-pk").values("pk")[:1]
    jobs = BackupJob.objects.select_related("storage", "node", "pool", "owner")
    found = list(jobs.annotate(run=Subquery(newest)).order_by(F("enabled").desc(), "name"))
    numbers = [run for job in found if (run := getattr(job, "run", None)) is not None]
    tasks = Task.objects.select_related("node").in_bulk(numbers)
    return [_row(job, tasks.get(getattr(job, "run", None) or 0)) for job in found]


def _row(job: BackupJob, last: Task | None) -> Row:
    if job.all_vms:
        whom = "every VM"
    elif job.pool is not None:
        whom = f"pool {job.pool}"
    else:
        whom = f"{len(job.vmids)} VM{'s' if len(job.vmids) != 1 else ''}"
    if job.exclude:
        whom += f" but {len(job.exclude)}"
    keep = retention.parse(rules_of(job.storage, job.keep))
    words = [f"{count} {name.removeprefix('keep-')}" for name, count in keep.counts().items()]
    return Row(job, whom, ", ".join(words) or "all", shown(last) if last is not None else None)


@signed_in
@require_http_methods(["GET", "POST"])
def backup_job_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """What goes and what stays, as a dialog or a page; POST removes the job."""
    job = job_or_404(request, pk)
    if request.method == "POST":
        try:
            jobrows.remove(job, request.user)
        except VMError as error:
            return echo_refusal(request, reverse("vms:backup_jobs"), error)
        return echo(request, reverse("vms:backup_jobs"), f"Backup job {job.name} is removed.")
    context = {"job": job, "reason": change_reason(request.user)}
    name = "remove_dialog" if wants_fragment(request) else "remove"
    return render(request, f"vms/backupjobs/{name}.html", context)


@signed_in
@require_POST
def backup_job_do(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Run it now, switch it on or off."""
    job, back = job_or_404(request, pk), reverse("vms:backup_jobs")
    if verb not in ("run", "enable", "disable"):
        raise Http404
    try:
        if verb == "run":
            tasks = jobrows.run_now(job, request.user)
            return echo(request, back, f"Backup job {job.name}: requested.", task=tasks[0])
        jobrows.switch(job, request.user, verb == "enable")
    except VMError as error:
        return echo_refusal(request, back, error)
    return echo(request, back, f"Backup job {job.name} is {'on' if verb == 'enable' else 'off'}.")


def pickable(user: Any) -> list[VM]:
    """The VMs a job's form offers."""
    return list(access.visible_vms(user).order_by("vmid"))
