"""``manage.py check``: is this machine fit to run guests? Also says what is merely missing."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from pvelite.conf import conf
from pvelite.server import redis_binary
from vms.errors import CommandError
from vms.host.command import run_sync

QEMU_FLOOR = (6, 0)
"""Oldest QEMU whose command line and QMP we speak: JSON devices came with 6.0."""
QEMU = "qemu-system-x86_64"
FIRMWARE = ("/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/edk2/x64")


def check_qemu(**_: Any) -> Iterable[CheckMessage]:
    """QEMU is there and new enough."""
    binary = shutil.which(QEMU)
    if binary is None:
        yield Error(
            f"{QEMU} is not on PATH", hint="./up installs it (as root, on Debian).", id="pvelite.E001"
        )
        return
    try:
        words = run_sync([binary, "-version"]).text
    except CommandError as error:
        yield Error(f"{QEMU} does not run: {error}", id="pvelite.E002")
        return
    found = re.search(r"version (\d+)\.(\d+)", words)
    if found is None or (int(found[1]), int(found[2])) < QEMU_FLOOR:
        yield Error(f"QEMU is older than 6.0: {words.splitlines()[:1]}", id="pvelite.E003")


def check_tools(**_: Any) -> Iterable[CheckMessage]:
    """Programs and firmware that single features need."""
    if shutil.which("qemu-img") is None:
        yield Error("qemu-img is not on PATH: no disk can be made", id="pvelite.E004")
    if shutil.which("swtpm") is None:
        yield Warning("swtpm is not here: no guest can have a TPM (Windows 11 wants one)", id="pvelite.W001")
    if not any(Path(folder).is_dir() for folder in FIRMWARE):
        yield Warning("OVMF is not here: guests boot with SeaBIOS only, no UEFI", id="pvelite.W002")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Warning("/dev/kvm cannot be opened: guests run in software, slowly", id="pvelite.W003")


def check_run_dir(**_: Any) -> Iterable[CheckMessage]:
    """The run directory, once made, is ours alone to change."""
    try:
        found = conf().run_dir.lstat()
    except FileNotFoundError:
        return  # the first start makes it
    if found.st_uid != os.geteuid() or found.st_mode & 0o022 or not conf().run_dir.is_dir():
        yield Error(f"{conf().run_dir} is not ours alone to write", id="pvelite.E005")


def check_layer(**_: Any) -> Iterable[CheckMessage]:
    """Bells and hints have a way to travel."""
    if not conf().redis_url and redis_binary() is None:
        yield Warning("No redis-server: pages and tasks follow by polling alone", id="pvelite.W004")


def check_spice(**_: Any) -> Iterable[CheckMessage]:
    """The SPICE port, where an operator allowed one, is an address of this machine."""
    if conf().spice is None:
        return
    host, port = conf().spice or ("", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            link.bind((host, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:  # by ourselves, most likely
            yield Error(f"PVELITE_SPICE: {host} port {port}: {error.strerror}", id="pvelite.E006")


def register_all() -> None:
    """Called once by the application configuration."""
    for check in (check_qemu, check_tools, check_run_dir, check_layer, check_spice):
        register(check, Tags.compatibility)
