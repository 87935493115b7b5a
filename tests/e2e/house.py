"""The product as a user runs it: ``manage.py pvelite`` on a home of its own, ended with all its guests."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "admin", "Zimt-und-Zucker-7"
DROPPED = (
    "DATABASE_URL",
    "REDIS_URL",
    "PVELITE_ORIGINS",
    "PVELITE_BIND",
    "PVELITE_HOME",
    "DJANGO_SETTINGS_MODULE",
)


def free_port() -> int:
    """A TCP port of loopback nobody has right now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class House:
    """One running installation. ``home`` is short (unix sockets) and may be crossed by QEMU's user."""

    def __init__(self, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pvl-", dir="/tmp"))
        self.home.chmod(0o711)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = arguments
        self.environ = {name: value for name, value in os.environ.items() if name not in DROPPED}
        self.environ |= {
            "PVELITE_HOME": str(self.home),
            "PVELITE_ADMIN_PASSWORD": PASSWORD,
            "PVELITE_LOG": "INFO",
            "PYTHONUNBUFFERED": "1",
            **(environ or {}),
        }
        self.output = self.home / "supervisor.out"
        self.process: subprocess.Popen[bytes] | None = None

    # ---- life

    def start(self, timeout: float = 60) -> None:
        """Start the supervisor and wait until the login page is served."""
        words = [sys.executable, "manage.py", "pvelite", "--bind", f"127.0.0.1:{self.port}", *self.arguments]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no login page after {timeout:g} s\n{self.words()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the login page can be had."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/login", headers={"Host": f"127.0.0.1:{self.port}"})
            return connection.getresponse().status in (200, 301, 302)
        except OSError:
            return False
        finally:
            connection.close()

    def interrupt(self, timeout: float = 20) -> int:
        """Ctrl-C: an ordered stop that leaves guests running. Answers the supervisor's exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout)

    def close(self) -> None:
        """End everything that was started here, guests too, and remove the home."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if self.process is not None:
            self.process.wait(5)
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- looking inside

    def processes(self) -> list[int]:
        """Every live process of this home: roles by their environment, QEMU and swtpm by their arguments.

        The home's name is random and ours, so nobody else's process can carry it.
        """
        mark, found = str(self.home).encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            if int(folder.name) == os.getpid():
                continue
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if mark in words or (b"python" in words and mark in (folder / "environ").read_bytes()):
                    found.append(int(folder.name))
        return found

    def role_pid(self, name: str) -> int:
        """The process of a role: web, worker, console or redis. The first page may come before the others."""
        file, deadline = self.home / "run" / f"{name}.pid", time.monotonic() + 15
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return int(file.read_text().split()[0])

    def guest_pid(self, vmid: int) -> int | None:
        """QEMU's process of that VM, from its pid file; ``None`` when it does not run."""
        try:
            pid = int((self.home / "run" / "vm" / str(vmid) / "qemu.pid").read_text())
            return pid if b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
        except (OSError, ValueError):
            return None

    def words(self) -> str:
        """What the supervisor and the roles said last: for a failing test's report."""
        logs = [self.output, *sorted((self.home / "log").glob("*.log"))]
        parts = []
        for log in logs:
            with suppress(OSError):
                parts.append(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)

    def manage(self, *arguments: str, timeout: float = 60) -> str:
        """Run ``manage.py`` on this home; answers what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environ, timeout=timeout,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def qm(
        self, *arguments: str, timeout: float = 120, program: str = "qm"
    ) -> subprocess.CompletedProcess[str]:
        """Run ``qm`` (or ``vzdump`` …) on this home, as an operator at the shell would."""
        return subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments], cwd=ROOT, env=self.environ,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def add_iso(self, source: Path, name: str = "") -> str:
        """Put an ISO into the library's folder, as an operator would with cp; answers its volume id."""
        folder = self.home / "local" / "template" / "iso"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / (name or source.name)
        shutil.copyfile(source, target)
        target.chmod(0o644)
        return f"local:iso/{target.name}"
