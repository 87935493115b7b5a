"""Bulk start and shutdown as rows: who may, what is asked for, and when a node's boot asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vms.errors import AccessError, ConfigErrors
from vms.host.facts import boot_id
from vms.models import VM, Node, Task
from vms.operations import fleet
from vms.operations.base import OPERATIONS, parse_params, submit, submit_on
from vms.tasks import queue
from vms.worker import autostart


def asked(type_: str, **params: str) -> Any:
    verb = OPERATIONS[type_]
    return parse_params(verb.params, {name.replace("_", "-"): text for name, text in params.items()})


def ids(groups: Any) -> list[int]:
    return [turn.vm.vmid for group in groups for turn in group]


@pytest.fixture
def guests(make_vm: Callable[..., VM]) -> list[VM]:
    """Five: two that start with the node, one that runs already, one that does not, a template."""
    base = {"memory": "64"}
    boot = base | {"onboot": "1"}
    return [
        make_vm(100, boot | {"startup": "order=2,down=5"}), make_vm(101, boot | {"startup": "order=1"}),
        make_vm(102, boot, status="running"), make_vm(103, base), make_vm(104, boot | {"template": "1"}),
    ]  # fmt: skip


def test_who_starts(guests: list[VM], node: Node) -> None:
    start = fleet.StartAll()
    assert ids(start.groups(node, asked("startall"))) == [101, 100]
    assert ids(start.groups(node, asked("startall", force="1"))) == [101, 100, 103]
    assert ids(start.groups(node, asked("startall", vms="100,103,104"))) == [100]
    assert ids(start.groups(Node.objects.create(name="pve2"), asked("startall"))) == []


def test_who_stops_and_what_each_is_told(guests: list[VM], node: Node) -> None:
    VM.objects.filter(vmid__in=(100, 103)).update(status="running")
    stop = fleet.StopAll()
    groups = stop.groups(node, asked("stopall"))
    assert ids(groups) == [103, 102, 100]
    turns = {turn.vm.vmid: turn for group in groups for turn in group}
    assert stop.child_params(turns[100], asked("stopall")) == {"timeout": "5", "forceStop": "1"}
    assert stop.child_params(turns[102], asked("stopall")) == {"timeout": "180", "forceStop": "1"}
    told = asked("stopall", force_stop="0", timeout="20")
    assert stop.child_params(turns[102], told) == {"timeout": "20", "forceStop": "0"}


def test_who_may(guests: list[VM], node: Node, anna: Any, grant: Callable[..., Any]) -> None:
    """Everything with the right on ``/``; named guests with the right on each."""
    for type_ in ("startall", "stopall"):
        with pytest.raises(AccessError, match=r"VM\.PowerMgmt"):
            submit_on(type_, node=node, user=anna)
    anna = grant(anna, "/vms/100", "PVEVMUser")
    assert submit_on("startall", node=node, user=anna, params={"vms": "100"}).label == "Bulk start of 1 VM"
    for params in ({}, {"vms": "100,101"}, {"vms": "999"}):
        with pytest.raises(AccessError):
            submit_on("startall", node=node, user=anna, params=params)
    anna = grant(anna, "/", "PVEVMUser")
    assert submit_on("stopall", node=node, user=anna).label == "Bulk shutdown"


def test_wrong_parameters_name_themselves(node: Node) -> None:
    with pytest.raises(ConfigErrors, match="vms: 'x' is no VM ID"):
        submit_on("startall", node=node, user=None, params={"vms": "100,x"})


def test_left_over_backup_locks_are_given_back(guests: list[VM], node: Node) -> None:
    VM.objects.filter(vmid__in=(100, 101)).update(lock="backup")
    VM.objects.filter(vmid=103).update(lock="migrate")
    queue.enqueue("vzdump", node=node, vm=guests[1], user=None, label="Backup", params={}, lock="backup")
    assert [vm.vmid for vm in fleet.unlock(node)] == [100]
    assert dict(VM.objects.exclude(lock="").values_list("vmid", "lock")) == {101: "backup", 103: "migrate"}


def test_a_bulk_start_under_way_is_cancelled_by_a_bulk_shutdown(guests: list[VM], node: Node) -> None:
    task = submit_on("startall", node=node, user=None)
    single = submit("qmstart", vm=guests[3], user=None)
    assert fleet.cancel_starts(node) == [task]
    task.refresh_from_db()
    assert task.status == "cancelled"
    assert fleet.starts_of(node) == [single]


# ---- the node has booted


def measured(node: Node, boot: str) -> None:
    Node.objects.filter(pk=node.pk).update(facts={"threads": 2, "boot_id": boot})


def test_a_boot_starts_the_guests_once(guests: list[VM], node: Node) -> None:
    measured(node, "another boot")
    task = autostart.begin(node)
    assert task is not None
    assert (task.type, task.username, task.params) == ("startall", "system", {})
    assert autostart.begin(node) is None  # killed before the new facts were stored: not asked twice
    measured(node, boot_id())
    queue.request_cancel(task)
    assert autostart.begin(node) is None  # a worker that is merely started again


def test_the_first_life_of_all_starts_nothing(guests: list[VM], node: Node) -> None:
    assert autostart.begin(node) is None
    assert not Task.objects.exists()


def test_a_node_without_guests_to_start_gets_no_task(make_vm: Callable[..., VM], node: Node) -> None:
    make_vm(100)
    make_vm(101, {"onboot": "1", "template": "1"})
    measured(node, "another boot")
    assert autostart.begin(node) is None


def test_a_boots_id_stays_and_tells_containers_apart() -> None:
    assert boot_id() == boot_id()
    kernel, _, first = boot_id().partition(":")
    assert len(kernel) == 36
    assert first.isdigit()
