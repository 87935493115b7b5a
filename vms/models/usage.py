"""What the guests of a node use of it already: rules that compare a machine with the others read this."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vms.hardware.context import NodeFacts
from vms.models.nic import Nic
from vms.models.node import Node
from vms.models.storage import StorageStatus
from vms.models.vm import VM


def facts_in_use(node: Node, besides: VM | None = None) -> NodeFacts:
    """The facts of a node with what is taken of it: CPUs, addresses, numbers, room. Four short queries.

    ``besides`` is the machine that is asked about: what it has itself is free for it.
    """
    facts = NodeFacts.from_json(node.facts)
    others = VM.everything.exclude(pk=besides.pk) if besides is not None else VM.everything.all()
    running = others.filter(node=node, status=VM.Status.RUNNING).values_list("cores", "options")
    # A draft that failed half way keeps its rows: it must not collide with itself.
    defined = others.filter(stage=VM.Stage.DEFINED)
    cards = Nic.objects.filter(vm__in=defined, mac__isnull=False).values_list("mac", "vm__vmid")
    return replace(
        facts,
        storages=_with_room(facts, node),
        vcpus_used=sum((cores or 1) * _sockets(options) for cores, options in running),
        used_macs={str(mac): f"VM {vmid}" for mac, vmid in cards},
        used_ids=tuple(others.values_list("vmid", flat=True)),
    )


def _with_room(facts: NodeFacts, node: Node) -> dict[str, dict[str, Any]]:
    measured = StorageStatus.objects.filter(node=node, error="", total__gt=0)
    free = dict(measured.values_list("storage__name", "available"))
    return {
        name: {**entry, "free": free[name]} if name in free else dict(entry)
        for name, entry in facts.storages.items()
    }


def _sockets(options: dict[str, Any]) -> int:
    text = str(options.get("sockets", "1"))
    return int(text) if text.isascii() and text.isdigit() else 1
