"""Asking a guest's agent. Only the worker talks to it, for its socket serves one client.

What a command is given and what it answers travels in a parcel (:mod:`vms.tasks.parcel`), never in a row: the
task says who asked for what, not which password. An answer is for who may ask the same.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vms import access
from vms.config.vmconfig import VMConfig
from vms.errors import AccessError, ConfigError, LockedError, MonitorError, OutcomeUnknown, StateError
from vms.models import VM, Task
from vms.models.configuration import config_of
from vms.operations import agentcommands as words
from vms.operations import freeze
from vms.operations.agentcommands import COMMANDS, Command, decoded
from vms.operations.base import (
    Context,
    Guest,
    Operation,
    Params,
    check_clones,
    holder,
    operation,
    submit,
)
from vms.operations.guests import live, must_run
from vms.qemu import guestfiles
from vms.qemu.agent import SILENT, Agent, ExecStatus
from vms.schema.option import opt
from vms.tasks import parcel

NOT_CONFIGURED = "No QEMU guest agent configured"
NOT_RUNNING = "QEMU guest agent is not running"
PATIENCE = 3
"""Seconds an agent gets to say that it is there, as in PVE."""
LOCKS = frozenset(
    {"backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending"}
)
"""Under these the guest may run; only what touches its file systems has to wait."""
TYPE = "qmagent"


@dataclass(frozen=True, kw_only=True)
class AgentParams(Params):
    """What is asked. What it is about (a program, a file, a user) stands in ``subject`` for the list."""

    command: str = opt("Command", required=True, max_length=40)
    subject: str = opt("About", default="", max_length=60)
    parcel: str = opt("Parcel", required=True, hidden=True, pattern="[0-9a-f]{32}")


def ask(command: str, *, vm: VM, user: Any, **given: Any) -> Task:
    """Ask the agent of ``vm``; :func:`answer_of` has the answer when the task has ended.

    ``given`` as :func:`vms.operations.agentcommands.judged` wants it. Raises :class:`AccessError`,
    :class:`ConfigError`, :class:`StateError`.
    """
    request = words.judged(command, given)
    if user is not None:
        require(user, vm, COMMANDS[command])
    possible(vm, COMMANDS[command])
    about = "".join(sign for sign in words.subject(command, request) if sign.isprintable())
    params = {"command": command, "subject": about, "parcel": parcel.send(request)}
    return submit(TYPE, vm=vm, user=user, params=params)


def answer_of(task: Task, user: Any) -> dict[str, Any] | None:
    """What the agent answered; None while there is nothing, or no longer. ``user`` None may read everything.

    Raises :class:`AccessError` unless the user may ask the same.
    """
    command = COMMANDS.get(str(task.params.get("command")))
    if task.type != TYPE or command is None or task.vm is None:
        return None
    if user is not None:
        require(user, task.vm, command)
    return parcel.answered(str(task.params["parcel"]))


def may(user: Any, vm: VM, command: Command) -> bool:
    """Whether ``user`` holds one of the privileges that suffice."""
    return any(access.may_vm(user, privilege, vm) for privilege in command.privileges)


def require(user: Any, vm: VM, command: Command) -> None:
    """Raises :class:`AccessError` unless :func:`may`."""
    if not may(user, vm, command):
        raise AccessError(f"Permission check failed ({vm.path}, {' or '.join(command.privileges)})")


def enabled(mapping: Mapping[str, str]) -> bool:
    """Whether a configuration has the agent's channel."""
    part = VMConfig.parse({"agent": mapping["agent"]}).get("agent") if mapping.get("agent") else None
    return bool(part is not None and part.value("enabled"))


def possible(vm: VM, command: Command) -> None:
    """Raise :class:`StateError`, in PVE's words, when nobody can answer."""
    if vm.lock and command.still:
        raise LockedError(f"VM {vm.vmid} is locked ({vm.lock}) by {holder(vm)}.")
    must_run(vm)
    if not enabled(config_of(vm)):
        raise StateError(NOT_CONFIGURED, hint="Enable it in Options, then shut the VM down and start it.")
    if vm.status != VM.Status.RUNNING:
        raise StateError(f"VM {vm.vmid} is {vm.status}: its agent cannot answer.", hint="Resume it first.")


@operation(TYPE, privilege=words.AUDIT, label="Guest agent", params=AgentParams)
class AskAgent(Operation):
    """Ask one thing, and leave the answer for who may read it."""

    accepts_locks = LOCKS
    beside_clones = True
    takes_turn = False

    def authorise(self, user: Any, vm: VM, params: AgentParams) -> None:
        require(user, vm, _command(params))

    def check(self, vm: VM, params: AgentParams) -> None:
        command = _command(params)
        possible(vm, command)
        if command.still:
            check_clones(Operation(), vm)

    def title(self, vm: VM, params: AgentParams) -> str:
        about = f": {params.subject}" if params.subject else ""
        return f"{_command(params).label} {vm.vmid} ({vm.display_name}){about}"

    async def run(self, ctx: Context) -> None:
        command = _command(ctx.params)
        request = await asyncio.to_thread(parcel.fetch, ctx.params.parcel)
        guest = live(ctx)
        if not await guest.agent.ping(PATIENCE):
            if guest.agent.busy:
                raise StateError("The guest agent is busy with another request.", hint="Try again later.")
            raise StateError(NOT_RUNNING, hint="Install and start it in the guest; Summary says how.")
        ctx.step("asking")
        try:
            found = await WAYS.get(command.name, _plainly)(ctx, guest.agent, command, request)
        except (MonitorError, OutcomeUnknown) as error:
            raise said(error) from error
        await leave(ctx, found)

    async def resume(self, ctx: Context) -> None:
        text = "The worker was restarted in the middle of this task."
        name = ctx.params.command
        if name == "fsfreeze-freeze":
            guest = ctx.services.guest(ctx.vm.vmid)
            if guest is not None:
                text += f" {await thawed(guest)}"
        elif name == "exec":
            text += " The program may still run inside the guest; what it said is lost."
        elif name in ("file-write", "set-user-password", *words.SILENT_WHEN_DONE):
            text += " It may have been done."
        raise StateError(text, hint="Ask again.")


def _command(params: AgentParams) -> Command:
    command = COMMANDS.get(params.command)
    if command is None:
        raise ConfigError("command", f"'{params.command}' is nothing an agent is asked")
    return command


def said(error: MonitorError | OutcomeUnknown) -> StateError:
    """The agent's refusal, or its silence, in a sentence."""
    if isinstance(error, OutcomeUnknown):
        return StateError(f"{error}. It may have been done.")
    if error.error_class == SILENT:
        return StateError(NOT_RUNNING)
    hint = ""
    if "frozen" in error.description:
        hint = "Thaw the file systems first."
    elif error.error_class == "CommandNotFound":
        hint = "This agent does not know the command, or its operator has blocked it (block-rpcs)."
    return StateError(f"Agent error: {error.description}.", hint=hint)


async def leave(ctx: Context, found: Any) -> None:
    """Leave the answer."""
    await asyncio.to_thread(parcel.answer, ctx.params.parcel, {"result": found})


async def thawed(guest: Guest) -> str:
    """Thaw, and say how that went."""
    try:
        count = await freeze.thaw(guest)
    except (MonitorError, OutcomeUnknown) as error:
        return f"The file systems could not be thawed: {error}."
    return f"The file systems were thawed ({count})."


# ---- one way for each kind of command

Way = Callable[[Context, Agent, Command, Mapping[str, Any]], Awaitable[Any]]


async def _plainly(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    return await agent.execute(f"guest-{command.name}", timeout=command.timeout)


async def _silently(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    await agent.tell(f"guest-{command.name}")
    return {}


async def _frozen(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    """Freeze, and stay until somebody thaws or the time is over: a guest is never left frozen."""

    guest = live(ctx)

    async def thaw() -> None:
        await freeze.thaw(guest)

    agent.freezing += 1
    try:
        ctx.on_undo("thaw the file systems", thaw)
        count = await freeze.while_it_runs(guest, agent.freeze(command.timeout))
        ctx.step("frozen")
        await leave(ctx, count)
        if count:
            await ctx.log(f"{count} file systems frozen")
            text = f"{count} file systems are frozen; thawed after {request['hold']} s at the latest"
            await ctx.progress(None, text)
            await _until_thawed(ctx, agent, int(request["hold"]))
    finally:
        agent.freezing -= 1
    return count


async def _until_thawed(ctx: Context, agent: Agent, hold: int) -> None:
    deadline = time.monotonic() + hold
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        if ctx.services.guest(ctx.vm.vmid) is None:
            await ctx.warn("the VM ended meanwhile")
            return
        if not await agent.still():
            await ctx.log("thawed")
            return
    await ctx.log(f"thawed after {hold} s: {await agent.thaw()} file systems")


async def _run(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    pid = await agent.run(request["argv"], input=decoded(request["input"]))
    ctx.step("running")
    await ctx.log(f"started as process {pid} of the guest")
    deadline, pause = time.monotonic() + int(request["timeout"]), 0.05
    while time.monotonic() < deadline:
        status = await agent.run_status(pid)
        if status.exited:
            return {"pid": pid, **output(status)}
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    if request["timeout"]:
        await ctx.warn(f"process {pid} still runs after {request['timeout']} s; ask for its status later")
    return {"pid": pid, "exited": False}


async def _run_status(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    status = await agent.run_status(int(request["pid"]))
    return {"pid": request["pid"], **output(status)}


def output(status: ExecStatus) -> dict[str, Any]:
    """How a program of the guest stands, in PVE's words; its output as text."""
    found: dict[str, Any] = {"exited": status.exited}
    if status.exit_code is not None:
        found["exitcode"] = status.exit_code
    if status.signal is not None:
        found["signal"] = status.signal
    streams = (("out", status.stdout, status.truncated[0]), ("err", status.stderr, status.truncated[1]))
    for name, data, cut in streams:
        if data:
            found[f"{name}-data"] = data[: words.OUTPUT_LIMIT].decode(errors="replace")
        if cut or len(data) > words.OUTPUT_LIMIT:
            found[f"{name}-truncated"] = True
    return found


async def _password(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    arguments = {
        "username": request["username"], "crypted": request["crypted"],
        "password": base64.b64encode(request["password"].encode()).decode(),
    }  # fmt: skip
    await agent.execute("guest-set-user-password", arguments, timeout=command.timeout)
    return {}


async def _read(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    content, truncated = await guestfiles.read(agent, request["file"])
    return {
        "content": base64.b64encode(content).decode(), "bytes-read": len(content), "truncated": truncated,
    }  # fmt: skip


async def _write(ctx: Context, agent: Agent, command: Command, request: Mapping[str, Any]) -> Any:
    return {"bytes-written": await guestfiles.write(agent, request["file"], decoded(request["content"]))}


WAYS: Mapping[str, Way] = {
    **dict.fromkeys(words.SILENT_WHEN_DONE, _silently),
    "fsfreeze-freeze": _frozen,
    "exec": _run,
    "exec-status": _run_status,
    "set-user-password": _password,
    "file-read": _read,
    "file-write": _write,
}
