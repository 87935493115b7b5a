"""How busy this node and a process of it are: the kernel's counters, and what lies between two looks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class NodeCounters:
    """The node at one moment: seconds of processor time, bytes.

    ``disks`` are bytes (read, written), None where the kernel counts none.
    """

    moment: float
    busy: float
    iowait: float
    total: float
    received: int
    sent: int
    disks: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class ProcessCounters:
    """A guest's QEMU at one moment: seconds of processor time, resident bytes."""

    moment: float
    cpu: float
    resident: int


def node_counters(moment: float) -> NodeCounters:
    """The counters of all processors, of all links that are no guest's tap, of all disks."""
    times = psutil.cpu_times()
    idle, iowait = times.idle, getattr(times, "iowait", 0.0)
    # Time given to guests is counted in user and nice already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    links = psutil.net_io_counters(pernic=True)
    own = [link for name, link in links.items() if name != "lo" and not name.startswith("tap")]
    return NodeCounters(
        moment=moment, busy=total - idle - iowait, iowait=iowait, total=total,
        received=sum(link.bytes_recv for link in own), sent=sum(link.bytes_sent for link in own),
        disks=disk_counters(),
    )  # fmt: skip


def disk_counters() -> tuple[int, int] | None:
    """Bytes (read, written) of the disks of this node; what lies on other disks (LVM, RAID) is not counted
    twice, and loop devices not at all."""
    each = psutil.disk_io_counters(perdisk=True) or {}
    layers = ("loop", "ram", "zram", "dm-", "md", "drbd", "nbd", "sr", "fd")
    own = [each[name] for name in _whole() if name in each and not name.startswith(layers)]
    return (sum(disk.read_bytes for disk in own), sum(disk.write_bytes for disk in own)) if own else None


def _whole() -> list[str]:
    """The names of block devices that are no partitions."""
    with suppress(OSError):
        return os.listdir("/sys/block")
    return []


def node_sample(before: NodeCounters, after: NodeCounters) -> dict[str, float]:
    """What a graph of the node shows between two moments; sizes as they are now."""
    seconds, ticks = after.moment - before.moment, after.total - before.total
    total, available = memory()
    swap = psutil.swap_memory()
    sample = {
        "maxcpu": float(psutil.cpu_count() or 1), "loadavg": os.getloadavg()[0],
        "memused": float(total - available), "memtotal": float(total),
        "swapused": float(swap.used), "swaptotal": float(swap.total),
    }  # fmt: skip
    if ticks > 0:
        sample["cpu"] = max(0.0, (after.busy - before.busy) / ticks)
        sample["iowait"] = max(0.0, (after.iowait - before.iowait) / ticks)
    if seconds > 0:
        sample["netin"] = max(0, after.received - before.received) / seconds
        sample["netout"] = max(0, after.sent - before.sent) / seconds
        if before.disks is not None and after.disks is not None:
            sample["diskread"] = max(0, after.disks[0] - before.disks[0]) / seconds
            sample["diskwrite"] = max(0, after.disks[1] - before.disks[1]) / seconds
    return sample


def memory() -> tuple[int, int]:
    """Bytes of this node's memory, and how many of them could be used at once.

    ``PVELITE_MEMINFO`` names another file to read than the kernel's, so that a test can say how short it is.
    """
    text = Path(os.environ.get("PVELITE_MEMINFO") or "/proc/meminfo").read_text()
    found = {
        name: int(value.split()[0]) << 10 for name, _, value in (x.partition(":") for x in text.splitlines())
    }
    return found["MemTotal"], found["MemAvailable"]


def process_counters(pid: int, moment: float) -> ProcessCounters | None:
    """A process's counters; ``None`` when it has ended."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
        return ProcessCounters(moment=moment, cpu=times.user + times.system, resident=memory.rss)
    return None


def link_counters() -> Mapping[str, tuple[int, int]]:
    """Bytes (received, sent) of every link of this node, by name."""
    return {
        name: (link.bytes_recv, link.bytes_sent) for name, link in psutil.net_io_counters(pernic=True).items()
    }
