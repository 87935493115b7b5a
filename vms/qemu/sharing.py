"""Folders of the node inside a guest: one ``virtiofsd`` for each, up before QEMU and gone with it.

It runs as we do, closed up in its folder, because it serves every owner the guest's files may have; QEMU's
user may only talk to it.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vms.errors import LaunchError, QemuError
from vms.hardware.extras import VirtioFs
from vms.host.paths import VMPaths, remove_socket
from vms.qemu.process import Running, adopt, end_child, open_log, spawn, start_time, tail, terminate, watch

PLACES = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")
"""Where distributions keep it: on no search path, since nobody calls it by hand."""
_CACHE = {"never": "none"}
"""Our word for a cache mode → the program's."""


def program() -> str:
    """The path of ``virtiofsd`` on this node; "" when it is not installed."""
    return shutil.which("virtiofsd") or next((place for place in PLACES if os.access(place, os.X_OK)), "")


async def start(
    paths: VMPaths, index: int, share: VirtioFs, folder: Path, *, user: str | None = None, timeout: float = 10
) -> Running:
    """Serve ``folder`` as ``virtiofs<index>``; answers when QEMU may connect.

    What it prints goes to the VM's log of shared folders. Raises :class:`QemuError` with its words.
    """
    binary = await asyncio.to_thread(program)
    if not binary:
        raise QemuError("this node has no virtiofsd", hint="apt install virtiofsd, or qemu-system-common")
    if not await asyncio.to_thread(folder.is_dir):
        raise QemuError(
            f"the folder {folder} is not there", hint="Make it, or name another in mappings.conf."
        )
    socket, pidfile = paths.shared(index), paths.shared(index).with_suffix(".pid")
    for stale in (socket, pidfile):
        await asyncio.to_thread(remove_socket, stale)
    argv = [binary, f"--socket-path={socket}", *_group(user), *options(share, folder)]
    with open_log(paths.shared_log) as output:
        began = output.seek(0, os.SEEK_END)
        try:
            process = spawn(argv, output)
        except LaunchError as error:
            raise QemuError(f"the folder {folder} cannot be shared: {error.log_tail}") from error
    try:
        async with asyncio.timeout(timeout):
            while process.poll() is None and not socket.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        _still_there(process, folder, tail(paths.shared_log, began))
        running = Running(process.pid, start_time(process.pid) or 0)
        await asyncio.to_thread(_note, pidfile, process.pid)
    except TimeoutError:
        end_child(process)
        raise QemuError(f"the folder {folder} was not shared within {timeout:g} seconds") from None
    except BaseException:
        end_child(process)
        raise
    watch(running, lambda _code: None)  # so that it leaves no zombie when its guest ends
    return running


def options(share: VirtioFs, folder: Path) -> list[str]:
    """What the configuration says of a share, in the program's words."""
    words = ["sandbox=namespace", f"source={folder}"]
    words.append(f"cache={_CACHE.get(share.value('cache'), share.value('cache'))}")
    words += ["allow_direct_io"] if share.direct_io else []
    words += ["xattr"] if share.expose_xattr or share.expose_acl else []
    words += ["posix_acl"] if share.expose_acl else []
    return [piece for word in words for piece in ("-o", word)]


def _group(user: str | None) -> list[str]:
    """Who besides us may talk to it."""
    return [f"--socket-group={grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name}"] if user else []


def _still_there(process: subprocess.Popen[bytes], folder: Path, said: str) -> None:
    if process.poll() is not None:
        raise QemuError(
            f"the folder {folder} cannot be shared: {said.strip() or 'virtiofsd printed nothing'}"
        )


def _note(pidfile: Path, pid: int) -> None:
    descriptor = os.open(pidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(str(pid))


async def stop(paths: VMPaths) -> None:
    """End what still serves the VM's folders and clear up after it."""
    for pidfile in await asyncio.to_thread(lambda: list(_pidfiles(paths))):
        running = await asyncio.to_thread(adopt, pidfile, paths.vmid)
        if running is not None:
            await terminate(running, grace=2)
        for left in (pidfile, pidfile.with_suffix(".sock")):
            await asyncio.to_thread(remove_socket, left)


def _pidfiles(paths: VMPaths) -> Iterator[Path]:
    return paths.folder.glob("virtiofs*.pid")
