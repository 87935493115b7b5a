"""kill -9 of the worker at every border between the host steps of an operation.

First the operation runs untouched while its borders are noted; then it runs once for each border, dies there,
and the next worker has to bring its task to a definite end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enginekit import Engine

    from vms.models import VM, Task


def borders(engine: Engine, verb: str, vm: VM, within: float = 60, **params: str) -> list[str]:
    """The names of the borders that ``verb`` passes when nothing goes wrong."""
    notes = engine.home / "borders"
    notes.unlink(missing_ok=True)
    engine.stop()
    engine.start(PVELITE_STEPS=str(notes))
    engine.do(verb, vm, within, **params)
    engine.stop()
    engine.start()
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{verb}:")]


def die_at(engine: Engine, verb: str, number: int, vm: VM, within: float = 60, **params: str) -> Task:
    """Run ``verb`` in a worker that dies at its border ``number``; the task as the next worker ended it."""
    engine.stop()
    engine.start(PVELITE_FAULT=f"{verb}:{number}")
    assert engine.process is not None
    task = engine.submit(verb, vm, **params)
    assert engine.process.wait(within) == -signal.SIGKILL, "the worker died where it was told to"
    engine.process = None
    engine.start()
    return engine.end(task, within)


def at_every_border(
    engine: Engine,
    verb: str,
    fresh: Callable[[], VM],
    settled: Callable[[VM, Task, str], None],
    within: float = 60,
    **params: str,
) -> list[str]:
    """``fresh`` gives a VM to do it to; ``settled`` judges what was left. Answers the borders' names."""
    names = borders(engine, verb, fresh(), within, **params)
    assert names, f"{verb} passes no border"
    for number, name in enumerate(names, 1):
        vm = fresh()
        task = die_at(engine, verb, number, vm, within, **params)
        assert task.finished, f"{verb} killed after '{name}': {task.status}"
        settled(vm, task, name)
    return names
