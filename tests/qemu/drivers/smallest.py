"""The smallest QEMU that has the product's sockets."""

from __future__ import annotations

from vms.host.paths import VMPaths
from vms.qemu import capabilities


def minimal(paths: VMPaths, *extra: str) -> list[str]:
    """The arguments of a QEMU without a guest, with the product's sockets and pid file."""
    return [
        capabilities.find_binary(), "-name", f"vm{paths.vmid}", "-machine", "pc,accel=tcg", "-nodefaults",
        "-no-user-config", "-S", "-display", "none", "-m", "16",
        "-chardev", f"socket,id=qmp,path={paths.qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-pidfile", str(paths.pidfile), *extra,
    ]  # fmt: skip
