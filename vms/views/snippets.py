"""Texts of somebody's own for cloud-init: the list, a text with its history, and the files beside them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from vms import access
from vms.config import snippets as rules
from vms.config.yamlread import Remark
from vms.errors import AccessError, ConfigError, StorageError, VMError
from vms.models import VM, Snippet, SnippetFile, SnippetVersion, Storage
from vms.operations import snippets
from vms.views.differences import difference
from vms.views.doors import sentence, signed_in

PAGE = 50


@dataclass(frozen=True)
class Listed:
    """A snippet in the list. ``state`` says what is wrong with its file, if anything."""

    row: Snippet
    number: int
    size: int
    username: str
    users: int
    state: str


def seen(user: Any, rights: frozenset[str] = snippets.LIST) -> list[Storage]:
    """The storages with snippets on which the user holds one of ``rights``."""
    rows = Storage.objects.filter(enabled=True)
    return [row for row in rows if "snippets" in row.content and snippets.may(user, rights, row.name)]


def storage_or_404(request: HttpRequest, name: str) -> Storage:
    """A storage whose snippets the user may see. Missing and forbidden answer alike."""
    found = next((row for row in seen(request.user) if row.name == name), None)
    if found is None:
        raise Http404("There is no such storage, or you may not see it.")
    return found


def snippet_or_404(request: HttpRequest, storage: str, name: str) -> Snippet:
    """A snippet the user may see."""
    row = storage_or_404(request, storage)
    found = Snippet.objects.select_related("storage").filter(storage=row, name=name).first()
    if found is None:
        raise Http404("There is no such snippet.")
    return found


@signed_in
@require_GET
def snippets_page(request: HttpRequest) -> HttpResponse:
    """All of them, and files that have no versions yet. ``?part=rows`` answers the tables alone."""
    storages = seen(request.user)
    newest = SnippetVersion.objects.filter(snippet=OuterRef("pk")).order_by("-number")
    rows = Snippet.objects.filter(storage__in=storages).select_related("storage")
    rows = rows.annotate(
        number=Subquery(newest.values("number")[:1]), size=Subquery(newest.values("size")[:1]),
        sha256=Subquery(newest.values("sha256")[:1]), username=Subquery(newest.values("username")[:1]),
    )  # fmt: skip
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    node = snippets.here()
    files = {(f.storage_id, f.name): f for f in SnippetFile.objects.filter(storage__in=storages, node=node)}
    counts = use_counts()
    listed = [
        list_row(row, files.get((row.storage_id, row.name)), counts[row.volid], node is not None)
        for row in page.object_list
    ]
    known = set(rows.values_list("storage_id", "name"))
    context = {
        "page": page, "rows": listed,
        "loose": [file for key, file in sorted(files.items()) if key not in known][:PAGE],
        "new_reason": "" if seen(request.user, snippets.WRITE) else NO_WRITE,
    }  # fmt: skip
    part = request.GET.get("part") == "rows"
    return render(request, "vms/_snippet_rows.html" if part else "vms/snippets.html", context)


NO_WRITE = "You may not: Datastore.AllocateTemplate on a storage that takes snippets is missing."


def list_row(row: Any, file: SnippetFile | None, users: int, looked: bool) -> Listed:
    """A snippet as the list shows it; ``row`` is annotated with its newest version."""
    return Listed(row, row.number, row.size, row.username, users, file_state(file, row.sha256, looked))


def use_counts() -> defaultdict[str, int]:
    """How many VMs name each snippet."""
    found: defaultdict[str, int] = defaultdict(int)
    for text in VM.everything.filter(options__has_key="cicustom").values_list("options__cicustom", flat=True):
        for volid in {part.partition("=")[2] for part in str(text).split(",")}:
            found[volid] += 1
    return found


def file_state(file: SnippetFile | None, sha256: str, looked: bool) -> str:
    """What is wrong with a snippet's file on this node; empty when nothing is."""
    if file is None:
        return "the file is missing; a rescan writes it" if looked else ""
    if file.problem:
        return f"the file cannot be read: {file.problem}"
    return "" if file.sha256 == sha256 else "the file was changed by hand"


# ---- one snippet


@signed_in
@require_GET
def snippet(request: HttpRequest, storage: str, name: str) -> HttpResponse:
    """A snippet: its text, what there is to say about it, who uses it, its versions. A file without versions
    is shown as what it could become."""
    row = storage_or_404(request, storage)
    found = Snippet.objects.select_related("storage").filter(storage=row, name=name).first()
    if found is None:
        return loose(request, row, name)
    last = snippets.current(found)
    may_read = snippets.may(request.user, snippets.READ, row.name)
    file = SnippetFile.objects.filter(storage=row, node=snippets.here(), name=name).first()
    versions = found.versions.defer("text").order_by("-number")
    context = {
        "snippet": found, "version": last, "versions": versions, "may_read": may_read,
        "text": last.text if may_read else "", "remarks": said(found.role, last.text) if may_read else [],
        "users": visible_users(request.user, found.volid), "write_reason": write_reason(request.user, row),
        "state": file_state(file, last.sha256, snippets.here() is not None),
        "changed": file is not None and not file.problem and file.sha256 != last.sha256,
    }  # fmt: skip
    return render(request, "vms/snippet.html", context)


def loose(request: HttpRequest, storage: Storage, name: str) -> HttpResponse:
    """A file somebody put there."""
    file = SnippetFile.objects.filter(storage=storage, node=snippets.here(), name=name).first()
    if file is None:
        raise Http404("There is no such snippet.")
    text, error = "", file.problem
    try:
        text = snippets.file_text(storage, name, request.user) if not file.problem else ""
    except AccessError:
        text = ""
    except (StorageError, ConfigError) as wrong:
        error = sentence(wrong)
    context = {
        "storage": storage, "file": file, "text": text, "error": error,
        "write_reason": write_reason(request.user, storage), "roles": Snippet.Role.choices,
        "may_read": snippets.may(request.user, snippets.READ, storage.name),
    }  # fmt: skip
    return render(request, "vms/snippet_file.html", context)


def write_reason(user: Any, storage: Storage) -> str:
    """Why the user cannot change snippets there; empty when they can."""
    if snippets.may(user, snippets.WRITE, storage.name):
        return ""
    return f"You may not: Datastore.AllocateTemplate on /storage/{storage.name} is missing."


def said(role: str, text: str) -> list[Remark]:
    """What there is to say about a text, the harmless left out."""
    kind: Any = role
    return [remark for remark in rules.check(kind, text) if remark.severity != "info"]


def visible_users(user: Any, volid: str) -> dict[str, Any]:
    """Who uses a snippet: the VMs the user may see by number, how many more there are."""
    words = snippets.users_of(volid)
    vmids = [int(word[3:]) for word in words if word.startswith("VM ")]
    shown = access.visible_vms(user).order_by().filter(vmid__in=vmids).values_list("vmid", flat=True)
    return {"vmids": sorted(shown), "more": len(words) - len(shown)}


@signed_in
@require_GET
def snippet_version(request: HttpRequest, storage: str, name: str, number: int) -> HttpResponse:
    """A version: what it changed (``?with=N``: against that one), and its text."""
    found = snippet_or_404(request, storage, name)
    if not snippets.may(request.user, snippets.READ, storage):
        raise Http404("There is no such version.")
    version = found.versions.filter(number=number).first()
    if version is None:
        raise Http404("There is no such version.")
    against = request.GET.get("with", "")
    other = int(against) if against.isascii() and against.isdigit() and len(against) < 9 else number - 1
    before = found.versions.filter(number=other).first()
    context = {
        "snippet": found, "version": version, "before": before,
        "difference": difference(before.text, version.text) if before is not None else None,
        "newest": snippets.current(found).number, "write_reason": write_reason(request.user, found.storage),
    }  # fmt: skip
    return render(request, "vms/snippet_version.html", context)


# ---- changes


@signed_in
@require_POST
def snippet_restore(request: HttpRequest, storage: str, name: str) -> HttpResponse:
    """Make an old version (form field ``version``) the newest."""
    found = snippet_or_404(request, storage, name)
    given = request.POST.get("version", "")
    if not (given.isascii() and given.isdigit() and len(given) < 9):
        raise Http404("There is no such version.")
    try:
        made = snippets.restore(found, int(given), request.user)
    except VMError as error:
        messages.error(request, sentence(error))
    else:
        messages.info(request, f"Version {given} is in use again, as version {made.number}.")
    return redirect("vms:snippet", storage, name)


@signed_in
@require_http_methods(["GET", "POST"])
def snippet_remove(request: HttpRequest, storage: str, name: str) -> HttpResponse:
    """The question before a snippet goes with all its versions, and the answer."""
    found = snippet_or_404(request, storage, name)
    if request.method == "POST":
        try:
            snippets.remove(found, request.user)
        except VMError as error:
            messages.error(request, sentence(error))
            return redirect("vms:snippet", storage, name)
        messages.info(request, f"{found.name} was removed.")
        return redirect("vms:snippets")
    context = {
        "snippet": found, "users": visible_users(request.user, found.volid),
        "count": found.versions.count(), "write_reason": write_reason(request.user, found.storage),
    }  # fmt: skip
    return render(request, "vms/snippet_remove.html", context)


@signed_in
@require_POST
def snippet_file(request: HttpRequest, storage: str, name: str) -> HttpResponse:
    """Keep the file as a version (``go=adopt``), or write ours over it (``go=write``)."""
    row = storage_or_404(request, storage)
    there = Snippet.objects.select_related("storage").filter(storage=row, name=name).first()
    role: Any = there.role if there is not None else request.POST.get("role", "user")
    if role not in Snippet.Role.values or not rules.is_name(name):
        raise Http404("There is no such file.")
    try:
        if request.POST.get("go") == "write" and there is not None:
            snippets.require(request.user, snippets.WRITE, row.name)
            snippets.write_file(there)
            messages.info(request, "The file is as the newest version again.")
        else:
            made = snippets.adopt(row, name, role, request.user)
            messages.info(request, f"The file is kept as version {made.number}.")
    except VMError as error:
        messages.error(request, sentence(error))
    return redirect("vms:snippet", storage, name)
