"""Backup jobs in the admin stand under the rules of their page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from vms.models import BackupJob, Node, Storage, Volume

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> Any:
    return get_user_model().objects.create_superuser("root", password="x")


@pytest.fixture
def admin(client: Client, root: Any) -> Client:
    client.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def given(root: Any) -> dict[str, Any]:
    storage = Storage.objects.create(name="local", path="/srv/pvelite-test")
    return {
        "name": "nightly", "enabled": "on", "schedule": "02:00", "storage": storage.pk, "vmids": "[101]",
        "exclude": "[]", "mode": "snapshot", "compress": "zstd", "keep": "keep-last=3", "limit": "0",
        "owner": root.pk,
    }  # fmt: skip


def test_a_job_is_added_with_its_next_run(admin: Client, given: dict[str, Any], root: Any) -> None:
    answer = admin.post(reverse("admin:vms_backupjob_add"), given)
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    job = BackupJob.objects.get()
    assert (job.vmids, job.keep, job.owner) == ([101], "keep-last=3", root)
    assert job.next_run is not None
    change = reverse("admin:vms_backupjob_change", args=[job.pk])
    assert admin.get(change).status_code == 200
    off = {key: value for key, value in given.items() if key != "enabled"}
    assert admin.post(change, off).status_code == 302
    job.refresh_from_db()
    assert (job.enabled, job.next_run) == (False, None)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schedule", "noon", "is no weekday"), ("keep", "keep-last=x", "whole number"),
        ("vmids", "[]", "Choose one"), ("vmids", '["x"]', "no list of VM IDs"),
        ("compress", "rar", "neither zstd"),
        ("name", "1x", "starts with a letter"), ("vmids", "{", "valid JSON"),
    ],
)  # fmt: skip
def test_what_cannot_stand_is_named(
    admin: Client, given: dict[str, Any], key: str, value: str, words: str
) -> None:
    answer = admin.post(reverse("admin:vms_backupjob_add"), given | {key: value})
    assert answer.status_code == 200
    assert words in " ".join(answer.context["adminform"].form.errors[key])
    assert not BackupJob.objects.exists()


def test_backups_are_only_looked_at(admin: Client, given: dict[str, Any]) -> None:
    node = Node.objects.create(name="pve1")
    made = datetime(2026, 11, 27, 2, tzinfo=UTC)
    row = Volume.objects.create(
        storage_id=given["storage"], node=node, name="backup/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst",
        content="backup", format="tar.zst", vmid=101, made=made, notes="x", protected=True,
    )  # fmt: skip
    page = reverse("admin:vms_volume_change", args=[row.pk])
    assert admin.get(page).status_code == 200
    assert admin.post(page, {"notes": "y"}).status_code == 403
    row.refresh_from_db()
    assert row.notes == "x"
