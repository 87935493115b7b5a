"""QEMU as a process: start it so that it outlives us, find it again, watch it, end it.

A guest is started in its own session with nothing of ours open but a log file, so killing the
worker stops no guest. A later worker finds it by its pid file and believes that file only when the
process's command line names the VM's own run folder; from then on pid **and** start time name it,
because pids are used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vms.errors import CommandError, LaunchError, MonitorError, QemuError
from vms.host.command import as_user, clean_environment
from vms.qemu.monitor import Monitor

POLL = 0.001
"""Seconds between two looks for QEMU's monitor while it starts; it takes about 30 ms."""

LOG_LIMIT = 1 << 20
"""Bytes after which a VM's log is put aside (``.1``) at the next start: guests can make QEMU talk."""

TAIL = 16 << 10
"""Bytes of the log quoted when QEMU did not start."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those this very process started: only a parent may collect an exit code."""


@dataclass(frozen=True)
class Running:
    """A QEMU that runs, named so that no other process can be taken for it.

    ``start_time`` is field 22 of ``/proc/<pid>/stat``: clock ticks after boot.
    """

    pid: int
    start_time: int


@dataclass(frozen=True)
class Launched:
    """A QEMU that has just come up, with the monitor connection that proved it.

    ``began`` is how long its log was before: what it printed stands behind.
    """

    running: Running
    monitor: Monitor
    began: int = 0


async def launch(
    argv: Sequence[str],
    *,
    qmp: str | Path,
    log: str | Path,
    user: str | None = None,
    pass_fds: Sequence[int] = (),
    cpus: Sequence[int] = (),
    timeout: float = 30,
) -> Launched:
    """Start QEMU and answer when its monitor at ``qmp`` does.

    ``argv`` is run as it is (no shell, working directory ``/``, environment cleaned, umask 077,
    no core files) and must carry its own ``-pidfile``; never ``-daemonize``. ``log`` gets what QEMU
    prints. ``user`` runs it as that user (root only). ``pass_fds`` stay open in it under their
    numbers (taps); close yours afterwards. ``cpus`` keeps it and all its threads on those of the node.

    Raises :class:`LaunchError` with QEMU's own words when it ends first or is silent for
    ``timeout`` seconds. After any failure, cancellation too, no process is left.
    """
    log = Path(log)
    with open_log(log) as output:
        began = output.seek(0, os.SEEK_END)
        process = spawn(argv, output, user=user, pass_fds=pass_fds, cpus=cpus)
    running = Running(process.pid, start_time(process.pid) or 0)
    try:
        _set_limits(process.pid)
        async with asyncio.timeout(timeout):
            monitor = await _wait_for_monitor(process, qmp, max(60, timeout))
    except (MonitorError, TimeoutError) as error:
        code = process.poll()
        end_child(process)
        words = tail(log, began)
        if isinstance(error, TimeoutError):
            words += f"\nno answer on its monitor within {timeout:g} seconds"
        raise LaunchError(argv, code, words) from error
    except BaseException:
        end_child(process)
        raise
    return Launched(running, monitor, began)


def spawn(
    argv: Sequence[str],
    output: BinaryIO,
    *,
    user: str | None = None,
    pass_fds: Sequence[int] = (),
    cpus: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Begin a process that outlives us (see :func:`launch`); its exit code is kept for :func:`collect`.

    Not through asyncio, which kills its children when its loop ends. Raises :class:`LaunchError` when
    the program cannot be run at all.
    """
    try:
        words, options = as_user(argv, user)
        with kept_on(cpus):
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=clean_environment(),
                umask=0o077,
                pass_fds=tuple(pass_fds),
                **options,
            )
    except OSError as error:
        raise LaunchError(argv, None, f"{argv[0]} cannot be run: {error.strerror or error}") from error
    except CommandError as error:
        raise LaunchError(argv, error.exit_code, error.output) from error
    _children[process.pid] = process
    return process


@contextlib.contextmanager
def kept_on(cpus: Sequence[int]) -> Iterator[None]:
    """What this thread begins meanwhile stays on those CPUs of the node: a child has its mask from its first
    instruction on, and so have all threads it makes. Nothing happens without ``cpus``."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a start that failed: not the process, not a zombie."""
    process.kill()
    process.wait()
    _children.pop(process.pid, None)


def _set_limits(pid: int) -> None:
    """No core file (it would hold the guest's memory), as many open files as we may give."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


async def _wait_for_monitor(process: subprocess.Popen[bytes], qmp: str | Path, timeout: float) -> Monitor:
    """Connect as soon as this very process listens; :class:`MonitorError` once it has ended.

    One that reads a saved memory may listen and not answer before it has read it all.
    """
    while process.poll() is None:
        connected = _connect(qmp, process.pid)
        if connected is None:
            await asyncio.sleep(POLL)
            continue
        try:
            return await Monitor.over(connected, timeout=timeout)
        except MonitorError:
            # It fell over between listening and answering: its exit code is about to be there.
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, 2)
            raise
    raise MonitorError("connect", "Disconnected", "QEMU has ended")


def _connect(path: str | Path, pid: int) -> socket.socket | None:
    """A connection to the monitor at ``path`` if process ``pid`` owns it, else ``None``.

    The owner is asked of the kernel: a socket file left by an earlier run, or another QEMU on the
    same path, must not pass for the one just started.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(str(path))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[0] == pid:
            return connection
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError, NotADirectoryError):
        pass
    except OSError as error:
        connection.close()
        raise MonitorError("connect", "Disconnected", f"{path}: {error}") from error
    connection.close()
    return None


def open_log(path: Path) -> BinaryIO:
    """The VM's log, ours alone (0600), put aside when it has grown large. Never through a symlink."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_size > LOG_LIMIT:
            path.replace(path.with_name(path.name + ".1"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)


def tail(path: Path, begin: int) -> str:
    """What was written to the log after ``begin``, at most its last :data:`TAIL` bytes."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - TAIL))
        return file.read().decode(errors="replace")


# ---- which process is it


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which ``pid`` began; ``None`` when it is gone or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in brackets and may hold anything, brackets too.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(running: Running) -> bool:
    """Whether that very process still runs (a zombie does not)."""
    return start_time(running.pid) == running.start_time


def adopt(pidfile: str | Path, vmid: int) -> Running | None:
    """The running QEMU that ``pidfile`` names, or ``None`` when it is not that VM's QEMU any more.

    Believed only if the process's arguments name the folder the pid file lies in (where its monitor
    is) and, when they carry an ``-id``, this ``vmid``. Raises nothing for a missing, empty or
    foreign file.
    """
    try:
        with os.fdopen(os.open(pidfile, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            pid = int(file.read(32))
        began = start_time(pid)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    folder = os.fsencode(Path(pidfile).parent) + b"/"
    ours = any(folder in word for word in words)
    named = words[words.index(b"-id") + 1] if b"-id" in words[:-1] else str(vmid).encode()
    if began is None or not ours or named != str(vmid).encode():
        return None
    # Read again: had the pid changed hands in between, the start time would have too.
    return Running(pid, began) if start_time(pid) == began else None


# ---- watching and ending


class Watch:
    """Tells once when a process ends, child or not. Made by :func:`watch`."""

    def __init__(self, running: Running, descriptor: int, callback: Callable[[int | None], None]) -> None:
        self._running = running
        self._descriptor = descriptor
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._ended)

    def close(self) -> None:
        """Stop watching; harmless when it has told already."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _ended(self) -> None:
        self.close()
        self._callback(collect(self._running.pid))


def collect(pid: int) -> int | None:
    """The exit code of a process that ended, if this process was its parent; takes the zombie away."""
    child = _children.get(pid)
    if child is None:
        return None
    code = child.poll()
    if code is not None:
        del _children[pid]
    return code


def _pidfd(running: Running) -> int | None:
    """A handle to that very process, or ``None`` when it has ended."""
    try:
        descriptor = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return None
    if alive(running):
        return descriptor
    os.close(descriptor)
    return None


def watch(running: Running, callback: Callable[[int | None], None]) -> Watch | None:
    """Call ``callback(exit_code)`` on the event loop once the process has ended.

    The exit code is known only to the process that launched it (negative: the signal), else
    ``None``. Answers ``None``, without calling back, when it has ended already.
    """
    descriptor = _pidfd(running)
    if descriptor is None:
        collect(running.pid)
        return None
    return Watch(running, descriptor, callback)


async def wait_ended(running: Running, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for the process to end; answers whether it has."""
    ended = asyncio.Event()
    watcher = watch(running, lambda _code: ended.set())
    if watcher is None:
        return True
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        watcher.close()
    return True


def send_signal(running: Running, number: signal.Signals) -> bool:
    """Signal that very process; ``False`` when it has ended. Never hits a successor of its pid."""
    descriptor = _pidfd(running)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def terminate(running: Running, grace: float = 10) -> str:
    """SIGTERM, up to ``grace`` seconds, then SIGKILL; answers the word for what ended it.

    ``"gone"`` (it had ended), ``"terminated"`` or ``"killed"``. Try QMP ``quit`` first.
    Raises :class:`QemuError` when even SIGKILL did not end it in 5 s
    (stuck in the kernel, for example on dead network storage).
    """
    if not send_signal(running, signal.SIGTERM):
        return "gone"
    if await wait_ended(running, grace):
        return "terminated"
    send_signal(running, signal.SIGKILL)
    if await wait_ended(running, 5):
        return "killed"
    raise QemuError(
        f"QEMU (process {running.pid}) does not end, not even by SIGKILL",
        hint="It waits for the kernel, most often for storage that does not answer.",
    )
