"""The socket of a guest's console, reached so that nobody can point us at another one.

QEMU runs unprivileged and owns the folders its sockets lie in; a broken-out guest could put a symlink there
to make our privileged process open something else. So every step is opened without following links, and
the socket is connected through the descriptor that was checked.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

CONNECT_LIMIT = 5.0
FILES = {"vnc": "vnc.sock", "serial": "serial{port}.sock", "spice": "spice.sock", "viewer": "spice.sock"}
"""Console kind → its socket's name in ``<run dir>/vm/<vmid>/console``."""


def connect(run_dir: Path, vmid: int, kind: str, port: int = 0) -> socket.socket:
    """A blocking socket connected to that console; ``port`` is the serial line's number.

    Raises ``OSError`` when there is none.
    """
    file = FILES[kind].format(port=port)
    folder = os.open(run_dir / "vm", os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC)
    try:
        for name in (str(vmid), "console"):
            inner = os.open(name, os.O_DIRECTORY | os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        found = os.open(file, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise FileNotFoundError(f"{file} of VM {vmid} is no socket")
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(CONNECT_LIMIT)
            link.connect(f"/proc/self/fd/{found}")
        except OSError:
            link.close()
            raise
        return link
    finally:
        os.close(found)
