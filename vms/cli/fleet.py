"""``qm startall`` and ``qm stopall``: all guests of this node, or some, in their order."""

from __future__ import annotations

import argparse

from django.conf import settings

from vms.cli.follow import follow
from vms.cli.verb import add_parameters, given
from vms.errors import NotFound
from vms.models import Node
from vms.operations.base import submit_on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The operation's parameters; the command's name is its type."""
    add_parameters(parser, parser.get_default("command"))


def run(options: argparse.Namespace) -> int:
    """0 when every guest had its turn (failures of single guests are warnings), 1 otherwise."""
    node = Node.objects.filter(name=settings.CONF.node).first()
    if node is None:
        raise NotFound(f"There is no node '{settings.CONF.node}' here; PVELITE_NODE names it.")
    return follow(submit_on(options.command, node=node, user=None, params=given(options, options.command)))
