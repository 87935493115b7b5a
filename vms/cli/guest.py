"""``qm agent`` and ``qm guest``: ask a guest's agent, run programs in the guest."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from typing import Any

from vms.cli.follow import INTERVAL, follow
from vms.cli.show import find
from vms.errors import ConfigError
from vms.models import Task
from vms.operations import agent
from vms.operations.agentcommands import COMMANDS, EXEC_LONGEST, EXEC_TIMEOUT, HOLD, decoded

SIMPLE = tuple(name for name in COMMANDS if name not in (
    "exec", "exec-status", "set-user-password", "file-read", "file-write",
))  # fmt: skip
"""Commands that are given nothing."""
STDIN_LIMIT = 1 << 20
"""Bytes read from the standard input at most; what the guest takes is less."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``agent VMID COMMAND``, or what to do in the guest."""
    if parser.get_default("command") == "agent":
        _simple(parser)
        parser.set_defaults(action="cmd")
        return
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _simple(_action(actions, "cmd", "ask the agent one thing; the same as qm agent", vmid=False))
    run = _action(actions, "exec", "run a program in the guest and wait for its end")
    run.add_argument("argv", nargs="+", metavar="ARG", help="the program and its arguments, after --")
    run.add_argument(
        "--timeout", type=int, default=EXEC_TIMEOUT, metavar="SECONDS",
        help=f"how long to wait, 0 as long as possible (default {EXEC_TIMEOUT})",
    )  # fmt: skip
    run.add_argument(
        "--synchronous", default="1", choices=("0", "1"), metavar="0|1",
        help="0: do not wait, print the process's number for exec-status",
    )  # fmt: skip
    run.add_argument(
        "--pass-stdin", nargs="?", const="1", default="0", choices=("0", "1"), metavar="0|1",
        help="give the program what stands on the standard input, 64 KiB at most",
    )  # fmt: skip
    status = _action(actions, "exec-status", "show how a program that was started stands")
    status.add_argument("pid", type=int, metavar="PID", help="the number exec printed")
    password = _action(actions, "passwd", "set a user's password in the guest; it is asked for, twice")
    password.add_argument("username", metavar="USER", help="the user's name in the guest")
    password.add_argument(
        "--crypted", nargs="?", const="1", default="0", choices=("0", "1"), metavar="0|1",
        help="what is typed is a hash already",
    )  # fmt: skip
    read = _action(actions, "file-read", "print a file of the guest, 16 MiB at most")
    read.add_argument("file", metavar="PATH", help="the file's path in the guest")
    write = _action(actions, "file-write", "write the standard input to a file of the guest, 60 KiB at most")
    write.add_argument("file", metavar="PATH", help="the file's path in the guest")


def _action(actions: Any, name: str, text: str, *, vmid: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    if vmid:
        parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    return parser


def _simple(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument("agent_command", choices=SIMPLE, metavar="COMMAND", help=", ".join(SIMPLE))
    parser.add_argument(
        "--hold", type=int, default=HOLD, metavar="SECONDS",
        help=f"of fsfreeze-freeze: thaw by itself after that time (default {HOLD})",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """0 when the agent did it; of ``exec``: when it could be asked. Raises whatever refuses it."""
    command, given = request(options)
    task = agent.ask(command, vm=find(options.vmid), user=None, **given)
    found = awaited(task)
    if found is None:
        return follow(task)
    return shown(command, found["result"])


def request(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The agent's command and what it is given."""
    if options.action == "cmd":
        command = str(options.agent_command)
        return command, {"hold": options.hold} if command == "fsfreeze-freeze" else {}
    if options.action == "exec":
        wait = (options.timeout or EXEC_LONGEST) if options.synchronous == "1" else 0
        given = {"argv": options.argv, "timeout": wait}
        return "exec", {**given, "input": stdin()} if options.pass_stdin == "1" else given
    if options.action == "exec-status":
        return "exec-status", {"pid": options.pid}
    if options.action == "passwd":
        return "set-user-password", {
            "username": options.username, "password": typed(), "crypted": options.crypted == "1",
        }  # fmt: skip
    given = {"file": options.file}
    return str(options.action), {**given, "content": stdin()} if options.action == "file-write" else given


def stdin() -> bytes:
    """What stands on the standard input."""
    return sys.stdin.buffer.read(STDIN_LIMIT + 1)


def typed() -> str:
    """A password, typed twice without being shown; a line of the standard input where nobody types."""
    if not os.isatty(sys.stdin.fileno()):
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("Enter new password: ")
    if first != getpass.getpass("Retype new password: "):
        raise ConfigError("password", "the two are not the same")
    return first


def awaited(task: Task) -> dict[str, Any] | None:
    """The answer as soon as it is there (a freeze goes on after it); None when the task failed."""
    while True:
        task.refresh_from_db()
        found = agent.answer_of(task, None)
        if found is not None:
            return found
        if task.finished:
            return None
        if task.status == Task.Status.QUEUED and not task.node.online:
            return None
        time.sleep(INTERVAL)


def shown(command: str, result: Any) -> int:
    """Print it: a file as it is, everything else as JSON."""
    if command == "file-read":
        sys.stdout.buffer.write(decoded(result["content"]))
        sys.stdout.buffer.flush()
        if result["truncated"]:
            print(f"only the first {result['bytes-read']} bytes were read", file=sys.stderr)
        return 0
    if command not in ("ping", "set-user-password"):
        print(json.dumps(result, indent=3, sort_keys=True))
    return 0
