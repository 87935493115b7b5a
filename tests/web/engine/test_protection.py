"""Protection says who, since when and why, in every refusal; and it is forgotten with the protection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from vms.errors import StateError
from vms.models import VM
from vms.models.configuration import save_config
from vms.operations.base import submit
from vms.operations.configure import change
from vms.operations.protection import check_protection, note_guard, said_of
from vms.wizard.drafts import Draft

BASE = {"name": "web", "memory": "64"}


def guard(vm: VM) -> dict[str, str]:
    return dict(VM.everything.values_list("guard", flat=True).get(pk=vm.pk))


def test_every_refusal_says_who_since_when_and_why(make_vm: Callable[..., VM]) -> None:
    vm = make_vm(100, BASE | {"protection": "1"})
    note_guard(vm, "anna", "holds the ledger")
    VM.objects.filter(pk=vm.pk).update(guard={**guard(vm), "since": "2025-05-02T10:00:00+00:00"})
    vm = VM.objects.get(pk=vm.pk)
    said = "Protected by anna since 2 May 2025: holds the ledger."
    assert said_of(vm) == said
    for refused in (lambda: submit("qmdestroy", vm=vm, user=None), lambda: check_protection(vm, "VM 100")):
        with pytest.raises(StateError, match="can't remove VM 100 - protection mode enabled") as caught:
            refused()
        assert caught.value.hint == f"{said} Switch Protection off under Options first."


def test_switched_on_by_another_door_nobody_said_why(make_vm: Callable[..., VM]) -> None:
    vm = make_vm(100, BASE)
    assert guard(vm) == {}
    change(vm, None, set={"protection": "1"})
    noted = guard(vm)
    assert (noted["reason"], noted["owner"]) == ("", "")
    assert abs((datetime.fromisoformat(noted["since"]) - datetime.now(UTC)).total_seconds()) < 60
    vm.refresh_from_db()
    assert said_of(vm).startswith("Protected since ")
    assert said_of(vm).endswith("; no reason was given.")


def test_switched_on_by_another_door_it_has_a_name(
    make_vm: Callable[..., VM], anna: Any, grant: Callable[..., Any]
) -> None:
    """The admin's user, or whoever typed ``qm set``; a later change does not take it over."""
    vm = make_vm(100, BASE)
    change(vm, None, set={"protection": "1"}, by="root (qm)")
    anna = grant(anna, "/vms", "PVEVMAdmin")
    change(vm, anna, set={"protection": "1", "name": "shop"})
    vm.refresh_from_db()
    assert said_of(vm).startswith("Protected by root (qm) since ")
    assert said_of(vm).endswith("; no reason was given.")
    change(vm, anna, delete=["protection"])
    VM.objects.filter(pk=vm.pk).update(status="running")
    change(vm, anna, set={"protection": "1", "memory": "128"})
    assert guard(vm)["owner"] == "anna"


def test_the_guard_goes_with_the_protection(make_vm: Callable[..., VM]) -> None:
    vm = make_vm(100, BASE | {"protection": "1"})
    note_guard(vm, "anna", "holds the ledger")
    save_config(vm, BASE | {"protection": "1", "name": "other"})
    assert guard(vm)["reason"] == "holds the ledger"
    save_config(vm, BASE)
    assert guard(vm) == {}
    assert said_of(vm) == "Protected; no reason was given."


def test_another_reason_leaves_the_day(make_vm: Callable[..., VM]) -> None:
    vm = make_vm(100, BASE | {"protection": "1"})
    since = guard(vm)["since"]
    note_guard(vm, "anna", "one")
    note_guard(vm, "bert", "two")
    assert guard(vm) == {"reason": "two", "owner": "bert", "since": since}


def test_a_draft_has_an_owner_too(make_vm: Callable[..., VM], anna: Any) -> None:
    vm = make_vm(100, BASE)
    VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DRAFT)
    draft = Draft(VM.everything.get(pk=vm.pk), anna)
    draft.mapping["protection"] = "1"
    draft.store()
    assert guard(vm)["owner"] == "anna"
