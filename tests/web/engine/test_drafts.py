"""Drafts reserve their number; two people never get the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vms.errors import AccessError, ConfigError, ConfigErrors, StateError
from vms.models import VM, Node, Storage, StorageStatus
from vms.models.configuration import save_config
from vms.operations.drafts import (
    change_vmid,
    discard_draft,
    finish_draft,
    new_draft,
    next_vmid,
    vmid_taken,
)


def test_the_lowest_free_number(node: Node, operator: Any) -> None:
    assert next_vmid() == 100
    drafts = [new_draft(operator, node) for _ in range(3)]
    assert [draft.vmid for draft in drafts] == [100, 101, 102]
    discard_draft(drafts[1], operator)
    assert not vmid_taken(101)
    assert new_draft(operator, node).vmid == 101
    assert next_vmid() == 103
    assert next_vmid(500) == 500


def test_a_lost_race_takes_the_next(node: Node, operator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody reserved the number between our look and our insert."""
    from vms.operations import drafts

    real, seen = drafts.next_vmid, []

    def late(start: int = 100) -> int:
        number = real(start)
        if not seen:
            seen.append(number)
            VM.everything.create(vmid=number, node=node)
        return number

    monkeypatch.setattr(drafts, "next_vmid", late)
    assert new_draft(operator, node).vmid == 101


@pytest.mark.parametrize("vmid", [99, 0, -1, 1_000_000_000])
def test_numbers_outside_the_range(node: Node, operator: Any, vmid: int) -> None:
    with pytest.raises(ConfigError) as caught:
        new_draft(operator, node, vmid=vmid)
    assert caught.value.key == "vmid"


def test_a_taken_number_offers_the_next(node: Node, operator: Any) -> None:
    new_draft(operator, node, vmid=100)
    other = new_draft(operator, node, vmid=200)
    for attempt in (lambda: new_draft(operator, node, vmid=100), lambda: change_vmid(other, 100)):
        with pytest.raises(ConfigError, match="VM 100 already exists; the next free ID is 101") as caught:
            attempt()
        assert (caught.value.key, caught.value.hint) == ("vmid", "101")
    change_vmid(other, 101)
    other.refresh_from_db()
    assert other.vmid == 101


def test_creating_needs_a_right_somewhere(node: Node, anna: Any, grant: Callable[..., Any]) -> None:
    with pytest.raises(AccessError):
        new_draft(anna, node)
    assert new_draft(grant(anna, "/vms/300", "PVEVMAdmin"), node).owner == anna


def test_another_users_draft(node: Node, operator: Any, anna: Any) -> None:
    draft = new_draft(operator, node)
    with pytest.raises(AccessError):
        discard_draft(draft, anna)
    assert vmid_taken(draft.vmid)


def test_finish(node: Node, storage: Storage, operator: Any) -> None:
    draft = new_draft(operator, node)
    save_config(draft, {"name": "web", "scsi0": "local:8"})
    task = finish_draft(draft, operator, start=True)
    assert (task.type, task.params) == ("qmcreate", {"start": "1"})
    draft.refresh_from_db()
    assert (draft.stage, draft.lock) == ("draft", "create")
    with pytest.raises(StateError):
        discard_draft(draft, operator)
    with pytest.raises(StateError):
        change_vmid(draft, 150)


def test_finish_asks_for_every_right(
    node: Node, storage: Storage, anna: Any, grant: Callable[..., Any]
) -> None:
    """The VM, each storage, each bridge, and the start."""
    user = grant(anna, "/vms/100", "PVEVMAdmin")
    draft = new_draft(user, node)
    save_config(draft, {"scsi0": "local:8", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"})
    for path, role in (
        ("/storage/local", "PVEDatastoreUser"),
        ("/sdn/zones/localnetwork/vmbr0", "PVESDNUser"),
    ):
        with pytest.raises(AccessError, match=path):
            finish_draft(draft, user)
        user = grant(user, path, role)
    assert finish_draft(draft, user).status == "queued"


def test_room_is_checked_before_a_task_is_made(node: Node, storage: Storage, operator: Any) -> None:
    """All new disks together, by what the storage last said."""
    StorageStatus.objects.create(storage=storage, node=node, total=20 << 30, available=10 << 30)
    draft = new_draft(operator, node)
    save_config(draft, {"scsi0": "local:6", "scsi1": "local:6"})
    with pytest.raises(ConfigErrors) as caught:
        finish_draft(draft, operator)
    assert caught.value.by_key() == {
        "scsi1": "size: storage 'local' has 10.0 GiB free, the new disks want 12G; make them smaller"
    }
