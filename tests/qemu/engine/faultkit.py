"""kill -9 of the worker at every border between the host steps of an operation.

First the operation runs untouched while its borders are noted; then it runs once for each border, dies there,
and the next worker has to bring its task to a definite end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enginekit import until

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
    return passed(notes, verb)


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


def deaths(
    engine: Engine,
    verb: str,
    names: Sequence[str],
    notes: Path,
    ask: Callable[[], Task],
    *,
    again: bool = False,
    within: float = 60,
) -> Iterator[tuple[str, Task]]:
    """``ask`` once for each border called ``names``: the border its worker died at, and the task as the next
    worker ended it. ``again``: that one goes through the borders itself. Asked once more it is left in
    peace, and must pass these borders and no other.
    """
    engine.stop()
    engine.start(PVELITE_FAULT=f"{verb}:1")
    for number, name in enumerate(names, 1):
        task = ask()
        assert engine.process is not None
        assert engine.process.wait(within) == -signal.SIGKILL, name
        engine.process = None
        if again:
            engine.start()
            engine.end(task, within)
            engine.stop()
        more = {"PVELITE_FAULT": f"{verb}:{number + 1}"} if number < len(names) else {}
        engine.start(PVELITE_STEPS=str(notes), **more)
        yield name, engine.end(task, within)
    notes.unlink(missing_ok=True)  # what the last one passed that was taken over
    task = engine.end(ask(), within)
    assert task.status in ("ok", "warnings"), f"{task.message}\n{engine.log.read_text()[-3000:]}"
    assert passed(notes, verb) == list(names), "every border was walked"


def passed(notes: Path, verb: str) -> list[str]:
    """The names of the borders of ``verb`` that a worker has noted."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{verb}:")]


def held_at(engine: Engine, border: str, vm: VM, **params: str) -> Task:
    """Ask for the verb; answers when a new worker stands still at that border of it."""
    return held(engine, border, lambda: engine.submit(border.partition(":")[0], vm, **params))


def held(engine: Engine, border: str, ask: Callable[[], Task]) -> Task:
    """The same for what is asked for otherwise."""
    engine.stop()
    engine.start(PVELITE_HOLD=border)
    task = ask()
    assert engine.process is not None
    stat = Path(f"/proc/{engine.process.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the worker stands still")
    return task


def go_on(engine: Engine) -> None:
    """Let a worker go on that stands still."""
    assert engine.process is not None
    engine.process.send_signal(signal.SIGCONT)


def fill(folder: Path) -> None:
    """Leave hardly any room on the file system of a folder."""
    free = os.statvfs(folder)
    with (folder / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, (free.f_bavail - 64) * free.f_frsize)
