"""The one door to external programs: an argument list in, a :class:`CommandResult` out.

No shell, ever. A program gets a cleaned environment, no standard input unless given, the root
directory as its working directory and its own session, so that a time-out can end everything it
started. :func:`run` never blocks the event loop; :func:`run_sync` is the same for start-up scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vms.errors import CommandError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"
"""Where programs are looked for; the caller's own ``PATH`` does not reach them. Last: NixOS."""

NOT_RUN = 126
"""Exit code told of a program that could not be started, as a shell would (127: not found)."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Ceilings for a program that reads bytes we do not trust. ``None`` leaves one alone."""

    cpu_seconds: int | None = None
    address_space: int | None = None
    """Bytes of virtual memory."""
    file_size: int | None = None
    """Bytes of the largest file it may write."""

    def prefix(self) -> list[str]:
        """``prlimit(1)`` arguments that set them before the program begins.

        A wrapper program, because Python's ``preexec_fn`` may deadlock in a process with threads.
        """
        words = ["prlimit", "--core=0"]
        if self.cpu_seconds is not None:
            words.append(f"--cpu={self.cpu_seconds}")
        if self.address_space is not None:
            words.append(f"--as={self.address_space}")
        if self.file_size is not None:
            words.append(f"--fsize={self.file_size}")
        return [*words, "--"]


@dataclass(frozen=True)
class CommandResult:
    """How a program ended. ``exit_code`` is negative when a signal ended it."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output, decoded; bytes that are no UTF-8 become ``\\ufffd``."""
        return self.stdout.decode(errors="replace")

    @property
    def words(self) -> str:
        """What it said on both streams, errors last: for messages to people."""
        return (self.stdout + self.stderr).decode(errors="replace")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment a program of ours gets: nothing of the caller's passes through."""
    return {"PATH": PATH, "LANG": "C", "LC_ALL": "C", **(extra or {})}


def identity(user: str | None) -> dict[str, Any]:
    """``subprocess`` arguments that make a child ``user``; empty when we are that user already.

    Raises :class:`CommandError` when there is no such user, or when only root could become it.
    """
    if user is None:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CommandError(["(start)"], NOT_RUN, f"there is no user '{user}' on this machine") from None
    if entry.pw_uid == os.geteuid():
        return {}
    if os.geteuid() != 0:
        raise CommandError(["(start)"], NOT_RUN, f"only root may start a program as '{user}'")
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def as_user(argv: Sequence[str], user: str | None) -> tuple[list[str], dict[str, Any]]:
    """``argv`` and ``subprocess`` arguments that run it as ``user``.

    Through util-linux' ``setpriv`` where it is: when Python itself has to change the user it forks instead
    of vforking, and copying a worker's page tables costs 6 ms against 2. The process stays the same one,
    ``argv`` replaces ``setpriv`` in it. Raises as :func:`identity` does.
    """
    options = identity(user)
    tool = shutil.which("setpriv", path=PATH)
    if not options or tool is None:
        return list(argv), options
    groups = ",".join(str(group) for group in options["extra_groups"])
    change = [f"--reuid={options['user']}", f"--regid={options['group']}", f"--groups={groups}"]
    return [tool, *change, "--", *argv], {}


def _arguments(
    argv: Sequence[str], limits: Limits | None, user: str | None, cwd: str, env: Mapping[str, str] | None
) -> tuple[list[str], dict[str, Any]]:
    """The argument list that is really run and what ``Popen`` is told beside it."""
    if not argv or any("\0" in word for word in argv):
        raise CommandError(
            argv or ["(nothing)"], NOT_RUN, "an argument list must be non-empty and free of NUL"
        )
    options: dict[str, Any] = {
        "cwd": cwd,
        "env": clean_environment(env),
        "start_new_session": True,
        "umask": 0o077,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **identity(user),
    }
    return [*(limits.prefix() if limits else []), *argv], options


def _result(
    argv: Sequence[str], code: int, out: bytes, err: bytes, began: float, check: bool
) -> CommandResult:
    result = CommandResult(tuple(argv), code, out, err, time.monotonic() - began)
    if check and code != 0:
        raise CommandError(argv, code, result.words)
    return result


def _not_run(argv: Sequence[str], error: OSError) -> CommandError:
    code = 127 if isinstance(error, FileNotFoundError) else NOT_RUN
    return CommandError(argv, code, f"cannot be run: {error.strerror or error}")


def _kill_group(pid: int) -> None:
    """End a program and all it started; it leads its own process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _begun(words: list[str], stdin: int, options: dict[str, Any]) -> asyncio.subprocess.Process:
    """Start a program. A cancellation waits until it runs and ends it then: asyncio may wait for ever for the
    end of one that was cancelled while its pipes were being connected."""
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*words, stdin=stdin, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if not starting.cancelled() and starting.exception() is None:
            process = starting.result()
            if process.returncode is None:
                _kill_group(process.pid)
            await process.communicate()
        raise


async def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    timeout: float = 60,
    user: str | None = None,
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    limits: Limits | None = None,
) -> CommandResult:
    """Run a program to its end and answer what it printed.

    ``timeout`` is in seconds; when it passes, or the caller is cancelled, the program's whole
    process group is killed. ``user`` switches the user (root only). With ``check`` a non-zero end
    raises :class:`CommandError`; a program that is missing or too slow always does.
    """
    words, options = _arguments(argv, limits, user, cwd, env)
    began = time.monotonic()
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    try:
        process = await _begun(words, stdin, options)
    except OSError as error:
        raise _not_run(argv, error) from error
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(input)
    except TimeoutError:
        raise CommandError(argv, None, f"not finished after {timeout:g} seconds") from None
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            await process.wait()
    code = process.returncode
    return _result(argv, NOT_RUN if code is None else code, out, err, began, check)


def run_sync(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    timeout: float = 60,
    user: str | None = None,
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    limits: Limits | None = None,
) -> CommandResult:
    """:func:`run` for code without an event loop."""
    words, options = _arguments(argv, limits, user, cwd, env)
    began = time.monotonic()
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    try:
        process = subprocess.Popen(words, stdin=stdin, **options)
    except OSError as error:
        raise _not_run(argv, error) from error
    with process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise CommandError(argv, None, f"not finished after {timeout:g} seconds") from None
        finally:
            if process.poll() is None:
                _kill_group(process.pid)
    return _result(argv, process.returncode, out, err, began, check)
