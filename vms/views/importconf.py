"""The page to import a configuration file: paste or upload it, read what would come of it, then create.

It works without JavaScript: the text travels in its field from look to look.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopFutureHandlers, StopUpload
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from vms import access
from vms.config.importing import LIMIT, decode
from vms.config.snippets import LIMIT as SNIPPET_LIMIT
from vms.errors import ConfigError, VMError
from vms.models import Node
from vms.models.vm import VMID_MAX, VMID_MIN
from vms.operations.importing import MISSING, Options, Plan, carry_out, plan
from vms.views.doors import sentence, signed_in

TAKES = {"vms:importconf": LIMIT, "vms:snippet_new": SNIPPET_LIMIT, "vms:snippet_edit": SNIPPET_LIMIT}
"""Addresses whose form carries a small text file, and the bytes it may have."""
DENIED = "No role of yours holds VM.Allocate; ask an operator for one such as PVEVMAdmin."


class TextHandler(FileUploadHandler):
    """Takes the small text file of such a form into memory; every other address is others' business."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.chunks: list[bytes] | None = None
        try:
            match = resolve(self.request.path_info) if self.request is not None else None
        except Resolver404:
            return
        if match is not None and match.view_name in TAKES:
            self.chunks, self.limit = [], TAKES[match.view_name]
            raise StopFutureHandlers

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if self.chunks is None:
            return raw_data
        if start + len(raw_data) > self.limit + (1 << 16):
            raise StopUpload(connection_reset=True)
        self.chunks.append(raw_data)
        return None

    def file_complete(self, file_size: int) -> UploadedFile[bytes] | None:
        if self.chunks is None:
            return None
        return SimpleUploadedFile(self.file_name or "file", b"".join(self.chunks))


@never_cache
@signed_in
@require_http_methods(["GET", "POST"])
def importconf(request: HttpRequest) -> HttpResponse:
    """GET asks for the file; POST ``go=look`` says what would come of it, ``go=create`` creates."""
    context: dict[str, Any] = {"denied": "", "values": {}, "nodes": Node.objects.all(), "offered": MISSING}
    if not access.may_somewhere(request.user, "VM.Allocate"):
        return render(request, "vms/importconf.html", context | {"denied": DENIED}, status=403)
    if request.method == "GET":
        return render(request, "vms/importconf.html", context)
    values: dict[str, Any] = {"vmid": request.POST.get("vmid", ""), "unique": "unique" in request.POST}
    context["values"] = values
    try:
        values["text"], name = text_of(request)
        found = plan(values["text"], node=node_of(request), user=request.user, options=options(request, name))
        if request.POST.get("go") == "create" and found.ready:
            return created(request, found)
    except VMError as error:
        return render(request, "vms/importconf.html", context | {"error": sentence(error)}, status=400)
    values["vmid"] = str(found.vmid)
    context |= {"plan": found, "storages": storages_of(request, found), "name": name}
    return render(request, "vms/importconf.html", context)


def text_of(request: HttpRequest) -> tuple[str, str]:
    """The configuration and what its file was called. Raises :class:`ConfigError`."""
    name = request.POST.get("name", "")[:200]
    file = request.FILES.get("file")
    if file is not None:
        return decode(file.read()), file.name or ""
    text = request.POST.get("text", "")
    if not text.strip():
        raise ConfigError("file", "is empty: paste a configuration or choose its file")
    if len(text) > LIMIT:
        raise ConfigError("file", f"has {len(text)} characters; a configuration has at most {LIMIT}")
    return text.replace("\r\n", "\n"), name


def node_of(request: HttpRequest) -> Node:
    """The chosen node, or this one. Raises :class:`ConfigError`."""
    name = request.POST.get("node") or settings.CONF.node
    node = Node.objects.filter(name=name).first() or Node.objects.first()
    if node is None:
        raise ConfigError("node", "there is no node yet; start its worker first")
    return node


def options(request: HttpRequest, name: str) -> Options:
    """What was chosen besides the file. Raises :class:`ConfigError` for a number that is none."""
    said = request.POST.get("vmid", "").strip()
    if said and not (said.isascii() and said.isdigit() and len(said) <= 9):
        raise ConfigError("vmid", f"the number goes from {VMID_MIN} to {VMID_MAX}")
    chosen = {key: str(text) for key, text in request.POST.items() if text}
    return Options(
        vmid=int(said) if said else None,
        storages={key[8:]: text for key, text in chosen.items() if key.startswith("storage:")},
        missing={key[8:]: text for key, text in chosen.items() if key.startswith("missing:")},
        unique="unique" in request.POST, name=name,
    )  # fmt: skip


def storages_of(request: HttpRequest, found: Plan) -> list[dict[str, Any]]:
    """The file's storage names, each with what it may become."""
    names = [row.name for row in access.visible_storages(request.user)]
    return [{"theirs": theirs, "ours": ours, "names": names} for theirs, ours in found.storages.items()]


def created(request: HttpRequest, found: Plan) -> HttpResponse:
    """Create, then go where the machine is: its page, or the wizard's while its volumes are made."""
    vm, task = carry_out(found, request.user)
    if task is not None:
        return redirect("vms:wizard_tab", vm.vmid, "confirm")
    messages.success(request, f"VM {vm.vmid} was imported.")
    if access.visible_vms(request.user).filter(pk=vm.pk).exists():
        return redirect("vms:vm_summary", vm.vmid)
    return redirect("vms:dashboard")
