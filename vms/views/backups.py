"""Backups that are there: a VM's and a storage's lists, and what is asked before something is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from vms import access
from vms.errors import VMError
from vms.models import VM, BackupJob, Node, Storage, Volume
from vms.operations import jobrows
from vms.operations.archives import backup_stores
from vms.operations.backupjobs import covers
from vms.operations.backuprights import handled, may_handle, pools_of
from vms.operations.base import submit_on
from vms.views.doors import signed_in, this_node, vm_or_404, wants_fragment
from vms.views.echo import echo, echo_refusal
from vms.views.power import being_done
from vms.views.refusals import OFFLINE, backup_refusal
from vms.views.tasks import Shown

PAGE = 50
VERBS = {"notes": "backupset", "remove": "imgdel", "protect": "backupset", "unprotect": "backupset"}
VERBS["verify"] = "verifybackup"
"""What can be done with a backup → the task."""
ASKED = ("notes", "remove")


@dataclass(frozen=True)
class Row:
    """A backup in a list.

    ``vm`` is whose it is, while that exists and may be seen; ``reason`` why nothing can be done with it,
    ``remove`` why it cannot be removed.
    """

    volume: Volume
    vm: VM | None
    reason: str
    remove: str

    @property
    def whose(self) -> str:
        """The query that narrows a storage's backups to this one's VM."""
        return f"?vmid={self.volume.vmid}"


def rows_of(user: Any, volumes: Iterable[Volume]) -> list[Row]:
    """The backups as they are drawn."""
    found = list(volumes)
    numbers = {volume.vmid for volume in found if volume.vmid is not None}
    vms = {vm.vmid: vm for vm in access.visible_vms(user).filter(vmid__in=numbers)} if numbers else {}
    return [_row(volume, vms.get(volume.vmid or 0)) for volume in found]


def _row(volume: Volume, vm: VM | None) -> Row:
    reason = ""
    if volume.node is not None and not volume.node.online:
        reason = OFFLINE.format(volume.node.name)
    gone = reason or ("It is protected. Take the protection away first." if volume.protected else "")
    return Row(volume, vm, reason or ("" if volume.present else "Its file is missing."), gone)


def backups() -> Any:
    """Every backup on a storage that is in use, newest first."""
    rows = Volume.objects.filter(content=Volume.Content.BACKUP, storage__enabled=True)
    return rows.select_related("storage", "node").order_by("-made", "name")


def split(user: Any, volumes: Iterable[Volume]) -> tuple[list[Volume], int]:
    """The backups the user may look at, and how many others there are."""
    rows = list(volumes)
    seen = handled(user, rows)
    return seen, len(rows) - len(seen)


@signed_in
@require_GET
def vm_backup(request: HttpRequest, vmid: int) -> HttpResponse:
    """The backups of a VM wherever they lie; ``?part=rows`` answers the list alone."""
    vm = vm_or_404(request, vmid)
    seen, hidden = split(request.user, backups().filter(vmid=vmid))
    page = Paginator(seen, PAGE).get_page(request.GET.get("page"))
    context = {
        "vm": vm, "tab": "backup", "page": page, "rows": rows_of(request.user, page.object_list),
        "count": len(seen), "hidden": hidden, "reason": backup_refusal(request.user, vm), "doing": _doing(vm),
        "stores": bool(backup_stores(vm.node)), **jobs_of(request.user, vm),
    }  # fmt: skip
    part = request.GET.get("part") == "rows"
    return render(request, "vms/backups/rows.html" if part else "vms/backups/page.html", context)


def jobs_of(user: Any, vm: VM) -> dict[str, Any]:
    """The jobs that back the VM up, the next to run first, for who may look at jobs."""
    if not access.may(user, jobrows.LOOK, "/"):
        return {}
    enabled = BackupJob.objects.filter(enabled=True).select_related("storage").order_by("next_run", "name")
    may_add = access.may(user, jobrows.CHANGE, "/")
    return {"told_jobs": True, "jobs": [job for job in enabled if covers(job, vm)], "may_add": may_add}


def _doing(vm: VM) -> Shown | None:
    """The backup or restore that is under way."""
    doing = being_done(vm)
    return doing if doing is not None and doing.row.type in ("vzdump", "qmrestore") else None


def storage_backups(request: HttpRequest, storage: Storage) -> dict[str, Any]:
    """What the storage's page tells of its backups."""
    if "backup" not in storage.content:
        return {"takes_backups": False}
    seen, hidden = split(request.user, backups().filter(storage=storage))
    page: Page[Volume] = Paginator(seen, PAGE).get_page(request.GET.get("backups"))
    return {
        "takes_backups": True, "may_prune": may_handle(request.user, storage.name, None),
        "backup_page": page, "backup_rows": rows_of(request.user, page.object_list),
        "backup_count": len(seen), "hidden": hidden, "backup_used": sum(row.used for row in seen),
    }  # fmt: skip


# ---- one of them


def backup_or_404(request: HttpRequest, pk: int) -> Volume:
    """A backup the user may look at."""
    volume: Volume | None = backups().filter(pk=pk).first()
    if volume is not None:
        pools = pools_of([volume.vmid]) if volume.vmid is not None else {}
        if may_handle(request.user, volume.storage.name, volume.vmid, pools.get(volume.vmid or 0, "")):
            return volume
    raise Http404("There is no such backup, or you may not see it.")


def where(volume: Volume) -> Node:
    """The node that can do something with it."""
    node = volume.node or this_node() or Node.objects.first()
    if node is None:
        raise Http404("There is no node that could do it.")
    return node


def home_of(request: HttpRequest, volume: Volume) -> str:
    """Where its list is: the VM's tab while there is one, else the storage's page."""
    if volume.vmid is not None and access.visible_vms(request.user).filter(vmid=volume.vmid).exists():
        return reverse("vms:vm_backup", args=[volume.vmid])
    return reverse("vms:storage", args=[volume.storage.name])


@signed_in
@require_http_methods(["GET", "POST"])
def backup_ask(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Edit the notes, remove it: as a dialog or a page; POST asks for it."""
    volume = backup_or_404(request, pk)
    if verb not in ASKED:
        raise Http404
    if request.method == "POST":
        params = {"notes": request.POST.get("notes", "")} if verb == "notes" else {}
        return do(request, volume, verb, params)
    row = rows_of(request.user, [volume])[0]
    context = {
        "row": row, "verb": verb, "reason": row.remove if verb == "remove" else row.reason,
        "action": reverse("vms:backup_ask", args=[pk, verb]), "back": home_of(request, volume),
    }  # fmt: skip
    name = "ask_dialog" if wants_fragment(request) else "ask"
    return render(request, f"vms/backups/{name}.html", context)


@signed_in
@require_POST
def backup_do(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """What needs no question: protect, unprotect, verify."""
    volume = backup_or_404(request, pk)
    if verb not in VERBS or verb in ASKED:
        raise Http404
    params = {} if verb == "verify" else {"protected": str(int(verb == "protect"))}
    return do(request, volume, verb, params)


def do(request: HttpRequest, volume: Volume, verb: str, params: dict[str, str]) -> HttpResponse:
    """The task, or the sentence why not."""
    given = {"volume": volume.volid, **params}
    try:
        task = submit_on(VERBS[verb], node=where(volume), user=request.user, params=given)
    except VMError as error:
        return echo_refusal(request, home_of(request, volume), error)
    return echo(request, home_of(request, volume), f"{task.label}: requested.", task=task)
