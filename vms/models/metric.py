"""What was measured, for graphs: a fixed number of rows per series, each a ring of fixed size.

A series is a VM or a node; for each frame (hour … year) it has one row whose ``data`` is a ring of
:data:`SLOTS` slots. A slot knows the moment it is about, how many samples went into it and the sum of each
quantity, so a sample is added to every frame at once and an average falls out when it is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import models


@dataclass(frozen=True)
class Frame:
    """A span of time: :data:`SLOTS` steps of ``step`` seconds."""

    name: str
    step: int


SLOTS = 72
FRAMES = (
    Frame("hour", 60), Frame("day", 1200), Frame("week", 8400), Frame("month", 43200), Frame("year", 518400)
)  # fmt: skip
"""The slots reach a little further than the name says, so that a graph of a day is a whole day."""

QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "vm": ("cpu", "maxcpu", "mem", "maxmem", "memhost", "diskread", "diskwrite", "netin", "netout"),
    "node": ("cpu", "maxcpu", "iowait", "loadavg", "memused", "memtotal", "swapused", "swaptotal", "netin",
             "netout", "vcpus", "diskread", "diskwrite"),
}  # fmt: skip
"""New ones go to the end, so that rings written before keep what they have.

PVE's names. ``cpu`` is the used share of ``maxcpu`` (0 to 1), sizes are bytes, the rest bytes a second."""


class Metric(models.Model):
    """One ring. ``vm`` empty: the node's own."""

    node = models.ForeignKey("vms.Node", on_delete=models.CASCADE, related_name="metrics")
    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, null=True, related_name="metrics")
    frame = models.CharField(max_length=5)
    data = models.BinaryField(default=bytes)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["vm", "frame"], condition=~models.Q(vm=None), name="one_ring_per_vm_and_frame"
            ),
            models.UniqueConstraint(
                fields=["node", "frame"], condition=models.Q(vm=None), name="one_ring_per_node_and_frame"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vm_id or self.node_id} {self.frame}"


def _slot(count: int) -> struct.Struct:
    """A slot of so many quantities: its moment, its samples, the sums, how many each sum has."""
    return struct.Struct(f"<qI{count}d{count}H")


class Ring:
    """A ring's bytes as slots. Pure; what cannot be read begins empty."""

    def __init__(self, quantities: tuple[str, ...], data: bytes = b"") -> None:
        self.quantities = quantities
        self._slot = _slot(len(quantities))
        fits = len(data) == self._slot.size * SLOTS
        self._data = bytearray(data if fits else bytes(self._slot.size * SLOTS))
        if not fits:
            self._take_over(data)

    def _take_over(self, data: bytes) -> None:
        """Read a ring that was written while the last of the quantities were not known yet."""
        for count in range(len(self.quantities) - 1, 0, -1):
            old = _slot(count)
            if len(data) != old.size * SLOTS:
                continue
            new = len(self.quantities) - count
            for index in range(SLOTS):
                when, samples, *rest = old.unpack_from(data, index * old.size)
                sums, known = rest[:count] + [0.0] * new, rest[count:] + [0] * new
                self._slot.pack_into(self._data, index * self._slot.size, when, samples, *sums, *known)

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def add(self, frame: Frame, moment: int, sample: Mapping[str, float]) -> None:
        """Put a sample of Unix time ``moment`` into its slot; a quantity that is missing stays unknown."""
        start = moment - moment % frame.step
        offset = start // frame.step % SLOTS * self._slot.size
        count = len(self.quantities)
        when, samples, *rest = self._slot.unpack_from(self._data, offset)
        sums, known = (rest[:count], rest[count:]) if when == start else ([0.0] * count, [0] * count)
        for index, name in enumerate(self.quantities):
            if name in sample and known[index] < 65535:
                sums[index] += float(sample[name])
                known[index] += 1
        samples = samples + 1 if when == start else 1
        self._slot.pack_into(self._data, offset, start, min(samples, 2**32 - 1), *sums, *known)

    def rows(self, frame: Frame, now: int) -> list[dict[str, float | int]]:
        """The averages of the slots up to ``now``, oldest first: ``time`` and what is known."""
        last = now - now % frame.step
        first = last - (SLOTS - 1) * frame.step
        found: list[dict[str, float | int]] = []
        for start in range(first, last + 1, frame.step):
            offset = start // frame.step % SLOTS * self._slot.size
            when, _, *rest = self._slot.unpack_from(self._data, offset)
            row: dict[str, float | int] = {"time": start}
            if when == start:
                count = len(self.quantities)
                for name, total, known in zip(self.quantities, rest[:count], rest[count:], strict=True):
                    if known:
                        row[name] = total / known
            found.append(row)
        return found


def frame_of(name: str) -> Frame:
    """The frame called ``name``. Raises ``KeyError``."""
    return {frame.name: frame for frame in FRAMES}[name]


def record(node_id: int, samples: Iterable[tuple[int | None, Mapping[str, float]]], moment: int) -> None:
    """Add one moment's samples to every frame of their series: ``(VM's row or None, sample)``.

    Three queries whatever the number of series, in the caller's transaction.
    """
    given = list(samples)
    vms = [vm_id for vm_id, _ in given if vm_id is not None]
    wanted = models.Q(vm_id__in=vms) | models.Q(vm=None, node_id=node_id)
    held = {(row.vm_id, row.frame): row for row in Metric.objects.filter(wanted)}
    made, changed = [], []
    for vm_id, sample in given:
        names = QUANTITIES["node" if vm_id is None else "vm"]
        for frame in FRAMES:
            row = held.get((vm_id, frame.name))
            ring = Ring(names, bytes(row.data) if row else b"")
            ring.add(frame, moment, sample)
            if row is None:
                made.append(Metric(node_id=node_id, vm_id=vm_id, frame=frame.name, data=bytes(ring)))
            else:
                row.data = bytes(ring)
                changed.append(row)
    Metric.objects.bulk_create(made, ignore_conflicts=True)
    Metric.objects.bulk_update(changed, ["data"], batch_size=200)


def series(node_id: int, vm_id: int | None, frame: Frame, now: int) -> list[dict[str, float | int]]:
    """What a graph of that series shows. Empty slots have only their ``time``."""
    rows = Metric.objects.filter(frame=frame.name)
    row = (rows.filter(vm_id=vm_id) if vm_id is not None else rows.filter(vm=None, node_id=node_id)).first()
    ring = Ring(QUANTITIES["node" if vm_id is None else "vm"], bytes(row.data) if row else b"")
    return ring.rows(frame, now)
