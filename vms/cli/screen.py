"""``qm screenshot``: what a VM's screen shows, as a PNG file."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress

from vms.cli.follow import follow
from vms.cli.show import find
from vms.errors import StateError
from vms.operations.screen import take, taken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number and the file."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument("file", metavar="FILE", help="where to write it; - is the standard output")


def run(options: argparse.Namespace) -> int:
    """0 when the picture was written. Raises whatever refuses it."""
    task = take(find(options.vmid), None)
    with open(os.devnull, "w") as nowhere:
        code = follow(task, out=nowhere)
    png = taken(task, None)
    if code or png is None:
        raise StateError(task.message or "The picture did not arrive.")
    try:
        write(options.file, png)
    except OSError as error:
        raise StateError(f"{options.file} cannot be written: {error.strerror}") from error
    return 0


def write(name: str, png: bytes) -> None:
    """Write the file; one that could not be written whole is not left."""
    if name == "-":
        sys.stdout.buffer.write(png)
        sys.stdout.buffer.flush()
        return
    with open(name, "wb") as file:
        try:
            file.write(png)
            file.flush()
        except OSError:
            with suppress(OSError):
                os.unlink(name)
            raise
