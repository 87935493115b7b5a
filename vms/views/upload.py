"""Upload of ISOs and images: from the socket to the storage's quarantine in chunks, never into memory.

With JavaScript the file is the request's body (``PUT …/upload?filename=debian.iso``), so that the page can
show progress. Without, the browser posts a form; :class:`IsoHandler` streams its file to the same place.
"""

from __future__ import annotations

import contextlib
from typing import Any

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.shortcuts import redirect
from django.urls import Resolver404, resolve
from django.views.decorators.http import require_http_methods

from vms import access
from vms.errors import NotFound, StorageError, VMError
from vms.models import Storage, Volume
from vms.operations.volumes import register_upload
from vms.storage import open_storage
from vms.storage.base import Content
from vms.storage.directory import DirectoryStorage
from vms.storage.names import IMPORT_SUFFIXES
from vms.storage.upload import Upload
from vms.views.doors import sentence, signed_in, storage_or_404, this_node

CHUNK = 1 << 20
DRAIN = 8 << 20
"""Bytes of a refused upload that are read and forgotten, so that the sender hears why."""


def begin(storage: Storage, name: str, size: int | None) -> Upload:
    """Open the quarantine. Raises :class:`StorageError` for a name, size or storage that cannot be."""
    brought = name.lower().endswith(IMPORT_SUFFIXES) and "import" in storage.content
    content: Content = "import" if brought else "iso"
    if content not in storage.content:
        raise StorageError(f"Storage {storage.name} does not take ISO images.")
    driver = open_storage(storage.name, storage.facts())
    if not isinstance(driver, DirectoryStorage):
        raise StorageError(f"Storage {storage.name} cannot hold files.")
    return Upload(driver, name, size=size, content=content)


class Received(UploadedFile[bytes]):
    """A form's file that already lies in quarantine; closing the request without keeping it forgets it."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(name=upload.name, size=upload.received)
        self.upload = upload

    def close(self) -> None:
        self.upload.abort()


class IsoHandler(FileUploadHandler):
    """The only taker of files in forms, and only at the upload address, from who may upload.

    Everything else a form carries as a file is dropped before a byte is written anywhere.
    """

    upload: Upload | None = None

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        try:
            match = resolve(self.request.path_info) if self.request is not None else None
        except Resolver404:
            match = None
        if self.request is None or match is None or match.view_name != "vms:upload":
            raise StopUpload(connection_reset=True)
        row = Storage.objects.filter(name=match.kwargs["name"], enabled=True).first()
        if row is None or not may_upload(self.request, row):
            raise StopUpload(connection_reset=True)
        with self.told():
            self.upload = begin(row, self.file_name or "", None)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        with self.told():
            if self.upload is not None:
                self.upload.write(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile[bytes] | None:
        done, self.upload = self.upload, None
        return Received(done) if done is not None else None

    def upload_interrupted(self) -> None:
        if self.upload is not None:
            self.upload.abort()

    @contextlib.contextmanager
    def told(self) -> Any:
        """Keep the reason of a refusal for the view, and stop reading."""
        try:
            yield
        except StorageError as error:
            self.upload_interrupted()
            if self.request is not None:
                self.request.META["pvelite.upload_refused"] = sentence(error)
            raise StopUpload(connection_reset=False) from error


def may_upload(request: HttpRequest, row: Storage) -> bool:
    """``Datastore.AllocateTemplate`` on the storage."""
    return access.may(request.user, "Datastore.AllocateTemplate", f"/storage/{row.name}")


@signed_in
@require_http_methods(["PUT", "POST"])
def upload(request: HttpRequest, name: str) -> HttpResponse:
    """Take an ISO. A refusal is 400 with a sentence; nothing of the file is kept then."""
    row = storage_or_404(request, name)
    form = request.content_type == "multipart/form-data"
    if not may_upload(request, row):
        text = f"You may not: Datastore.AllocateTemplate on /storage/{row.name} is missing."
        return answer(request, row, form, text, 403)
    try:
        volume = from_form(request, row) if form else from_body(request, row)
    except UnreadablePostError:
        return answer(request, row, form, "The upload broke off; nothing of it was kept.", 400)
    except VMError as error:
        if not form:
            drain(request)
        return answer(request, row, form, sentence(error), 400)
    return answer(request, row, form, f"{volume.label} is in the library.", 201)


def from_body(request: HttpRequest, row: Storage) -> Volume:
    """The request's body is the file. Raises :class:`StorageError`, ``UnreadablePostError``."""
    length = request.headers.get("Content-Length", "")
    size = int(length) if length.isascii() and length.isdigit() else None
    if not size:
        raise StorageError("The file is empty.")
    with begin(row, request.GET.get("filename", ""), size) as incoming:
        while chunk := request.read(CHUNK):
            incoming.write(chunk)
        if incoming.received != size:
            raise StorageError(f"{incoming.received} of {size} bytes came; nothing was kept.")
        return keep(request, row, incoming, request.GET.get("sha256", ""))


def from_form(request: HttpRequest, row: Storage) -> Volume:
    """A form's file, already in quarantine. Raises :class:`StorageError`."""
    file = request.FILES.get("file")
    if not isinstance(file, Received):
        raise StorageError(request.META.get("pvelite.upload_refused") or "Choose a file first.")
    with file.upload as incoming:
        return keep(request, row, incoming, request.POST.get("sha256", ""))


def keep(request: HttpRequest, row: Storage, incoming: Upload, sha256: str) -> Volume:
    """Check what came, give it its name and its row."""
    node = this_node()
    if node is None:
        raise NotFound("This node is not registered yet; start its worker first.")
    incoming.finish(sha256=sha256)
    name = incoming.volid.partition(":")[2]
    return register_upload(row, node, name, incoming.size, incoming.sha256, request.user, fmt=incoming.format)


def drain(request: HttpRequest) -> None:
    """Read a little of what is still coming: a sender that is cut off hears no reason."""
    left = DRAIN
    with contextlib.suppress(UnreadablePostError):
        while left > 0 and (chunk := request.read(CHUNK)):
            left -= len(chunk)


def answer(request: HttpRequest, row: Storage, form: bool, text: str, status: int) -> HttpResponse:
    """JSON for the script, a message on the storage's page for a form."""
    if not form:
        return JsonResponse({"text" if status < 300 else "error": text}, status=status)
    messages.add_message(request, messages.SUCCESS if status < 300 else messages.ERROR, text)
    return redirect("vms:storage", name=row.name)
