"""What this node's QEMU can do, and whether KVM really works here.

That ``/dev/kvm`` opens proves nothing: there are machines (virtual ones of the PVM kind) where it
opens, QEMU starts with ``accel=kvm`` and its monitor answers, but a guest's kernel is interpreted
and never comes up. So KVM is believed only when the device can be used by QEMU's user, the
processor shows ``vmx`` or ``svm``, **and** a QEMU started for the purpose finds an ordinary
processor model runnable.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vms.errors import CommandError, QemuError
from vms.host.command import PATH, run
from vms.host.facts import accessible

Wanted = Literal["auto", "kvm", "tcg"]
"""What the operator said: decide by probe, or do not ask."""

PROBE_MODEL = "kvm64"
"""The plainest processor a 64-bit guest gets; where KVM works, nothing of it is missing."""

BINARIES = ("qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm")

KVM = Path("/dev/kvm")


@dataclass(frozen=True)
class Accelerator:
    """The decision. ``reason`` says in plain words why, above all why it is not KVM."""

    kvm: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class QemuFacts:
    """What QEMU itself tells. Keys as in ``vms.hardware.context.NodeFacts``.

    ``machines`` are versioned types, newest first; ``cpu_models`` those this node runs without a
    missing feature under the accelerator that was chosen; ``user_network``: ``-netdev user`` exists.
    ``spice``: its display card is there, which distributions ship in one package with its server.
    """

    qemu_binary: str
    qemu_version: str
    kvm: bool
    kvm_user_ok: bool
    accel_reason: str
    machines: tuple[str, ...]
    cpu_models: tuple[str, ...]
    aio_io_uring: bool
    user_network: bool
    spice: bool

    def to_json(self) -> dict[str, Any]:
        """As the node's facts hold it."""
        return {**asdict(self), "machines": list(self.machines), "cpu_models": list(self.cpu_models)}


def find_binary() -> str:
    """The QEMU of this node; raises :class:`QemuError` when none is installed."""
    for name in BINARIES:
        found = shutil.which(name, path=PATH)
        if found:
            return found
    raise QemuError("QEMU is not installed on this node", hint="apt install qemu-system-x86, or run ./up")


async def examine(
    binary: str | None = None, *, user: str | None = None, wanted: Wanted = "auto"
) -> QemuFacts:
    """Ask QEMU everything a node's facts need; takes about 0.2 s.

    ``user`` is whom guests run as. Raises :class:`QemuError` when there is no QEMU or it does not run.
    """
    binary = binary or find_binary()
    version = await query_version(binary)
    accelerator = await probe(binary, user=user, wanted=wanted)
    name = "kvm" if accelerator.kvm else "tcg"
    uring = {"driver": "file", "node-name": "probe", "filename": binary, "read-only": True, "aio": "io_uring"}
    answers = await ask(
        binary,
        name,
        [
            ("query-machines", None),
            ("query-cpu-definitions", None),
            ("device-list-properties", {"typename": "qxl-vga"}),
            ("blockdev-add", uring),
            ("netdev_add", {"type": "user", "id": "probe"}),
        ],
        user=user,
    )
    machines, models, qxl, block, net = answers
    return QemuFacts(
        qemu_binary=binary,
        qemu_version=version,
        kvm=accelerator.kvm,
        kvm_user_ok=await accessible(KVM, user),
        accel_reason=accelerator.reason,
        machines=versioned_machines(machines.get("return", [])),
        cpu_models=runnable_models(models.get("return", [])),
        aio_io_uring="return" in block,
        user_network="return" in net,
        spice="return" in qxl,
    )


async def query_version(binary: str) -> str:
    """``7.2.22``, from ``--version``."""
    try:
        result = await run([binary, "--version"], timeout=20)
    except CommandError as error:
        raise QemuError(f"QEMU cannot be used: {error}") from error
    match = re.search(r"version (\d+\.\d+(?:\.\d+)?)", result.text)
    if match is None:
        raise QemuError(f"{binary} does not tell its version: {result.text.strip()[:200]}")
    return match[1]


async def probe(binary: str, *, user: str | None = None, wanted: Wanted = "auto") -> Accelerator:
    """Decide between KVM and TCG. Never raises for a node without KVM: that is an answer."""
    if wanted == "tcg":
        return Accelerator(False, "KVM is switched off for this node by its operator.")
    # The processor first: on one without virtualisation, access to the device would not help.
    refusal = "" if wanted == "kvm" else await asyncio.to_thread(_no_virtualisation)
    refusal = refusal or await _no_device(user)
    if refusal:
        return Accelerator(False, refusal)
    if wanted == "kvm":
        return Accelerator(True, "KVM is switched on for this node by its operator, without a probe.")
    return await _try_kvm(binary, user)


def _no_virtualisation() -> str:
    """Why this processor cannot run guests, or nothing."""
    flags = Path("/proc/cpuinfo").read_text()
    if re.search(r"^flags\s*:.*\b(vmx|svm)\b", flags, re.MULTILINE):
        return ""
    return (
        "The processor shows neither vmx nor svm: virtualisation is off in its firmware, or this node "
        "is itself a virtual machine that passes none on."
    )


async def _no_device(user: str | None) -> str:
    """Why /dev/kvm cannot be used, or nothing."""
    if not await asyncio.to_thread(KVM.exists):
        return "There is no /dev/kvm: the kernel's kvm module is not loaded."
    if not await accessible(KVM, user):
        who = f"user '{user}'" if user else "this user"
        return f"/dev/kvm is there, but {who} may not read and write it; the group kvm usually may."
    return ""


async def _try_kvm(binary: str, user: str | None) -> Accelerator:
    """Start a QEMU with KVM and see whether it finds an ordinary processor runnable."""
    try:
        (answer,) = await ask(binary, "kvm", [("query-cpu-definitions", None)], user=user)
    except QemuError as error:
        return Accelerator(False, f"QEMU does not start with KVM here: {error}")
    for model in answer.get("return", []):
        if model["name"] != PROBE_MODEL:
            continue
        missing = model.get("unavailable-features", [])
        if missing:
            return Accelerator(
                False,
                "/dev/kvm opens, but it cannot run an ordinary guest: the processor model "
                f"{PROBE_MODEL} lacks {', '.join(missing)} there.",
            )
        return Accelerator(True, "KVM works: a probe ran with it.")
    return Accelerator(False, f"QEMU knows no processor model {PROBE_MODEL}, so KVM cannot be judged.")


async def ask(
    binary: str,
    accelerator: str,
    commands: Sequence[tuple[str, Mapping[str, Any] | None]],
    *,
    user: str | None = None,
) -> list[dict[str, Any]]:
    """Start a QEMU without a guest, send commands over its standard input, answer each reply.

    A reply holds ``return`` or ``error``. Raises :class:`QemuError` with QEMU's words when it does
    not come up. It is gone when this returns.
    """
    argv = [binary, "-machine", f"pc,accel={accelerator}", "-nodefaults", "-no-user-config", "-S"]
    argv += ["-display", "none", "-m", "16", "-qmp", "stdio"]
    lines: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
    lines += [
        {"execute": name, **({"arguments": dict(arguments)} if arguments else {})}
        for name, arguments in commands
    ]
    sent = "".join(json.dumps(line) + "\n" for line in [*lines, {"execute": "quit"}])
    try:
        result = await run(argv, input=sent.encode(), timeout=20, user=user)
    except CommandError as error:
        raise QemuError(_last_line(error.output)) from error
    messages = [json.loads(line) for line in result.text.splitlines() if line.startswith("{")]
    replies = [message for message in messages if "return" in message or "error" in message]
    if len(replies) < len(lines):
        raise QemuError(f"QEMU answered {len(replies)} of {len(lines)} questions: {_last_line(result.words)}")
    return replies[1 : len(lines)]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].strip() if lines else "it printed nothing"


def versioned_machines(answer: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The pinned types of both families out of ``query-machines``, newest first, i440fx before q35."""
    found = []
    for entry in answer:
        match = re.fullmatch(r"pc-(i440fx|q35)-(\d+)\.(\d+)(?:\.(\d+))?", str(entry["name"]))
        if match:
            found.append((match[1], *(-int(part or 0) for part in match.groups()[1:]), match[0]))
    return tuple(str(entry[-1]) for entry in sorted(found))


def runnable_models(answer: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The processor models of ``query-cpu-definitions`` from which nothing is missing here."""
    return tuple(sorted(str(entry["name"]) for entry in answer if entry.get("unavailable-features") == []))
