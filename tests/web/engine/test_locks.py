"""Unlocking takes away what nothing holds, and nothing else."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model

from vms.errors import AccessError, StateError
from vms.models import VM, AuditEntry, Task, Volume
from vms.operations.locks import unlock

pytestmark = pytest.mark.django_db


def test_a_lock_without_a_task_goes(make_vm: object) -> None:
    vm = make_vm(lock="backup")  # type: ignore[operator]
    assert unlock(vm, None) == "backup"
    assert VM.objects.get(pk=vm.pk).lock == ""
    assert AuditEntry.objects.get(action="unlock").target == "VM 100: backup"
    vm.refresh_from_db()
    with pytest.raises(StateError, match="is not locked"):
        unlock(vm, None)


def test_a_lock_a_task_holds_stays(make_vm: object) -> None:
    vm = make_vm(lock="clone")  # type: ignore[operator]
    Task.objects.create(type="qmclone", node=vm.node, vm=vm, vmid=100, label="Clone 100", lock="clone")
    with pytest.raises(StateError, match="held by 'Clone 100'"):
        unlock(vm, None)


def test_saved_memory_is_not_orphaned(make_vm: object, storage: object) -> None:
    state = Volume.objects.create(
        storage=storage, name="100/vm-100-state-x.raw", content="images", format="raw"
    )
    vm = make_vm(lock="suspended")  # type: ignore[operator]
    VM.objects.filter(pk=vm.pk).update(vmstate=state)
    vm.refresh_from_db()
    with pytest.raises(StateError, match="hibernated"):
        unlock(vm, None)


def test_only_operators(make_vm: object) -> None:
    vm = make_vm(lock="backup")  # type: ignore[operator]
    with pytest.raises(AccessError):
        unlock(vm, get_user_model().objects.create_user("bob"))
