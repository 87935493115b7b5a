"""A backup job's form, and beside it what it would come to: the next runs, and which backups would go."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from vms.config import calendar, retention
from vms.errors import AccessError, ConfigError
from vms.forms.backupjobs import BackupJobForm
from vms.models import BackupJob, Volume
from vms.operations import backupjobs, jobrows
from vms.operations.backuprights import handled
from vms.operations.prune import rules_of
from vms.views.backupjobs import change_reason, job_or_404, looked, pickable
from vms.views.doors import signed_in
from vms.views.prune import fates_of

RUNS = 5
"""Next runs that are shown."""


@signed_in
@require_http_methods(["GET", "POST"])
def backup_job_new(request: HttpRequest) -> HttpResponse:
    """A new job. ``?vmid=101`` begins it with that VM."""
    looked(request)
    first = request.GET.get("vmid", "")
    named = first.isascii() and first.isdigit() and request.method == "GET"
    initial = {"whom": "list", "vmids": [first]} if named else None
    form = BackupJobForm(request.POST or None, vms=pickable(request.user), initial=initial)
    return answer(request, form)


@signed_in
@require_http_methods(["GET", "POST"])
def backup_job_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """The same for one that is there; whoever saves it owns it."""
    job = job_or_404(request, pk)
    return answer(request, BackupJobForm(request.POST or None, job=job, vms=pickable(request.user)))


def is_number(text: str) -> bool:
    """Whether it can be a row's number."""
    return text.isascii() and text.isdigit() and len(text) < 10


def owner_of(request: HttpRequest) -> Any:
    """Whose the job is going to be."""
    return request.user


def answer(request: HttpRequest, form: BackupJobForm) -> HttpResponse:
    """The form; POST looks at it (``go=check``) or keeps it."""
    status = 403 if request.method == "POST" and change_reason(request.user) else 200
    if request.method == "POST" and status == 200:
        status = 422
        if form.is_valid():
            try:
                job = form.made()
                if request.POST.get("go") == "check":
                    job.owner = owner_of(request)
                    jobrows.check(job)
                    status = 200
                else:
                    jobrows.save(job, request.user)
                    messages.info(request, f"Backup job {job.name} is kept.")
                    return redirect("vms:backup_jobs")
            except AccessError:
                status = 403
            except ConfigError as error:
                form.blame(error)
    context = {
        "form": form, "job": form.job, "reason": change_reason(request.user), **preview_of(request, form),
    }  # fmt: skip
    return render(request, "vms/backupjobs/edit.html", context, status=status)


@signed_in
@require_GET
def backup_job_preview(request: HttpRequest) -> HttpResponse:
    """What the fields come to so far, as a fragment. ``job``: the number of the one that is changed."""
    looked(request)
    given = request.GET.get("job", "")
    job = BackupJob.objects.filter(pk=int(given)).first() if is_number(given) else None
    form = BackupJobForm(request.GET, job=job, vms=pickable(request.user))
    return render(request, "vms/backupjobs/preview.html", preview_of(request, form))


def preview_of(request: HttpRequest, form: BackupJobForm) -> dict[str, Any]:
    """The next runs, and which of the backups that are there the rules of retention would remove."""
    if not form.is_bound:  # what a fresh form begins with
        first = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
        if first.get("storage") is None:  # as the browser does: the first there is
            first["storage"] = _first(form)
        data = {
            name: getattr(value, "pk", value) for name, value in first.items() if value not in (None, False)
        }
        form = BackupJobForm(data, job=form.job, vms=pickable(request.user))
    form.is_valid()
    found = _runs(str(form.data.get("schedule", "")))
    if not {"storage", "whom"} <= form.cleaned_data.keys() or any(one.errors for one in form.keeps):
        return found
    return found | _fates(request, _sketch(form))


def _first(form: BackupJobForm) -> Any:
    chooser: Any = form.fields["storage"]
    return chooser.queryset.first()


def _runs(text: str) -> dict[str, Any]:
    try:
        event = calendar.parse(text)
    except ConfigError as error:
        return {"schedule_error": error.text[:1].upper() + error.text[1:] + "."}
    zone = timezone.get_default_timezone()
    return {"runs": calendar.next_runs(event, timezone.now(), zone, RUNS), "zone": str(zone)}


def _sketch(form: BackupJobForm) -> BackupJob:
    """The job as far as the fields are fine."""
    given = form.cleaned_data
    whom = given["whom"]
    return BackupJob(
        storage=given["storage"], all_vms=whom == "all", pool=given.get("pool") if whom == "pool" else None,
        vmids=given.get("vmids", []) if whom == "list" else [], exclude=given.get("exclude", []),
        node=given.get("node"), keep=form.keep(),
    )  # fmt: skip


def _fates(request: HttpRequest, job: BackupJob) -> dict[str, Any]:
    vms = {vm.vmid: vm for vm in backupjobs.covered(job)}
    rows = Volume.objects.filter(
        content=Volume.Content.BACKUP, storage=job.storage, present=True, vmid__in=list(vms)
    )
    found = handled(request.user, rows.select_related("storage"))
    return {"covered": len(vms), **fates_of(found, retention.parse(rules_of(job.storage, job.keep)))}
