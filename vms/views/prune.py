"""Pruning by hand: rules, what they would remove of today's backups and why, and the task that does it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from vms import access
from vms.config import retention
from vms.errors import AccessError, VMError
from vms.forms.keeping import KeepForm
from vms.models import Storage, Volume
from vms.operations.backuprights import handled, may_handle, pools_of
from vms.operations.base import submit_on
from vms.operations.prune import judged
from vms.views.backups import backups
from vms.views.doors import sentence, signed_in, storage_or_404, this_node, wants_fragment

SHOWN = 200
"""Backups whose fate is listed; the rest is counted."""


def fates_of(rows: list[Volume], keep: retention.Keep) -> dict[str, Any]:
    """What the rules make of backups: each one's fate, how many go and what that frees."""
    fates = judged(rows, keep)
    goes = [row for row, fate in fates if not fate.kept]
    fates.sort(key=lambda pair: pair[0].vmid or 0)  # of each VM newest first
    return {
        "fates": fates[:SHOWN], "more": max(0, len(fates) - SHOWN), "goes": len(goes),
        "frees": sum(row.used or row.size for row in goes),
    }  # fmt: skip


@signed_in
@require_http_methods(["GET", "POST"])
def storage_prune(request: HttpRequest, name: str) -> HttpResponse:
    """The rules with their preview; ``?vmid=101`` is about that VM's backups alone. POST removes."""
    storage = storage_or_404(request, name)
    vmid = vmid_of(request)
    pool = pools_of([vmid]).get(vmid, "") if vmid is not None else ""
    if "backup" not in storage.content or not may_handle(request.user, storage.name, vmid, pool):
        raise Http404("There is nothing to prune, or you may not see it.")
    form = KeepForm(request.POST or request.GET, auto_id="prune-%s")
    fine = form.is_valid()
    if request.method == "POST" and fine and request.POST.get("go") != "check":
        return pruned(request, storage, vmid, form)
    rows = backups().filter(storage=storage, present=True)
    rows = handled(request.user, rows if vmid is None else rows.filter(vmid=vmid))
    context: dict[str, Any] = {
        "storage": storage, "vmid": vmid, "form": form, "total": len(rows), "covered": 1,
        "action": reverse("vms:storage_prune", args=[storage.name]), "back": home(request, storage, vmid),
        **fates_of(rows, retention.parse(form.keep() if fine else "")),
    }  # fmt: skip
    part = request.GET.get("part") == "fates"
    status = 200 if request.method == "GET" or fine else 422
    page = "prune_fates" if part else "prune_dialog" if wants_fragment(request) else "prune"
    return render(request, f"vms/backups/{page}.html", context, status=status)


def vmid_of(request: HttpRequest) -> int | None:
    """Whose backups: a number, or everybody's."""
    text = request.POST.get("vmid", "") or request.GET.get("vmid", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def home(request: HttpRequest, storage: Storage, vmid: int | None) -> str:
    """Where one came from: the VM's tab while there is one to see, else the storage's page."""
    if vmid is not None and access.visible_vms(request.user).filter(vmid=vmid).exists():
        return reverse("vms:vm_backup", args=[vmid])
    return reverse("vms:storage", args=[storage.name])


def pruned(request: HttpRequest, storage: Storage, vmid: int | None, form: KeepForm) -> HttpResponse:
    """The task, or the sentence why not. Rules that keep everything remove nothing."""
    params = {"storage": storage.name, retention.KEY: form.keep() or "keep-all=1"}
    params |= {"vmid": str(vmid)} if vmid is not None else {}
    try:
        node = this_node()
        if node is None:
            raise Http404("There is no node that could do it.")
        task = submit_on("prune", node=node, user=request.user, params=params)
    except VMError as error:
        status = 403 if isinstance(error, AccessError) else 409
        if wants_fragment(request):
            return render(
                request, "components/toast.html", {"text": sentence(error), "tone": "error"}, status=status
            )
        messages.error(request, sentence(error))
        return redirect(home(request, storage, vmid))
    address = reverse("vms:task", args=[task.pk])
    if wants_fragment(request):
        context = {"text": f"{task.label}: requested.", "tone": "busy", "href": address, "action": "Task log"}
        return render(request, "components/toast.html", context)
    messages.info(request, f"{task.label}: requested.")
    return redirect(home(request, storage, vmid))
