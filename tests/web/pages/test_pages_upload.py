"""Hostile and honest uploads: bytes reach the library whole and checked, or leave no trace."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from vms.models import AuditEntry, Volume

pytestmark = pytest.mark.django_db
SECTOR = 2048


def iso(sectors: int = 64) -> bytes:
    """The smallest thing that is an ISO 9660 image of so many sectors."""
    descriptor = bytearray(SECTOR)
    descriptor[0:6] = b"\x01CD001"
    descriptor[6] = 1
    descriptor[80:88] = struct.pack("<I", sectors) + struct.pack(">I", sectors)
    descriptor[128:132] = struct.pack("<H", SECTOR) + struct.pack(">H", SECTOR)
    end = bytearray(SECTOR)
    end[0:6] = b"\xffCD001"
    body = bytes(16 * SECTOR) + bytes(descriptor) + bytes(end)
    return body.ljust(sectors * SECTOR, b"\0")


def put(client: Client, body: bytes, name: str = "new.iso", query: str = "") -> tuple[int, str]:
    answer = client.put(
        f"/storage/local/upload?filename={name}{query}", body, content_type="application/octet-stream"
    )
    words = answer.json()
    return answer.status_code, words.get("error") or words.get("text", "")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_body_becomes_an_iso(scene: Scene, boss: Client) -> None:
    body = iso()
    assert put(boss, body) == (201, "new.iso is in the library.")
    row = Volume.objects.get(name="iso/new.iso")
    assert (row.size, row.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert files(scene.folder) == ["template/iso/new.iso"]
    assert AuditEntry.objects.get(action="upload").target == "local:iso/new.iso"


def test_a_form_does_the_same_without_javascript(scene: Scene, boss: Client) -> None:
    file = SimpleUploadedFile("form.iso", iso())
    assert boss.post("/storage/local/upload", {"file": file}).status_code == 302
    assert "form.iso is in the library." in boss.get("/storage/local").content.decode()
    assert files(scene.folder) == ["template/iso/form.iso"]


@pytest.mark.parametrize(
    "name",
    ["", "x.exe", "../../etc/passwd.iso", "/etc/x.iso", ".hidden.iso", "a%00b.iso", "a%0Ab.iso",
     "a,file=x.iso", "%F0%9F%A6%86.iso", "a" * 200 + ".iso", "-rf.iso", "a%2F..%2Fb.iso", "CON%5Cx.iso"],
)  # fmt: skip
def test_names_that_cannot_be(scene: Scene, boss: Client, name: str) -> None:
    code, words = put(boss, iso(), name)
    assert code == 400
    assert "cannot be the name of an ISO" in words
    assert files(scene.folder) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The file is empty."),
        (b"MZ" + bytes(100_000), "no ISO image"),
        (b"QFI\xfb\x00\x00\x00\x03" + bytes(100_000), "qcow2"),
        (iso(2000)[:100_000], "cut short"),
    ],
    ids=["empty", "program", "qcow2", "short"],
)
def test_bytes_that_are_no_iso(scene: Scene, boss: Client, body: bytes, words: str) -> None:
    code, said = put(boss, body)
    assert code == 400
    assert words in said
    assert files(scene.folder) == []
    assert not Volume.objects.filter(name="iso/new.iso").exists()


def test_a_qcow2_with_a_backing_file_is_no_iso_in_a_form_either(scene: Scene, boss: Client) -> None:
    evil = b"QFI\xfb\x00\x00\x00\x03" + struct.pack(">QI", 112, 11) + bytes(92) + b"/etc/shadow" + bytes(4096)
    boss.post("/storage/local/upload", {"file": SimpleUploadedFile("evil.iso", evil)})
    assert "no ISO image" in boss.get("/storage/local").content.decode()
    assert files(scene.folder) == []


def test_a_name_that_is_taken_stays_what_it_was(scene: Scene, boss: Client) -> None:
    put(boss, iso(64))
    code, words = put(boss, iso(80))
    assert code == 400
    assert "already" in words
    assert (scene.folder / "template/iso/new.iso").stat().st_size == 64 * SECTOR


def test_a_wrong_checksum_keeps_nothing(scene: Scene, boss: Client) -> None:
    code, words = put(boss, iso(), query=f"&sha256={'0' * 64}")
    assert code == 400
    assert "checksum" in words
    assert files(scene.folder) == []


def test_more_than_the_storage_holds_is_refused_before_a_byte(scene: Scene, boss: Client) -> None:
    answer = boss.generic(
        "PUT",
        "/storage/local/upload?filename=big.iso",
        iso(),
        "application/octet-stream",
        **{"CONTENT_LENGTH": str(1 << 50), "wsgi.input": io.BytesIO(iso())},
    )
    assert answer.status_code == 400
    assert files(scene.folder) == []


def test_who_may_not_upload_writes_nothing(scene: Scene) -> None:
    bob = signed_in(person("bob", storage="PVEDatastoreUser"))
    answer = bob.put("/storage/local/upload?filename=a.iso", iso(), content_type="application/octet-stream")
    assert answer.status_code == 403
    assert "Datastore.AllocateTemplate" in answer.json()["error"]
    for client, code in ((bob, 302), (Client(), 302)):
        answer = client.post("/storage/local/upload", {"file": SimpleUploadedFile("b.iso", iso())})
        assert answer.status_code == code
    assert files(scene.folder) == []
    assert not Volume.objects.filter(name__in=("iso/a.iso", "iso/b.iso")).exists()


def test_no_other_form_takes_files(scene: Scene, boss: Client) -> None:
    """A file posted to any other address is dropped, not spooled."""
    answer = boss.post(
        "/login", {"username": "x", "password": "y", "file": SimpleUploadedFile("x.iso", iso())}
    )
    assert answer.status_code == 302
    assert files(scene.folder) == []


def test_without_the_token_a_form_leaves_nothing(scene: Scene, operator: object) -> None:
    client = signed_in(operator, enforce_csrf_checks=True)
    answer = client.post("/storage/local/upload", {"file": io.BytesIO(iso())})
    assert answer.status_code == 403
    assert files(scene.folder) == []


def test_an_image_to_import_goes_to_its_own_library(scene: Scene, boss: Client) -> None:
    assert put(boss, bytes(1 << 20), "debian.img") == (201, "debian.img is in the library.")
    row = Volume.objects.get(name="import/debian.img")
    assert (row.content, row.format, row.size) == ("import", "raw", 1 << 20)
    assert files(scene.folder) == ["import/debian.img"]
    assert "raw image to import" in boss.get("/storage/local").content.decode()
    code, words = put(boss, b"#!/bin/sh", "evil.qcow2")
    assert code == 400
    assert "should be qcow2" in words
    assert files(scene.folder) == ["import/debian.img"]
