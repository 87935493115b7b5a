"""Taps that lead nowhere: what a card on a bridge is plugged into when only the start matters."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from vms.config.vmconfig import VMConfig

TUN = Path("/dev/net/tun")
TUNSETIFF = 0x400454CA
TAP, NO_HEADER, VNET_HEADER, MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100


class Wires:
    """An open tap per bridged card of a configuration; closed on leaving."""

    def __init__(self, config: VMConfig) -> None:
        self.taps: dict[str, int | tuple[int, ...]] = {}
        self.fds: list[int] = []
        for key, _index, net in config.slots("net"):
            if net.bridge and os.access(TUN, os.R_OK | os.W_OK):
                opened = self._open(net.queues or 1)
                self.taps[key] = opened[0] if len(opened) == 1 else opened

    def _open(self, queues: int) -> tuple[int, ...]:
        flags = TAP | NO_HEADER | VNET_HEADER | (MULTI_QUEUE if queues > 1 else 0)
        name, opened = b"pvqtap%d", []
        for _ in range(queues):
            fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self.fds.append(fd)
            opened.append(fd)
            answer = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name, flags))
            name = answer[:16].rstrip(b"\0")
        return tuple(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self.fds:
            os.close(fd)
