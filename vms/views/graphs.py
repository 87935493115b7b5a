"""What was measured, for people: the usage of the last moment, and series for graphs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from vms.models import VM, Node
from vms.models.metric import FRAMES, QUANTITIES, Frame, series
from vms.views.doors import node_or_404, signed_in, vm_or_404

FRESH = 45.0
"""Seconds after which a look is no longer the present."""
GUIDANCE = 3.0
"""Virtual CPUs per thread beyond which guests wait for each other (the seed's and R12's figure)."""


@dataclass(frozen=True)
class Line:
    """A line in a graph: the quantity, what it is called, its colour's token."""

    quantity: str
    label: str
    tone: str


@dataclass(frozen=True)
class Graph:
    """A graph card. ``unit``: ``share`` (0 to 1), ``bytes``, ``rate`` (bytes a second) or ``number``."""

    name: str
    title: str
    unit: str
    lines: tuple[Line, ...]

    @property
    def spec(self) -> str:
        """As the page's script reads it: ``quantity|label|tone`` parted by semicolons."""
        return ";".join(f"{line.quantity}|{line.label}|{line.tone}" for line in self.lines)


VM_GRAPHS = (
    Graph("cpu", "CPU", "share", (Line("cpu", "CPU", "accent"),)),
    Graph(
        "memory",
        "Memory",
        "bytes",
        (
            Line("maxmem", "Given", "muted"),
            Line("mem", "Guest", "accent"),
            Line("memhost", "Node", "paused"),
        ),
    ),
    Graph("network", "Network", "rate", (Line("netin", "In", "accent"), Line("netout", "Out", "running"))),
    Graph(
        "disk", "Disk", "rate", (Line("diskread", "Read", "accent"), Line("diskwrite", "Written", "running"))
    ),
)
NODE_GRAPHS = (
    Graph(
        "cpu", "CPU", "share", (Line("cpu", "CPU", "accent"), Line("iowait", "Waiting for disks", "paused"))
    ),
    Graph("load", "Load", "number", (Line("loadavg", "Load, one minute", "accent"),)),
    Graph(
        "memory",
        "Memory",
        "bytes",
        (Line("memtotal", "Total", "muted"), Line("memused", "Used", "accent")),
    ),
    Graph("network", "Network", "rate", (Line("netin", "In", "accent"), Line("netout", "Out", "running"))),
    Graph(
        "disk", "Disks", "rate", (Line("diskread", "Read", "accent"), Line("diskwrite", "Written", "running"))
    ),
)


def frame_of(request: HttpRequest) -> Frame:
    """The frame the address asks for; the hour when it is none."""
    wanted = request.GET.get("frame", "")
    return next((frame for frame in FRAMES if frame.name == wanted), FRAMES[0])


def fresh(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The last look, unless it is too old to be the present."""
    return dict(usage) if time.time() - float(usage.get("at", 0)) < FRESH else {}


def graph_context(request: HttpRequest, graphs: tuple[Graph, ...], address: str) -> dict[str, Any]:
    """What the graph cards need: which graphs, the frame, where their series come from."""
    return {"graphs": graphs, "frames": FRAMES, "frame": frame_of(request), "series": address}


def columns(node: Node, vm: VM | None, frame: Frame) -> JsonResponse:
    """A series as columns; ``null`` where nothing was measured. ``step`` in seconds."""
    rows = series(node.pk, vm.pk if vm is not None else None, frame, int(time.time()))
    names = QUANTITIES["node" if vm is None else "vm"]
    found: dict[str, Any] = {"step": frame.step, "time": [row["time"] for row in rows]}
    found |= {name: [row.get(name) for row in rows] for name in names}
    return JsonResponse(found)


@signed_in
@require_GET
def vm_series(request: HttpRequest, vmid: int) -> HttpResponse:
    """``?frame=day``: the VM's series as JSON."""
    vm = vm_or_404(request, vmid)
    return columns(vm.node, vm, frame_of(request))


@signed_in
@require_GET
def node_series(request: HttpRequest, name: str) -> HttpResponse:
    """``?frame=day``: the node's series as JSON."""
    return columns(node_or_404(request, name), None, frame_of(request))


@signed_in
@require_GET
def vm_usage(request: HttpRequest, vmid: int) -> HttpResponse:
    """The usage card of a VM as a fragment."""
    vm = vm_or_404(request, vmid)
    return render(request, "vms/_vm_usage.html", {"vm": vm, "usage": fresh(vm.usage)})


def crowding(node: Node, threads: int) -> dict[str, Any]:
    """How many virtual CPUs run on how many threads, and what that means."""
    vcpus = int(fresh(node.usage).get("vcpus", 0))
    ratio = vcpus / threads if threads else 0.0
    if ratio <= 1:
        word, tone = "every virtual CPU has a thread of its own", "running"
    elif ratio <= GUIDANCE:
        word, tone = "shared, as is usual", "running"
    else:
        word, tone = "crowded: beyond 3 to 1 guests wait for each other", "paused"
    return {"vcpus": vcpus, "threads": threads, "ratio": f"{ratio:.1f}", "word": word, "tone": tone}
