"""Which QMP events are a reason to look again, and at what.

An event is a reason to ask, never a fact to store: it may be late, come twice, or belong to a state
that has passed. The table says what to ask about; the answer of the query is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Ask(Enum):
    """What may have changed, and hence what to query."""

    STATUS = "status"
    """The run state (``query-status``)."""
    END = "end"
    """QEMU is about to end, or waits in state ``shutdown`` to be ended."""
    AGENT = "agent"
    """The guest agent came or went."""
    BALLOON = "balloon"
    """The guest's memory (``query-balloon``)."""
    DEVICES = "devices"
    """A device left, or would not."""
    BLOCK = "block"
    """A disk: an error, a full storage, a tray."""
    JOB = "job"
    """A block job or a snapshot (``query-jobs``)."""
    MIGRATION = "migration"
    """A migration or a saved state (``query-migrate``)."""
    CONSOLE = "console"
    """A viewer came or went."""


REASONS: Mapping[str, Ask] = {
    "STOP": Ask.STATUS,
    "RESUME": Ask.STATUS,
    "RESET": Ask.STATUS,
    "SUSPEND": Ask.STATUS,
    "SUSPEND_DISK": Ask.STATUS,
    "WAKEUP": Ask.STATUS,
    "WATCHDOG": Ask.STATUS,
    "GUEST_PANICKED": Ask.STATUS,
    "GUEST_CRASHLOADED": Ask.STATUS,
    "POWERDOWN": Ask.STATUS,
    "SHUTDOWN": Ask.END,
    "VSERPORT_CHANGE": Ask.AGENT,
    "BALLOON_CHANGE": Ask.BALLOON,
    "DEVICE_DELETED": Ask.DEVICES,
    "DEVICE_UNPLUG_GUEST_ERROR": Ask.DEVICES,
    "ACPI_DEVICE_OST": Ask.DEVICES,
    "MEMORY_DEVICE_SIZE_CHANGE": Ask.DEVICES,
    "NIC_RX_FILTER_CHANGED": Ask.DEVICES,
    "BLOCK_IO_ERROR": Ask.BLOCK,
    "BLOCK_IMAGE_CORRUPTED": Ask.BLOCK,
    "BLOCK_WRITE_THRESHOLD": Ask.BLOCK,
    "DEVICE_TRAY_MOVED": Ask.BLOCK,
    "JOB_STATUS_CHANGE": Ask.JOB,
    "BLOCK_JOB_READY": Ask.JOB,
    "BLOCK_JOB_COMPLETED": Ask.JOB,
    "BLOCK_JOB_CANCELLED": Ask.JOB,
    "BLOCK_JOB_ERROR": Ask.JOB,
    "BLOCK_JOB_PENDING": Ask.JOB,
    "MIGRATION": Ask.MIGRATION,
    "MIGRATION_PASS": Ask.MIGRATION,
    "VNC_CONNECTED": Ask.CONSOLE,
    "VNC_INITIALIZED": Ask.CONSOLE,
    "VNC_DISCONNECTED": Ask.CONSOLE,
    "SPICE_CONNECTED": Ask.CONSOLE,
    "SPICE_INITIALIZED": Ask.CONSOLE,
    "SPICE_DISCONNECTED": Ask.CONSOLE,
}
"""Events not here (``RTC_CHANGE`` and other noise) are no reason for anything."""


def reason(event: str) -> Ask | None:
    """What an event is a reason to ask about; ``None`` for noise."""
    return REASONS.get(event)
