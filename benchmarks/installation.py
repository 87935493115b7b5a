"""The product for benchmarks: started as a user starts it, its database open to this process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

if TYPE_CHECKING:
    from house import House

    from vms.models import VM, Task


@contextmanager
def running() -> Iterator[House]:
    """A running installation with an empty home; Django in this process works on the same home."""
    from house import House

    house = House()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the product ends with us
    os.environ |= {"PVELITE_HOME": str(house.home), "DJANGO_SETTINGS_MODULE": "pvelite.settings"}
    import django

    django.setup()
    import vms.operations  # noqa: F401  (registers the verbs)

    try:
        house.start()
        yield house
    finally:
        house.close()


def until(probe: Callable[[], bool], what: str, timeout: float = 60) -> None:
    """Wait for a state; ``RuntimeError`` naming it when it does not come."""
    deadline = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout:g} s")
        time.sleep(0.005)


def add_vm(vmid: int, config: Mapping[str, str]) -> VM:
    """A defined VM on this node with that configuration; nothing is allocated."""
    from vms.models import VM, Node
    from vms.models.configuration import save_config

    vm = VM.everything.create(vmid=vmid, node=Node.objects.get(), stage=VM.Stage.DEFINED)
    save_config(vm, config)
    return vm


def do(verb: str, vm: VM, params: Mapping[str, str] | None = None) -> Task:
    """Submit a verb as the system, wait for its end; ``RuntimeError`` with the task's words if it failed."""
    from vms.operations.base import submit

    task = submit(verb, vm=vm, user=None, params=params)

    def finished() -> bool:
        task.refresh_from_db()
        return task.finished

    until(finished, task.label)
    if task.status not in (task.Status.OK, task.Status.WARNINGS):
        raise RuntimeError(f"{task.label}: {task.message}\n{task.detail}")
    vm.refresh_from_db()
    return task
