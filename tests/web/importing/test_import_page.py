"""The page: paste or upload, read, choose, create. Nothing is created by looking."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from vms.models import VM, Node, Storage, Task

pytestmark = pytest.mark.django_db
ADDRESS = "/vms/import"
PLAIN = "# hello\ncores: 2\nmemory: 512\nname: shop\nscsi0: tank:vm-101-disk-0,size=1G\n"


@pytest.fixture
def boss(db: None, tmp_path: Path, settings: Any, django_user_model: Any) -> Client:
    """An operator's browser on a node with storage local."""
    settings.CONF = dataclasses.replace(settings.CONF, node="pve1", home=tmp_path / "home")
    Node.objects.create(name="pve1")
    Storage.objects.create(name="local", path=str(tmp_path / "local"))
    client = Client()
    client.force_login(
        django_user_model.objects.create_superuser("boss", "", "x"),
        "django.contrib.auth.backends.ModelBackend",
    )
    return client


def test_looking_creates_nothing(boss: Client) -> None:
    assert boss.get(ADDRESS).status_code == 200
    page = boss.post(ADDRESS, {"text": PLAIN, "go": "look"}).content.decode()
    assert "there is no storage &#x27;tank&#x27; here" in page
    assert "Create VM 101" not in page
    chosen = {"text": PLAIN, "storage:tank": "local"}
    page = boss.post(ADDRESS, chosen | {"go": "look"}).content.decode()
    assert "Make a new, empty one" in page
    page = boss.post(ADDRESS, chosen | {"missing:scsi0": "leave-out", "go": "look"}).content.decode()
    assert "Create VM 101" in page
    assert not VM.everything.exists()


def test_create_at_once(boss: Client) -> None:
    sent = {"text": PLAIN, "storage:tank": "local", "missing:scsi0": "leave-out", "go": "create"}
    answer = boss.post(ADDRESS, sent)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/vms/101")
    assert VM.objects.get().name == "shop"


def test_create_with_an_empty_disk_is_a_task(boss: Client) -> None:
    sent = {"text": PLAIN, "storage:tank": "local", "missing:scsi0": "empty", "vmid": "150", "go": "create"}
    answer = boss.post(ADDRESS, sent)
    assert answer.headers["Location"] == "/vms/create/150/confirm"
    assert (VM.everything.get().stage, Task.objects.get().type) == ("draft", "qmcreate")


def test_what_does_not_stand_is_not_created(boss: Client) -> None:
    assert boss.post(ADDRESS, {"text": PLAIN, "go": "create"}).status_code == 200
    assert not VM.everything.exists()


def test_a_file(boss: Client) -> None:
    file = SimpleUploadedFile("140.conf", b"name: filed\r\ncores: 1\r\n")
    page = boss.post(ADDRESS, {"file": file, "go": "look"}).content.decode()
    assert "VM 140 on pve1" in page
    assert "name: filed" in page


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({}, "paste a configuration"),
        ({"text": "hello"}, "holds no configuration"),
        ({"text": "x" * 300_000}, "at most"),
        ({"text": "name: a", "vmid": "12345678901"}, "the number goes from"),
        ({"text": "name: a", "vmid": "7"}, "not between"),
        ({"file": SimpleUploadedFile("x.conf", b"\xff\xfe\x00")}, "no UTF-8"),
    ],
)
def test_hostile_input_is_a_sentence(boss: Client, sent: dict[str, Any], words: str) -> None:
    answer = boss.post(ADDRESS, sent | {"go": "create"})
    assert answer.status_code in (200, 400)
    assert words in answer.content.decode()
    assert not VM.everything.exists()


def test_a_file_too_large_is_cut_off(boss: Client) -> None:
    file = SimpleUploadedFile("x.conf", b"a: b\n" * 200_000)
    assert boss.post(ADDRESS, {"file": file}).status_code in (200, 400)


def test_words_of_the_file_are_only_words(boss: Client) -> None:
    text = "name: a\n<script>alert(1)</script>: x\nbogus: <img src=x onerror=y>\n"
    page = boss.post(ADDRESS, {"text": text}).content.decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_without_the_right_there_is_no_form(boss: Client, django_user_model: Any) -> None:
    boss.force_login(
        django_user_model.objects.create_user("anna"), "django.contrib.auth.backends.ModelBackend"
    )
    for answer in (boss.get(ADDRESS), boss.post(ADDRESS, {"text": PLAIN, "go": "create"})):
        assert answer.status_code == 403
        assert "<textarea" not in answer.content.decode()
