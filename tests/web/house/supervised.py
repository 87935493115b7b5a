"""A whole installation in a folder of its own, started as a person would start it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
ROLES = {"redis", "worker", "console", "web"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(what: str, state: Callable[[], bool], limit: float = 30) -> float:
    """Seconds until ``state`` holds."""
    begun = time.monotonic()
    pause = threading.Event()
    while not state():
        assert time.monotonic() - begun < limit, f"{what}: not within {limit} s"
        pause.wait(0.02)
    return time.monotonic() - begun


class House:
    """One installation in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.output = home.parent / "terminal"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **environ: str) -> float:
        """Start it; seconds until the first page."""
        begun = time.monotonic()
        self.spawn(*arguments, **environ)
        wait_for("the first page", lambda: self.status("/login") == 200, 30)
        return time.monotonic() - begun

    def spawn(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "manage.py", "pvelite", "--bind", f"127.0.0.1:{self.port}", *arguments]
        inherited = {
            key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
        }  # as ./up
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env={**inherited, "PVELITE_HOME": str(self.home), **environ},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        return self.process

    def status(self, path: str) -> int:
        """The status of a GET, 0 when nobody answers."""
        try:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            link.request("GET", path)
            return link.getresponse().status
        except OSError:
            return 0
        finally:
            link.close()

    def roles(self) -> dict[str, psutil.Process]:
        """The role processes of this home that run now, whoever their parent is."""
        found = {}
        for record in (self.home / "run").glob("*.pid"):
            with suppress(psutil.NoSuchProcess, FileNotFoundError, IndexError):  # it ended this very moment
                process = psutil.Process(int(record.read_text().split()[0]))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found[record.stem] = process
        return found

    def effort(self) -> float:
        """Processor seconds the first page took: what an idle machine's clock would show, at most."""
        assert self.process is not None
        spent = [psutil.Process(self.process.pid).cpu_times(), self.roles()["web"].cpu_times()]
        return sum(times.user + times.system for times in spent)

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send a signal to the supervisor; seconds until it ended."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(10)
        return time.monotonic() - begun

    def terminal(self) -> str:
        return self.output.read_text()
