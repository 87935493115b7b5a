"""The storages: a table of all, and the forms that add, change and take away one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from vms import access
from vms.errors import VMError
from vms.forms.storages import StorageForm
from vms.models import Storage, StorageStatus
from vms.models.promised import promised
from vms.operations import storages
from vms.operations.storages import CONTENT_WORDS, PRIVILEGE
from vms.storage.kinds import KINDS
from vms.views.doors import sentence, signed_in, this_node

DENIED = f"You may not: {PRIVILEGE} on /storage is missing."


@dataclass(frozen=True)
class Listed:
    """A storage in the table. ``promised`` are the bytes its disks may grow to."""

    row: Storage
    status: StorageStatus | None
    promised: int
    content: str


def may_define(user: Any) -> bool:
    """Whether the user may add, change and take away storages."""
    return access.may(user, PRIVILEGE, "/storage")


@signed_in
@require_GET
def storages_page(request: HttpRequest) -> HttpResponse:
    """All the user may see; who may define storages sees those that are switched off too."""
    define = may_define(request.user)
    rows = list(Storage.objects.all()) if define else access.visible_storages(request.user)
    node = this_node()
    measured = {row.storage_id: row for row in StorageStatus.objects.filter(node=node)}
    sums = promised(node)
    listed = [
        Listed(
            row, measured.get(row.pk), sums.get(row.pk, 0),
            ", ".join(CONTENT_WORDS.get(name, name) for name in row.content),
        )
        for row in rows
    ]  # fmt: skip
    context = {"rows": listed, "define_reason": "" if define else DENIED, "kinds": KINDS.values()}
    part = request.GET.get("part") == "rows"
    return render(request, "vms/_storages_rows.html" if part else "vms/storages.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def storage_add(request: HttpRequest) -> HttpResponse:
    """A new storage of ``?kind=``; it is tried before it is kept."""
    if not may_define(request.user):
        return render(request, "vms/storage_edit.html", {"denied": DENIED}, status=403)
    kind = KINDS.get(request.GET.get("kind", "dir"))
    if kind is None:
        raise Http404("There is no such kind of storage.")
    form = StorageForm(kind, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            row = storages.add(request.user, form.wish(), force=form.cleaned_data["force"])
        except VMError as error:
            form.blame(error)
        else:
            messages.success(request, f"Storage {row.name} added")
            return redirect("vms:storage", name=row.name) if row.enabled else redirect("vms:storages")
    context = {"form": form, "kind": kind, "kinds": KINDS.values()}
    return render(request, "vms/storage_edit.html", context, status=422 if form.is_bound else 200)


@signed_in
@require_http_methods(["GET", "POST"])
def storage_edit(request: HttpRequest, name: str) -> HttpResponse:
    """Change a storage, also one that is switched off."""
    if not may_define(request.user):
        return render(request, "vms/storage_edit.html", {"denied": DENIED}, status=403)
    row = known_or_404(name)
    form = StorageForm(row.spec, request.POST if request.method == "POST" else None, row=row)
    if request.method == "POST" and form.is_valid():
        try:
            storages.change(request.user, row, form.wish(), force=form.cleaned_data["force"])
        except VMError as error:
            form.blame(error)
        else:
            messages.success(request, f"Storage {row.name} changed")
            return redirect("vms:storages")
    context = {"form": form, "kind": row.spec, "storage": row}
    return render(request, "vms/storage_edit.html", context, status=422 if form.is_bound else 200)


@signed_in
@require_http_methods(["GET", "POST"])
def storage_remove(request: HttpRequest, name: str) -> HttpResponse:
    """Forget a storage; what lies there stays."""
    if not may_define(request.user):
        return render(request, "vms/storage_edit.html", {"denied": DENIED}, status=403)
    row = known_or_404(name)
    users = storages.in_use(row)
    said = f"It is in use by {', '.join(users[:9])}. Move or remove what lies there first." if users else ""
    if request.method == "POST":
        try:
            storages.remove(request.user, row)
        except VMError as error:
            said = sentence(error)
        else:
            messages.success(request, f"Storage {name} taken away")
            return redirect("vms:storages")
    status = 409 if request.method == "POST" else 200
    return render(request, "vms/storage_remove.html", {"storage": row, "said": said}, status=status)


def known_or_404(name: str) -> Storage:
    """A storage, switched off or not."""
    row = Storage.objects.filter(name=name).first()
    if row is None:
        raise Http404("There is no such storage.")
    return row
