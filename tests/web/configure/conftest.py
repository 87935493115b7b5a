"""Rows that the tests of Configure stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vms.models import VM, Node, Storage, Volume


@pytest.fixture
def node(db: None) -> Node:
    return Node.objects.create(name="pve1")


@pytest.fixture
def storage(db: None, tmp_path: Path) -> Storage:
    return Storage.objects.create(name="local", path=str(tmp_path / "local"))


@pytest.fixture
def anna(django_user_model: Any) -> Any:
    """A user without any right."""
    return django_user_model.objects.create_user("anna", "", "x")


@pytest.fixture
def operator(django_user_model: Any) -> Any:
    return django_user_model.objects.create_superuser("root", "", "x")


@pytest.fixture
def disk(node: Node, storage: Storage) -> Callable[..., str]:
    """The row of a volume; answers its id."""

    def make(number: int = 0, vmid: int = 100, **columns: Any) -> str:
        values: dict[str, Any] = {
            "name": f"{vmid}/vm-{vmid}-disk-{number}.qcow2", "content": "images", "format": "qcow2",
            "size": 1 << 30, "vmid": vmid,
        }  # fmt: skip
        row = Volume.objects.create(**({"storage": storage, "node": node} | values | columns))
        return row.volid

    return make


@pytest.fixture
def iso(node: Node, storage: Storage) -> str:
    Volume.objects.create(
        storage=storage, node=node, name="iso/a.iso", content="iso", format="iso", size=1 << 20
    )
    return "local:iso/a.iso"


@pytest.fixture
def make_vm(node: Node, storage: Storage) -> Callable[..., VM]:
    """A VM, defined unless told otherwise, with that configuration."""

    def make(config: Mapping[str, str] | None = None, vmid: int = 100, **columns: Any) -> VM:
        from vms.models.configuration import save_config

        vm = VM.everything.create(**({"vmid": vmid, "node": node, "stage": "defined"} | columns))
        save_config(vm, config or {"name": "web", "memory": "512"})
        return vm

    return make


@pytest.fixture
def grant() -> Callable[..., Any]:
    """Give a role on a path; answers the user as read anew, without cached rights."""

    def give(user: Any, path: str, role: str) -> Any:
        from vms.models import AclEntry

        AclEntry.objects.create(path=path, user=user, role=role)
        return type(user).objects.get(pk=user.pk)

    return give
