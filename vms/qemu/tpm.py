"""TPM 2.0 by ``swtpm``: one emulator process per running guest, its state in the guest's own volume.

The state is a raw volume like any other disk (``vm-101-disk-2.raw``, 4 MiB): swtpm keeps it in that
single file (``backend-uri=file://``, swtpm 0.7 and newer), so it is freed, copied and moved with the
VM's disks. swtpm starts before QEMU, in a session of its own, and leaves by itself when QEMU does.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import subprocess
import tempfile
from pathlib import Path

from vms.errors import LaunchError, QemuError
from vms.host.command import run
from vms.host.paths import VMPaths, remove_socket
from vms.qemu.process import Running, adopt, end_child, open_log, spawn, start_time, tail, terminate, watch

STATE_SIZE = 4 << 20
"""Bytes of the state volume, as Proxmox makes it."""


async def set_up(state: Path, authority: Path, *, version: str = "v2.0", user: str | None = None) -> None:
    """Make ``state``, an empty volume of ours, a new TPM with its certificates. Takes 1 to 5 s.

    ``version`` as the configuration says it: ``v2.0`` or ``v1.2``. ``authority`` is the folder of
    this node's certificate authority, made at first use. It stays ours: a guest's emulator, which
    runs as ``user``, gets the state and must not be able to sign for others.
    Raises :class:`CommandError` with swtpm_setup's words.
    """
    config = await asyncio.to_thread(_authority, authority)
    before = await asyncio.to_thread(state.stat)
    if stat.S_ISBLK(before.st_mode):
        await _set_up_device(state, authority, version)
        return
    argv = ["swtpm_setup", *_family(version), "--tpmstate", f"file://{state}", "--config", str(config)]
    argv += ["--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--overwrite"]
    if os.geteuid() == 0:
        argv += ["--runas", "root"]
    await run(argv, timeout=120, env={"HOME": str(authority), "XDG_CONFIG_HOME": str(authority)})
    await asyncio.to_thread(_hand_over, state, before.st_size, user)


async def _set_up_device(state: Path, authority: Path, version: str) -> None:
    """swtpm_setup replaces what it writes, and a device cannot be replaced: it works beside it."""
    with tempfile.TemporaryDirectory(prefix="pvelite-tpm-") as folder:
        beside = Path(folder, "state")
        await asyncio.to_thread(beside.write_bytes, bytes(STATE_SIZE))
        await set_up(beside, authority, version=version)
        content = await asyncio.to_thread(beside.read_bytes)
        await asyncio.to_thread(_write_device, state, content)


def _write_device(path: Path, content: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())


def _hand_over(state: Path, size: int, user: str | None) -> None:
    """swtpm_setup leaves a short file of its own: give it its size, owner and mode (0600) again."""
    descriptor = os.open(state, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        if user is not None:
            entry = pwd.getpwnam(user)
            os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _authority(folder: Path) -> Path:
    """Write the configuration of a certificate authority below ``folder``; answers its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = folder / "swtpm-localca.options"
    options.write_text(
        "--platform-manufacturer pvelite\n--platform-version 1.0\n--platform-model pvelite\n", "ascii"
    )
    authority = folder / "swtpm-localca.conf"
    names = {"signingkey": "signkey.pem", "issuercert": "issuercert.pem", "certserial": "certserial"}
    lines = [f"statedir = {folder}", *(f"{key} = {folder / name}" for key, name in names.items())]
    authority.write_text("\n".join(lines) + "\n")
    config = folder / "swtpm_setup.conf"
    config.write_text(
        "create_certs_tool = swtpm_localca\n"
        f"create_certs_tool_config = {authority}\n"
        f"create_certs_tool_options = {options}\n"
        "active_pcr_banks = sha256\n"
    )
    return config


async def start(
    paths: VMPaths,
    state: Path,
    *,
    version: str = "v2.0",
    user: str | None = None,
    timeout: float = 10,
) -> Running:
    """Start the emulator of one guest on its state volume; answers when QEMU may connect to ``paths.tpm``.

    What it prints goes to ``paths.tpm_log``. Raises :class:`QemuError` with swtpm's words; nothing is
    left then. Call :func:`stop` when QEMU does not come up: swtpm leaves only after a QEMU has been.
    """
    socket, pidfile = paths.tpm, paths.tpm_pidfile
    if "," in f"{state}{socket}":
        raise QemuError(f"swtpm cannot be given a path with a comma: {state}, {socket}")
    if not await asyncio.to_thread(state.exists):  # swtpm itself would find out only when QEMU asks
        raise QemuError(f"the TPM did not start: its state {state} does not exist")
    for stale in (socket, pidfile):
        await asyncio.to_thread(remove_socket, stale)
    argv = ["swtpm", "socket", *_family(version), "--tpmstate", f"backend-uri=file://{state}"]
    argv += ["--ctrl", f"type=unixio,path={socket},mode=0600", "--pid", f"file={pidfile}", "--terminate"]
    with open_log(paths.tpm_log) as output:
        began = output.seek(0, os.SEEK_END)
        try:
            process = spawn(argv, output, user=user)
        except LaunchError as error:
            raise QemuError(f"the TPM did not start: {error.log_tail}", hint="apt install swtpm") from error
    try:
        async with asyncio.timeout(timeout):
            await _ready(process, socket, pidfile)
        if process.poll() is not None:
            raise QemuError(
                f"the TPM did not start: {tail(paths.tpm_log, began).strip() or 'swtpm printed nothing'}"
            )
    except TimeoutError:
        end_child(process)
        raise QemuError(f"the TPM was not ready within {timeout:g} seconds") from None
    except BaseException:
        end_child(process)
        raise
    running = Running(process.pid, start_time(process.pid) or 0)
    watch(running, lambda _code: None)  # so that it leaves no zombie when its guest ends
    return running


async def _ready(process: subprocess.Popen[bytes], socket: Path, pidfile: Path) -> None:
    """Wait until swtpm listens and its pid file, the last thing it writes, holds its pid; or has ended.

    Never by trying a connection: ``--terminate`` ends it when its first client leaves.
    """
    while process.poll() is None and not (socket.exists() and _holds(pidfile, process.pid)):  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.002)


def _holds(pidfile: Path, pid: int) -> bool:
    """Whether the pid is in the file already: for an instant the file is there and empty."""
    try:
        return pidfile.read_text().strip() == str(pid)
    except (OSError, ValueError):
        return False


async def stop(paths: VMPaths) -> None:
    """End the VM's emulator, if it still runs, and clear up after it."""
    running = await asyncio.to_thread(adopt, paths.tpm_pidfile, paths.vmid)
    if running is not None:
        await terminate(running, grace=2)
    for left in (paths.tpm, paths.tpm_pidfile):
        await asyncio.to_thread(remove_socket, left)


def _family(version: str) -> list[str]:
    """swtpm's word for a TPM version; 1.2 is its default."""
    return ["--tpm2"] if version == "v2.0" else []
