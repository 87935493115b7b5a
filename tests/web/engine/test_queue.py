"""The queue's promises: claimed once, ended once, locks given back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection

from vms.errors import AccessError, ConfigErrors, LockedError, StateError
from vms.models import VM, Node, Task
from vms.operations.base import submit, submit_on
from vms.tasks import queue
from vms.worker import rows


def test_a_row_is_claimed_once(make_vm: Callable[..., VM], node: Node) -> None:
    task = submit("qmstart", vm=make_vm(), user=None)
    assert [row.pk for row in queue.claim(node, "a" * 32)] == [task.pk]
    assert queue.claim(node, "b" * 32) == []
    task.refresh_from_db()
    assert (task.status, task.boot) == ("running", "a" * 32)


def test_rows_of_another_node_are_left_alone(make_vm: Callable[..., VM]) -> None:
    submit("qmstart", vm=make_vm(), user=None)
    assert queue.claim(Node.objects.create(name="pve2"), "a" * 32) == []


def test_only_the_claiming_life_may_end_a_row(make_vm: Callable[..., VM], node: Node) -> None:
    """A worker presumed dead does not overwrite what its heir decided."""
    task = submit("qmstart", vm=make_vm(), user=None)
    queue.claim(node, "old")
    assert [row.pk for row in queue.inherit(node, "new")] == [task.pk]
    assert not queue.finish(task, "old", Task.Status.OK)
    assert queue.finish(task, "new", Task.Status.ERROR, message="lost")
    assert not queue.finish(task, "new", Task.Status.OK)
    task.refresh_from_db()
    assert (task.status, task.message) == ("error", "lost")
    assert [line.text for line in task.lines.all()] == ["TASK ERROR: lost"]
    assert queue.inherit(node, "newer") == []


def test_the_log_closes_as_in_pve(make_vm: Callable[..., VM], node: Node) -> None:
    task = submit("qmstart", vm=make_vm(), user=None)
    queue.claim(node, "a")
    queue.write(task, queue.Line("careful", "warning"))
    queue.finish(task, "a", Task.Status.WARNINGS, lines=[queue.Line("again", "warning")])
    assert [line.text for line in task.lines.all()] == ["careful", "again", "TASK WARNINGS: 2"]


def test_a_waiting_row_is_cancelled_at_once_and_gives_back_its_lock(make_vm: Callable[..., VM]) -> None:
    vm = make_vm()
    task = submit("qmdestroy", vm=vm, user=None)
    vm.refresh_from_db()
    assert vm.lock == "destroyed"
    assert queue.request_cancel(task)
    task.refresh_from_db()
    vm.refresh_from_db()
    assert (task.status, vm.lock) == ("cancelled", "")
    assert not queue.request_cancel(task)


def test_a_running_row_is_asked_to_stop(make_vm: Callable[..., VM], node: Node) -> None:
    task = submit("qmstart", vm=make_vm(), user=None)
    queue.claim(node, "a")
    assert queue.cancellations(node, "a") == []
    assert queue.request_cancel(task)
    assert queue.cancellations(node, "a") == [task.pk]


def test_a_locked_vm_refuses_and_names_the_holder(make_vm: Callable[..., VM], anna: object) -> None:
    vm = make_vm()
    submit("qmdestroy", vm=vm, user=None)
    with pytest.raises(
        LockedError, match=r"locked \(destroyed\) by 'Destroy 100 \(web\)', started by system"
    ):
        submit("qmstart", vm=vm, user=None)
    with pytest.raises(LockedError):
        submit("qmdestroy", vm=vm, user=None)


def test_locks_without_a_task_are_freed(make_vm: Callable[..., VM], node: Node) -> None:
    """Those that only our tasks hold; a lock somebody set on purpose stays."""
    free, held, kept = make_vm(100), make_vm(101), make_vm(102)
    submit("qmdestroy", vm=held, user=None)
    VM.everything.filter(pk=free.pk).update(lock="create")
    VM.everything.filter(pk=kept.pk).update(lock="migrate")
    rows.free_locks(node, set())
    assert list(VM.everything.values_list("lock", flat=True)) == ["", "destroyed", "migrate"]


@pytest.mark.parametrize("verb", ["qmstart", "qmstop", "qmshutdown", "qmreboot", "qmreset", "qmpause"])
def test_power_needs_its_privilege(
    make_vm: Callable[..., VM], anna: object, grant: Callable[..., object], verb: str
) -> None:
    vm = make_vm(status="stopped" if verb == "qmstart" else "running")
    with pytest.raises(AccessError, match=r"\(/vms/100, VM.PowerMgmt\)"):
        submit(verb, vm=vm, user=anna)
    task = submit(verb, vm=vm, user=grant(anna, "/vms/100", "PVEVMUser"))
    assert (task.status, task.username, task.upid.split(":")[5:7]) == ("queued", "anna", [verb, "100"])


def test_parameters_are_checked_by_key(make_vm: Callable[..., VM]) -> None:
    with pytest.raises(ConfigErrors) as caught:
        submit("qmstop", vm=make_vm(), user=None, params={"timeout": "soon", "how": "gently"})
    assert set(caught.value.by_key()) == {"timeout", "how"}


@pytest.mark.parametrize(
    ("verb", "columns", "words"),
    [
        ("qmstart", {"status": "running"}, "VM 100 already running"),
        ("qmstart", {"status": "paused"}, "VM 100 already running"),
        ("qmstart", {"stage": "draft"}, "finish its wizard"),
        ("qmshutdown", {"status": "stopped"}, "VM 100 is not running"),
        ("qmshutdown", {"status": "paused"}, "VM is paused - cannot shutdown"),
        ("qmreboot", {"status": "paused"}, "VM is paused - cannot shutdown"),
        ("qmreset", {"status": "stopped"}, "VM 100 is not running"),
        ("qmresume", {"status": "running"}, "running already"),
        ("qmdestroy", {"status": "running"}, "VM 100 is running - destroy failed"),
        ("qmdestroy", {"stage": "draft"}, "is a draft"),
        ("qmcreate", {"stage": "defined"}, "VM 100 already exists on node 'pve1'"),
    ],
)
def test_the_wrong_moment(make_vm: Callable[..., VM], verb: str, columns: dict[str, str], words: str) -> None:
    with pytest.raises(StateError) as caught:
        submit(verb, vm=make_vm(**columns), user=None)
    assert words in str(caught.value)
    assert not Task.objects.exists()


def test_protection(make_vm: Callable[..., VM]) -> None:
    with pytest.raises(StateError, match="can't remove VM 100 - protection mode enabled"):
        submit("qmdestroy", vm=make_vm(config={"protection": "1"}), user=None)


def test_a_template_does_not_start(make_vm: Callable[..., VM]) -> None:
    with pytest.raises(StateError, match="you can't start a vm if it's a template"):
        submit("qmstart", vm=make_vm(config={"template": "1"}), user=None)


def test_a_verb_about_the_node(node: Node, anna: object) -> None:
    with pytest.raises(AccessError):
        submit_on("storagescan", node=node, user=anna)
    task = submit_on("storagescan", node=node, user=None)
    assert (task.vm, task.label) == (None, "Scan storage")
    with pytest.raises(ValueError, match="about a VM"):
        submit_on("qmstart", node=node, user=None)


def clone_task(vm: VM, source: VM, **columns: str) -> Task:
    """A row as a clone's door inserts it."""
    task = queue.enqueue(
        "qmclone", node=vm.node, vm=vm, user=None, label="Clone", params={"clone-of": str(source.vmid)},
        lock="clone",
    )  # fmt: skip
    VM.everything.filter(pk=vm.pk).update(stage="draft", lock="clone", draft={"only_for": task.pk})
    Task.objects.filter(pk=task.pk).update(**columns)
    return task


def test_what_a_task_reads_is_claimed_with_it(make_vm: Callable[..., VM], node: Node) -> None:
    source, target = make_vm(900), make_vm(100)
    task = clone_task(target, source)
    assert queue.claim(node, "a") == [queue.Claimed(task.pk, "qmclone", target.pk, source.pk)]
    assert queue.inherit(node, "b") == [queue.Claimed(task.pk, "qmclone", target.pk, source.pk)]


@pytest.mark.parametrize("verb", ["qmstart", "qmdestroy"])
def test_what_is_being_cloned_is_not_disturbed(make_vm: Callable[..., VM], verb: str) -> None:
    source = make_vm(900)
    task = clone_task(make_vm(100), source)
    with pytest.raises(StateError, match="VM 900 is being cloned by 'Clone', started by system"):
        submit(verb, vm=source, user=None)
    source.refresh_from_db()
    assert source.lock == ""
    submit("qmstop", vm=source, user=None)
    queue.request_cancel(task)
    submit(verb, vm=source, user=None)


def test_the_row_of_a_clone_that_came_to_nothing_goes(make_vm: Callable[..., VM], node: Node) -> None:
    source = make_vm(900)
    cancelled = clone_task(make_vm(100), source)
    queue.request_cancel(cancelled)
    failed = clone_task(make_vm(101), source)
    queue.claim(node, "a")
    queue.finish(failed, "a", Task.Status.ERROR, message="no room")
    made = clone_task(make_vm(102), source)
    queue.claim(node, "a")
    VM.everything.filter(vmid=102).update(stage="defined")
    queue.finish(made, "a", Task.Status.OK)
    assert list(VM.everything.order_by("vmid").values_list("vmid", "lock")) == [(102, ""), (900, "")]
    lost = clone_task(make_vm(103), source)
    lost.delete()
    rows.free_locks(node, set())
    assert not VM.everything.filter(vmid=103).exists()


def test_a_row_cancelled_meanwhile_is_not_claimed(make_vm: Callable[..., VM], node: Node) -> None:
    task = submit("qmstart", vm=make_vm(101), user=None)
    (row,) = queue.waiting(node)
    assert queue.request_cancel(task)
    assert queue.claim_row(row, "a") is None
    task.refresh_from_db()
    assert (task.status, task.boot) == ("cancelled", "")


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_need_not_last_is_seen_at_once_and_the_next_commit_waits_for_the_disk_again(
    make_vm: Callable[..., VM], node: Node
) -> None:
    task = submit("qmstart", vm=make_vm(101), user=None)
    (row,) = queue.waiting(node)
    assert queue.claim_row(row, "a", lasting=False)
    assert queue.claim_row(row, "b") is None
    task.refresh_from_db()
    assert (task.status, task.boot) == ("running", "a")
    with connection.cursor() as cursor:
        cursor.execute(
            {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}[connection.vendor]
        )
        assert cursor.fetchone() in ((2,), ("on",))
