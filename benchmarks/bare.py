"""How long QEMU itself takes: run an argument list bare and time it until QMP says "running".

    python benchmarks/bare.py [-n COUNT] -- qemu-system-x86_64 … -qmp unix:/tmp/x/qmp.sock,server=on,wait=off

The floor every start of ours is compared with: the same arguments, a plain fork and exec, a plain socket,
nothing of ours. The monitor's socket is read from the arguments (``-qmp`` or the first socket chardev that a
``-mon`` names). One timing is from just before the fork to the ``query-status`` that answers "running".
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

PATIENCE = 30.0
"""Seconds a bare start may take before it counts as failed."""


def monitor_path(argv: Sequence[str]) -> str:
    """The unix socket of the first QMP monitor in ``argv``; ``ValueError`` when there is none."""
    words = list(argv)
    for option, value in pairwise(words):
        found = re.match(r"unix:([^,]+)", value) if option == "-qmp" else None
        if found:
            return found[1]
    monitors = [value for option, value in pairwise(words) if option == "-mon"]
    names = [name for value in monitors if (name := _name(value, "chardev"))]
    for option, value in pairwise(words):
        if option == "-chardev" and _name(value, "id") in names and (path := _name(value, "path")):
            return path
    raise ValueError("no QMP monitor on a unix socket among the arguments")


def _name(value: str, key: str) -> str:
    """The value of ``key`` in one QEMU option, JSON or key=value."""
    if value.startswith("{"):
        found = json.loads(value)
        return str(found.get(key) or found.get("backend", {}).get("data", {}).get("addr", {}).get(key, ""))
    match = re.search(rf"(?:^|,){key}=([^,]+)", value)
    return match[1] if match else ""


class Talk:
    """The least QMP client there can be."""

    def __init__(self, path: str, deadline: float) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.perf_counter() > deadline:
                    raise
                time.sleep(0.001)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one command, skip events, answer its reply."""
        words = {"execute": command, "arguments": arguments or {}}
        self.socket.sendall(json.dumps(words).encode() + b"\n")
        while True:
            reply: dict[str, Any] = json.loads(self.file.readline())
            if "event" not in reply:
                return reply

    def close(self) -> None:
        """End the connection."""
        self.file.close()
        self.socket.close()


def bare_start(argv: Sequence[str]) -> float:
    """Start ``argv`` once, wait until it runs, end it; answers the seconds until it ran.

    Raises ``RuntimeError`` with QEMU's words when it ended instead. Give an ``argv`` without ``-S``.
    """
    path = Path(monitor_path(argv))
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        talk = Talk(str(path), begun + PATIENCE)
        while "running" not in json.dumps(talk.ask("query-status")):
            if time.perf_counter() - begun > PATIENCE:
                raise RuntimeError("QEMU answers but its guest does not run; is there a -S?")
        taken = time.perf_counter() - begun
        with suppress(ValueError, OSError):  # it may end before it answers
            talk.ask("quit")
        talk.close()
        return taken
    except OSError as error:
        process.kill()
        words = process.communicate()[1].decode(errors="replace")
        raise RuntimeError(f"QEMU did not come up: {words.strip() or error}") from error
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def main() -> int:
    """Command line: print the median and the spread."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=10, help="how many starts (10)")
    parser.add_argument("argv", nargs="+", help="QEMU and its arguments, after --")
    options = parser.parse_args()
    taken = sorted(bare_start(options.argv) * 1000 for _ in range(options.n))
    middle = statistics.median(taken)
    print(f"bare start, n={len(taken)}: median {middle:.1f} ms, {taken[0]:.1f} … {taken[-1]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
