"""The guest agent on Summary: how it stands, what it told, what may be asked of it, how it gets there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse

from vms.hardware.guest import windows_version
from vms.models import VM
from vms.operations.agent import NOT_RUNNING, enabled, may
from vms.operations.agentcommands import AUDIT, COMMANDS
from vms.views.states import State

_ENABLE = "systemctl enable --now qemu-guest-agent"
INSTALL: Mapping[str, tuple[tuple[str, str], ...]] = {
    "linux": (
        ("Debian, Ubuntu", "apt install qemu-guest-agent\nsystemctl start qemu-guest-agent"),
        ("Fedora, RHEL and kin", f"dnf install qemu-guest-agent\n{_ENABLE}"),
        ("SUSE", f"zypper install qemu-guest-agent\n{_ENABLE}"),
        ("Arch", f"pacman -S qemu-guest-agent\n{_ENABLE}"),
        (
            "Alpine",
            "apk add qemu-guest-agent\nrc-update add qemu-guest-agent\nrc-service qemu-guest-agent start",
        ),
    ),
    "windows": (
        ("From the driver disc (virtio-win.iso), in PowerShell", "D:\\virtio-win-guest-tools.exe /quiet"),
        ("Whether it runs, in PowerShell", "Get-Service QEMU-GA"),
    ),
    "other": (
        (
            "FreeBSD",
            "pkg install qemu-guest-agent\nsysrc qemu_guest_agent_enable=YES\nservice qemu-guest-agent start",
        ),
    ),
}  # fmt: skip
"""Family of systems → what to type into the guest."""
MENU = ("exec", "query", "file-read", "file-write", "set-user-password", "fstrim", "fsfreeze-status",
        "fsfreeze-freeze", "fsfreeze-thaw", "ping")  # fmt: skip
AT_ONCE = frozenset({"fsfreeze-status", "fsfreeze-thaw", "ping"})
"""What is asked without a question before it."""
ICONS = {
    "exec": "console", "query": "info", "file-read": "folder", "file-write": "upload", "ping": "help",
    "set-user-password": "user", "fstrim": "disk", "fsfreeze-status": "info", "fsfreeze-freeze": "pause",
    "fsfreeze-thaw": "play",
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A line of the card's menu."""

    label: str
    icon: str
    url: str
    at_once: bool
    reason: str


def family(ostype: str) -> str:
    """The key of :data:`INSTALL` for an OS type of ours; Linux where nothing is said."""
    if windows_version(ostype):
        return "windows"
    return "other" if ostype in ("other", "solaris") else "linux"


def agent_card(user: Any, vm: VM, config: Mapping[str, str]) -> dict[str, Any]:
    """What the card shows. Who may not ask the agent does not see what it told."""
    told = vm.agent if isinstance(vm.agent, dict) and vm.running else {}
    allowed = may(user, vm, COMMANDS["get-osinfo"])
    state, text, missing = _state(vm, config, bool(told))
    return {
        "state": state,
        "text": text,
        "enabled": enabled(config),
        "install": INSTALL[family(config.get("ostype", ""))] if missing else (),
        "told": told if allowed else {},
        "cards": [each for each in told.get("interfaces", []) if each["name"] != "lo"] if allowed else [],
        "hidden": "" if allowed else f"What it tells is for who has {AUDIT} on this VM.",
        "since": _moment(told.get("since")),
        "items": items(user, vm, "" if told else NOT_RUNNING) if enabled(config) else [],
        "options": reverse("vms:option_edit", args=[vm.vmid, "agent"]),
    }


def _state(vm: VM, config: Mapping[str, str], up: bool) -> tuple[State, str, bool]:
    """The state, a sentence to it, and whether it has to be installed."""
    if not enabled(config):
        text = "Install it in the guest, enable it in Options, then shut the VM down and start it."
        return State("Not enabled", "stopped"), text, True
    if not vm.running:
        return State("Not known", "stopped"), "Known once the guest runs.", False
    if up:
        return State("Running", "running"), "", False
    launched = vm.launch.get("config", {}) if isinstance(vm.launch, dict) else {}
    if launched and not enabled(launched):
        text = "It was enabled after this start. Its channel comes with the next one: shut down, then start."
        return State("No channel", "paused"), text, False
    if vm.status != VM.Status.RUNNING:
        return State("Not known", "paused"), "The guest stands still.", False
    text = f"{NOT_RUNNING}. Install and start it in the guest; it shows here as soon as it answers."
    return State("Not running", "paused"), text, True


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def items(user: Any, vm: VM, silent: str) -> list[Item]:
    """The menu: what may be asked, and why the rest cannot be."""
    found = []
    for name in MENU:
        command = COMMANDS["get-osinfo" if name == "query" else name]
        label = "Ask for details" if name == "query" else command.label
        reason = refusal(user, vm, name) or (silent if name != "ping" else "")
        found.append(
            Item(label, ICONS[name], reverse("vms:agent_ask", args=[vm.vmid, name]), name in AT_ONCE, reason)
        )
    return found


def refusal(user: Any, vm: VM, name: str) -> str:
    """Why that cannot be asked now; empty when it can be tried."""
    command = COMMANDS["get-osinfo" if name == "query" else name]
    if not may(user, vm, command):
        return f"You may not: {command.privilege} on this VM is missing."
    if not vm.running:
        return "The VM is not running."
    if vm.lock and command.still:
        return f"The VM is locked ({vm.lock}): its file systems are left alone meanwhile."
    return "" if vm.status == VM.Status.RUNNING else "The guest stands still."
