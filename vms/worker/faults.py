"""Where a test may kill the worker: the borders between the host steps of an operation.

Nothing happens unless the worker was started with ``PVELITE_FAULT=TYPE:NUMBER``: then it ends itself with
SIGKILL at the NUMBERth border of the first tasks of that type, as if the power had gone there.
``PVELITE_HOLD=TYPE:NUMBER`` makes it stop itself there (SIGSTOP) until the test lets it go on (SIGCONT).
``PVELITE_STEPS=FILE`` notes every border that was passed, so that a test knows how many there are.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

_passed: Counter[str] = Counter()


def reached(type_: str, name: str) -> None:
    """An operation of that type has come to the border called ``name``."""
    wanted, held = os.environ.get("PVELITE_FAULT"), os.environ.get("PVELITE_HOLD")
    notes = os.environ.get("PVELITE_STEPS")
    if not wanted and not held and not notes:
        return
    _passed[type_] += 1
    if notes:
        with Path(notes).open("a") as file:
            file.write(f"{type_}:{_passed[type_]} {name}\n")
    if wanted == f"{type_}:{_passed[type_]}":
        os.kill(os.getpid(), signal.SIGKILL)
    if held == f"{type_}:{_passed[type_]}":
        os.kill(os.getpid(), signal.SIGSTOP)
