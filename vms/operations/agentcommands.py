"""What can be asked of a guest's agent: PVE's words, what each needs, and how a request is judged."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vms.errors import ConfigError
from vms.qemu.guestfiles import WRITE_LIMIT

AUDIT = "VM.GuestAgent.Audit"
FILE_SYSTEMS = "VM.GuestAgent.FileSystemMgmt"
UNRESTRICTED = "VM.GuestAgent.Unrestricted"
"""Suffices for every command."""
INPUT_LIMIT = 64 << 10
"""Bytes a program can be given."""
OUTPUT_LIMIT = 4 << 20
"""Bytes of output, and of errors, that an answer keeps."""
ARGUMENTS_LIMIT = 64 << 10
"""Bytes of a command line."""
EXEC_TIMEOUT = 30
EXEC_LONGEST = 3600
HOLD = 300
"""Seconds a freeze lasts when nobody thaws."""
HOLD_LONGEST = 3600


@dataclass(frozen=True)
class Command:
    """One command. ``label`` is what a person reads, ``also`` a privilege that suffices too, ``timeout`` the
    seconds the agent gets. ``still``: it touches the file systems of a guest that an operation may hold."""

    name: str
    privilege: str
    label: str
    also: str = ""
    timeout: float = 5
    still: bool = False

    @property
    def privileges(self) -> tuple[str, ...]:
        """Any one of these suffices."""
        return tuple(filter(None, (self.privilege, self.also, UNRESTRICTED)))


COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command("ping", AUDIT, "Ask whether it answers"),
        Command("info", AUDIT, "What this agent can do"),
        Command("get-osinfo", AUDIT, "Operating system"),
        Command("get-host-name", AUDIT, "Host name"),
        Command("get-time", AUDIT, "Clock"),
        Command("get-timezone", AUDIT, "Time zone"),
        Command("get-users", AUDIT, "Who is logged in"),
        Command("get-fsinfo", AUDIT, "File systems", timeout=30),
        Command("get-vcpus", AUDIT, "Processors"),
        Command("get-memory-blocks", AUDIT, "Memory blocks"),
        Command("get-memory-block-info", AUDIT, "Size of a memory block"),
        Command("network-get-interfaces", AUDIT, "Network interfaces"),
        Command("fsfreeze-status", FILE_SYSTEMS, "Freeze status", also=AUDIT),
        Command("fsfreeze-freeze", FILE_SYSTEMS, "Freeze file systems", timeout=3600, still=True),
        Command("fsfreeze-thaw", FILE_SYSTEMS, "Thaw file systems", timeout=180, still=True),
        Command("fstrim", FILE_SYSTEMS, "Trim file systems", timeout=600, still=True),
        Command("shutdown", "VM.PowerMgmt", "Shut down by the agent"),
        Command("suspend-disk", "VM.PowerMgmt", "Hibernate inside the guest"),
        Command("suspend-ram", "VM.PowerMgmt", "Sleep"),
        Command("suspend-hybrid", "VM.PowerMgmt", "Sleep, with a copy on disk"),
        Command("exec", UNRESTRICTED, "Run a command", timeout=30),
        Command("exec-status", UNRESTRICTED, "Status of a command", timeout=30),
        Command("set-user-password", UNRESTRICTED, "Set a password", timeout=30),
        Command("file-read", "VM.GuestAgent.FileRead", "Read a file"),
        Command("file-write", "VM.GuestAgent.FileWrite", "Write a file"),
    )
}
SILENT_WHEN_DONE = ("shutdown", "suspend-disk", "suspend-ram", "suspend-hybrid")
"""Commands whose success nobody is left to tell."""


def judged(command: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The request as the worker gets it, checked. Raises :class:`ConfigError` on the key that cannot stand.

    Keys: ``argv`` ``input`` ``timeout`` (exec), ``pid`` (exec-status), ``username`` ``password`` ``crypted``
    (set-user-password), ``file`` (file-*), ``content`` (file-write), ``hold`` (fsfreeze-freeze). Bytes
    (``input``, ``content``) become base64.
    """
    if command not in COMMANDS:
        raise ConfigError("command", f"'{command[:40]}' is nothing an agent is asked")
    known = {"exec": _exec, "exec-status": _status, "set-user-password": _password, "file-read": _file}
    more = {"file-write": _write, "fsfreeze-freeze": _freeze}
    judge = {**known, **more}.get(command)
    return judge(given) if judge is not None else {}


def subject(command: str, request: Mapping[str, Any]) -> str:
    """What of a request may stand in a row: the program, the file or the user's name, never more."""
    if command == "exec":
        return str(request["argv"][0])[:60]
    return str(request.get("file") or request.get("username") or request.get("pid") or "")[:60]


def _exec(given: Mapping[str, Any]) -> dict[str, Any]:
    argv = [str(word) for word in given.get("argv") or ()]
    if not argv or not argv[0]:
        raise ConfigError("command", "is missing: say which program to run")
    if any("\0" in word for word in argv) or sum(map(len, argv)) > ARGUMENTS_LIMIT:
        raise ConfigError("command", "holds a zero byte or is longer than 64 KiB")
    data = _limited("input-data", given.get("input") or b"", INPUT_LIMIT)
    timeout = _number("timeout", given.get("timeout", EXEC_TIMEOUT), 0, EXEC_LONGEST)
    return {"argv": argv, "input": data, "timeout": timeout}


def _status(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"pid": _number("pid", given.get("pid", ""), 1, (1 << 31) - 1)}


def _password(given: Mapping[str, Any]) -> dict[str, Any]:
    name, password = str(given.get("username") or ""), str(given.get("password") or "")
    if not name or len(name) > 256 or any(sign in name for sign in ":\n\r\0"):
        raise ConfigError("username", "is missing, or no name of a user")
    if not 5 <= len(password) <= 1024 or any(sign in password for sign in "\n\r\0"):
        raise ConfigError("password", "needs 5 to 1024 characters on one line")
    return {"username": name, "password": password, "crypted": bool(given.get("crypted"))}


def _file(given: Mapping[str, Any]) -> dict[str, Any]:
    path = str(given.get("file") or "")
    if not path or len(path) > 4096 or "\0" in path:
        raise ConfigError("file", "is missing, or no path")
    return {"file": path}


def _write(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**_file(given), "content": _limited("content", given.get("content") or b"", WRITE_LIMIT)}


def _freeze(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"hold": _number("hold", given.get("hold", HOLD), 1, HOLD_LONGEST)}


def _limited(key: str, data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise ConfigError(key, f"has {len(data)} bytes, at most {limit >> 10} KiB are taken")
    return base64.b64encode(data).decode()


def _number(key: str, text: Any, least: int, most: int) -> int:
    word = str(text).strip()
    if not (word.isascii() and word.isdigit() and len(word) < 12 and least <= int(word) <= most):
        raise ConfigError(key, f"is a whole number from {least} to {most}")
    return int(word)


def decoded(text: object) -> bytes:
    """Base64 of ours back as bytes; empty for what is none."""
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except binascii.Error:
        return b""
