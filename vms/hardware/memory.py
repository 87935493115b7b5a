"""Memory: its size, the balloon, NUMA nodes, huge pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vms.schema.option import opt
from vms.schema.propstring import PropertyString
from vms.schema.types import cpu_set_semicolon


@dataclass(frozen=True, kw_only=True)
class Memory(PropertyString):
    """How much memory the guest has."""

    current: int | None = opt(
        "Memory",
        short=True,
        default=512,
        minimum=16,
        maximum=4194304,
        unit="MiB",
        help="How much memory the guest has. With a balloon this is the most it can get.",
        otherwise="Too little makes it swap or not boot; more than the node has free slows every guest.",
        why="2048 MiB boots every current Linux installer; Windows 11 asks for 4096.",
    )


@dataclass(frozen=True, kw_only=True)
class Numa(PropertyString):
    """One NUMA node written by hand."""

    cpus: str = opt(
        "CPUs",
        required=True,
        check=cpu_set_semicolon,
        max_length=256,
        help="The guest CPUs that belong to this node, like 0-3;8.",
        otherwise="A CPU in no node keeps the machine from starting.",
        why="No default: a hand-made topology has to be complete.",
    )
    memory: int | None = opt(
        "Memory",
        minimum=0,
        maximum=4194304,
        unit="MiB",
        help="How much memory this node has.",
        otherwise="The nodes' sum must be the machine's memory, or it does not start.",
        why="No default: a hand-made topology has to be complete.",
    )
    hostnodes: str | None = opt(
        "Host nodes",
        check=cpu_set_semicolon,
        max_length=256,
        help="The node's own NUMA nodes this memory is taken from.",
        otherwise="Without it the kernel takes memory wherever it is free.",
        why="Empty by default.",
    )
    policy: Literal["preferred", "bind", "interleave"] | None = opt(
        "Policy",
        help="How strictly the host nodes are kept to.",
        otherwise="'bind' fails when the node is full, 'preferred' looks elsewhere.",
        why="Empty by default; it only means something with host nodes.",
    )


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """The plain memory options."""

    memory: str | None = opt(
        "Memory (MiB)",
        default="512",
        unit="MiB",
        help="How much memory the guest has, in MiB. With a balloon this is the most it can get.",
        otherwise="Too little makes it swap or not boot; more than the node has free slows every guest.",
        why="2048 MiB boots every current Linux installer; Windows 11 asks for 4096.",
    )
    balloon: int | None = opt(
        "Minimum memory (MiB)",
        minimum=0,
        maximum=4194304,
        unit="MiB",
        advanced=True,
        help="The node may take memory back from an idle guest down to this amount; 0 removes the device.",
        otherwise="Too low and a guest that suddenly needs its memory starts to swap.",
        why="Equal to the memory by default: the device is there, but nothing is taken away.",
    )
    shares: int | None = opt(
        "Shares",
        default=1000,
        minimum=0,
        maximum=50000,
        placeholder="Default (1000)",
        advanced=True,
        help="The guest's weight when memory is handed out between ballooned guests.",
        otherwise="With 0 the guest keeps what it has; with more it gets a larger part.",
        why="1000 for everybody, so all guests are equal.",
    )
    allow_ksm: bool | None = opt(
        "Allow KSM",
        key="allow-ksm",
        default=True,
        advanced=True,
        help="Let the node keep equal memory pages of several guests only once.",
        otherwise="Off, no other guest can learn anything from shared pages, and more memory is used.",
        why="On by default, because it saves memory where guests are alike.",
    )
    hugepages: Literal["any", "2", "1024"] | None = opt(
        "Huge pages",
        hidden=True,
        help="Take the guest's memory from reserved pages of 2 or 1024 MiB.",
        otherwise="Without it the kernel uses ordinary pages and merges them by itself.",
        why="Off by default; the pages must be reserved on the node first.",
    )
    keephugepages: bool | None = opt(
        "Keep huge pages",
        default=False,
        hidden=True,
        help="Do not give the huge pages back when the guest stops.",
        otherwise="Off, they are freed and may be missing at the next start.",
        why="Off by default, so that a stopped guest holds no memory.",
    )
