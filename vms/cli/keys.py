"""``qm sendkey`` and ``qm type``: press keys of a VM's keyboard, or type the standard input on it."""

from __future__ import annotations

import argparse
import sys

from vms.cli.show import find
from vms.cli.verb import end
from vms.errors import ConfigError
from vms.operations.base import submit
from vms.operations.keys import KEY, LONGEST, USUAL, type_text
from vms.qemu.layouts import LAYOUTS, offered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number; the keys, or how the text is typed."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument("--json", action="store_true", help="print the task's id and end as JSON")
    if parser.get_default("command") == "sendkey":
        parser.add_argument("key", metavar="KEYS", help="keys pressed together: ctrl-alt-delete")
        return
    parser.add_argument(
        "--layout", choices=tuple(LAYOUTS), metavar="LAYOUT",
        help=f"the keyboard layout set in the guest (default: the VM's keyboard, else en-us): "
        f"{', '.join(LAYOUTS)}",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=int, default=USUAL, metavar="NUMBER", help=f"characters a second (default {USUAL})"
    )


def run(options: argparse.Namespace) -> int:
    """0 when all of it was sent. Raises whatever refuses it."""
    vm = find(options.vmid)
    if options.command == "sendkey":
        return end(submit(KEY, vm=vm, user=None, params={"key": options.key}), options)
    layout = options.layout or offered(str(vm.options.get("keyboard", "")))
    data = sys.stdin.buffer.read(4 * LONGEST + 1)
    if len(data) > 4 * LONGEST:
        raise ConfigError("text", f"is longer than {LONGEST} characters, the most that is typed")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ConfigError("text", "is not UTF-8") from None
    return end(type_text(text, vm=vm, user=None, layout=layout, rate=options.rate), options)
