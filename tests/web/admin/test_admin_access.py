"""Every admin address that names an object × anonymous, staff without rights, operator."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import models
from django.urls import reverse

from console.models import ConsoleTicket
from vms.models import (
    VM,
    AclEntry,
    AuditEntry,
    BackupJob,
    Node,
    Pool,
    Snippet,
    Storage,
    StorageStatus,
    Task,
    Volume,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows() -> dict[type[models.Model], models.Model]:
    """One object of every kind of ours that the admin shows."""
    user = get_user_model().objects.create_user("anna", password="x")
    node = Node.objects.create(name="pve1")
    storage = Storage.objects.create(name="local", path="/srv/pvelite-test")
    StorageStatus.objects.create(storage=storage, node=node)
    vm = VM.everything.create(vmid=101, node=node, stage=VM.Stage.DEFINED)
    found: list[models.Model] = [
        user,
        Group.objects.create(name="team"),
        node,
        storage,
        vm,
        Volume.objects.create(storage=storage, node=node, name="iso/a.iso", content="iso", format="raw"),
        Pool.objects.create(name="dev"),
        Snippet.objects.create(storage=storage, name="web.yaml"),
        Task.objects.create(type="qmstart", node=node, vm=vm, vmid=101),
        AclEntry.objects.create(path="/vms", user=user, role="PVEVMUser"),
        AuditEntry.objects.create(action="login", username="anna"),
        BackupJob.objects.create(name="nightly", schedule="02:00", storage=storage, owner=user),
    ]
    return {type(row): row for row in found}


def test_each_object_page_asks_who_it_is(client, rows) -> None:
    staff = get_user_model().objects.create_user("staff", password="x", is_staff=True)
    boss = get_user_model().objects.create_superuser("boss", password="x")
    ours = {
        model for model in admin.site._registry if model._meta.app_label in ("vms", "console", "auth")
    } - {ConsoleTicket}  # a ticket lives for seconds; its list is checked with the others
    assert ours == set(rows), "an object of every kind the admin shows"
    for model, row in rows.items():
        for page in ("change", "history", "delete"):
            url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=[row.pk])
            client.logout()
            assert client.get(url).status_code == 302, f"{url} for nobody"
            client.force_login(staff)
            assert client.get(url).status_code == 403, f"{url} without rights"
            client.force_login(boss)
            wanted = {200, 403} if page == "delete" else {200}
            assert client.get(url).status_code in wanted, f"{url} for an operator"
        assert model._base_manager.filter(pk=row.pk).exists(), "looking deletes nothing"
