"""Starts the roles, keeps them running and ends them in order. Guests are never among its children."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from pvelite.conf import Conf
from pvelite.server import LISTEN_FD, ROLES, SUPERVISOR
from vms.errors import StateError
from vms.qemu.process import start_time

ROOT = Path(__file__).resolve().parent.parent
FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Seconds before a role that ended is started again; the delay doubles while it keeps ending soon."""
STEADY = 10.0
"""Seconds a role must live to count as healthy again."""
AFTER_WEB = ("worker", "console")
HEAD_START = 1.5
"""Seconds at most that these leave the processors to the web role, so the first page comes soon."""
STOP_LIMIT = 2.0
"""Seconds the roles get for an orderly end; then they are killed. Redis, the last, gets little more."""
LOG_LIMIT = 10 << 20
"""Bytes of a role's log before it is kept as ``.1`` and begun anew."""


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(text, flush=True)


class Role:
    """One child process, started again whenever it ends by itself."""

    def __init__(self, name: str, conf: Conf, listener: socket.socket | None = None) -> None:
        self.name = name
        self.log = conf.log_dir / f"{name}.log"
        self.record = conf.run_dir / f"{name}.pid"
        self.listener = listener
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.begins = 0

    def start(self) -> subprocess.Popen[bytes]:
        """Spawn it in a session of its own, so Ctrl-C reaches only the supervisor."""
        rotate(self.log)
        self.begins = self.log.stat().st_size if self.log.exists() else 0
        environ = {**os.environ, SUPERVISOR: str(os.getpid())}
        passed: tuple[int, ...] = ()
        if self.listener is not None:
            passed = (self.listener.fileno(),)
            environ[LISTEN_FD] = str(passed[0])
        with open(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pvelite.server", self.name],
                cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=passed, start_new_session=True,
            )  # fmt: skip
        self.record.write_text(f"{self.process.pid} {start_time(self.process.pid)}\n")
        return self.process

    async def keep(self, go: asyncio.Event) -> None:
        """From ``go`` on run it until :meth:`signal`, starting it again with growing patience."""
        await go.wait()
        delay = FIRST_DELAY
        while not self.stopping:
            begun = time.monotonic()
            process = self.start()
            code = await ended(process)
            if self.stopping:
                break
            lived = time.monotonic() - begun
            delay = FIRST_DELAY if lived > STEADY else delay
            say(f"{self.name} ended ({reason(code)}); starting it again in {delay:.1f} s. Log: {self.log}")
            if lived < STEADY:
                for line in tail(self.log, self.begins, 6):
                    say(f"  {self.name} | {line}")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
        self.record.unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        """Ask it to end (SIGTERM) or end it (SIGKILL); no longer started again."""
        self.stopping = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


class Supervisor:
    """The roles of this process, from start to an ordered stop."""

    def __init__(self, conf: Conf, roles: Iterable[str]) -> None:
        chosen = set(roles)
        self.conf = conf
        self.listener = listen(conf) if "web" in chosen else None
        self.roles = [
            Role(name, conf, self.listener if name == "web" else None) for name in ROLES if name in chosen
        ]
        self.asked = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Start all, call ``ready`` once the web server accepts, return after the stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask)
        at_once, later = asyncio.Event(), asyncio.Event()
        at_once.set()
        keepers = [
            loop.create_task(role.keep(later if role.name in AFTER_WEB else at_once)) for role in self.roles
        ]
        chores = loop.create_task(self.chores(ready, later))
        waiting = loop.create_task(self.asked.wait())
        await asyncio.wait([waiting, *keepers], return_when=asyncio.FIRST_COMPLETED)
        for task in (chores, waiting):
            task.cancel()
        await self.stop(keepers)
        for keeper in keepers:
            with suppress(asyncio.CancelledError):
                await keeper

    def ask(self) -> None:
        """SIGINT or SIGTERM came. A second one ends the roles at once."""
        if self.asked.is_set():
            for role in self.roles:
                role.signal(signal.SIGKILL)
        else:
            say("Stopping; guests keep running.")
        self.asked.set()

    async def stop(self, keepers: list[asyncio.Task[None]]) -> None:
        """End web, console and worker together, Redis after them: they may still send a last hint."""
        others = [role for role in self.roles if role.name != "redis"]
        for group, limit in ((others, STOP_LIMIT), (self.roles, 0.4)):
            for role in group:
                role.signal(signal.SIGTERM)
            alive = [ended(role.process) for role in group if role.process is not None]
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*alive), limit)
            for role in group:
                role.signal(signal.SIGKILL)
        for keeper, role in zip(keepers, self.roles, strict=True):
            if role.process is None or role.process.poll() is not None:
                keeper.cancel()
            role.record.unlink(missing_ok=True)

    async def chores(self, ready: Callable[[], None], later: asyncio.Event) -> None:
        """Let the others start and tell when the first page can be had; then keep the logs from growing."""
        if self.listener is not None:
            first_page = asyncio.ensure_future(answering(self.conf))
            await asyncio.wait([first_page], timeout=HEAD_START)
            later.set()
            await first_page
        later.set()
        ready()
        while True:
            await asyncio.sleep(60)
            for role in self.roles:
                rotate(role.log)


def listen(conf: Conf) -> socket.socket:
    """The web server's socket. Raises :class:`StateError` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in conf.host else socket.AF_INET
    try:
        return socket.create_server(
            (conf.host, conf.port), family=family, backlog=512, dualstack_ipv6=conf.host == "::"
        )
    except OSError as error:
        raise StateError(
            f"cannot listen on {conf.bind}: {error.strerror}", hint="Choose another: ./up --bind HOST:PORT"
        ) from error


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child without a thread and without polling; its exit code, negative for a signal."""
    if process.poll() is None:
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        handle = os.pidfd_open(process.pid)
        loop.add_reader(handle, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
    return process.wait()


async def answering(conf: Conf) -> None:
    """Return once the web role answers a request."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(conf.host, conf.host)  # noqa: S104  (compared, not bound)
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(host, conf.port)
        writer.write(b"HEAD /login HTTP/1.0\r\nHost: localhost\r\n\r\n")
        await reader.readline()
        writer.close()


def end_leftovers(conf: Conf, roles: Iterable[str]) -> None:
    """End roles that outlived a killed supervisor, known by pid and start time; wait for them."""
    found = []
    for name in roles:
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            pid, start = (conf.run_dir / f"{name}.pid").read_text().split()
            process = psutil.Process(int(pid))
            if start_time(process.pid) == int(start):
                process.terminate()
                found.append(process)
    _, stubborn = psutil.wait_procs(found, timeout=STOP_LIMIT)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=1)


def rotate(log: Path) -> None:
    """Keep one old part of a log that grew large. The writer appends, so it goes on in the emptied file."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            log.with_suffix(".log.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)


def tail(log: Path, begins: int, lines: int) -> list[str]:
    """The last lines of a log, none from before the byte ``begins``."""
    with log.open("rb") as file:
        file.seek(max(begins, log.stat().st_size - 4096))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def reason(code: int) -> str:
    """An exit code in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
