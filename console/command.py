"""``qm terminal``: a guest's serial line in the terminal it was typed in.

It shares the line with browsers: it goes through the console proxy's socket like them, with a ticket and a
session of ``root@pam``, who has no password and so cannot sign in anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect
from websockets.typing import Origin, Subprotocol

from console import tickets
from console.proxy import LOCAL_ORIGIN, PROTOCOL, TICKET_PREFIX
from vms.cli.show import find
from vms.errors import StateError
from vms.hardware.serial import PORTS, terminals
from vms.models import VM

ROOT = "root@pam"
ESCAPE = re.compile(r"\^[A-Za-z@\[\\\]_]", re.ASCII)
SESSION_LIFE = 12 * 3600
"""Seconds: as long as an idle console may stay open."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The VM's number, the port and the key that ends it, by PVE's names."""
    parser.add_argument("vmid", type=int, metavar="VMID", help="the VM's number")
    parser.add_argument(
        "--iface",
        choices=[f"serial{number}" for number in range(PORTS)],
        help="the serial port (default: the first that is a terminal)",
    )
    parser.add_argument("--escape", default="^O", metavar="KEY", help="the key that ends it (default: ^O)")


def run(options: argparse.Namespace) -> int:
    """0 when the key was pressed, 1 when the line ended. Raises what refuses it."""
    if not ESCAPE.fullmatch(options.escape):
        raise StateError(f"--escape: '{options.escape}' is no control key", hint="Write it like ^O.")
    vm = find(options.vmid)
    if vm.node.name != settings.CONF.node:
        raise StateError(f"VM {vm.vmid} is on node {vm.node.name}. Type this there.")
    port = _port(vm, options.iface)
    with _session() as (user, key):
        token = tickets.mint(user, key, vm, kind="serial", view_only=False, port=port)
        with _dial(vm.vmid, token, key) as line:
            print(
                f"starting serial terminal on interface serial{port} (press {options.escape} to exit)",
                flush=True,
            )
            with _raw(sys.stdin.fileno()):
                return _carry(line, bytes([ord(options.escape[1].upper()) & 0x1F]))


def _port(vm: VM, asked: str | None) -> int:
    """Raises :class:`StateError` when the VM has no serial port at all."""
    found = terminals(vm.options)
    if asked is None and not found:
        add = f"qm set {vm.vmid} --serial0 socket"
        raise StateError(f"VM {vm.vmid} has no serial terminal. Add one: {add}")
    return found[0] if asked is None else int(asked.removeprefix("serial"))


@contextlib.contextmanager
def _session() -> Iterator[tuple[Any, str]]:
    """A session of root's for as long as the block lasts: (user, key)."""
    user, made = get_user_model().objects.get_or_create(
        username=ROOT, defaults={"is_superuser": True, "password": "!"}
    )
    if made:
        user.set_unusable_password()
        user.save()
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.set_expiry(SESSION_LIFE)
    session.create()
    try:
        yield user, session.session_key
    finally:
        session.flush()


def _dial(vmid: int, token: str, key: str) -> ClientConnection:
    """Raises :class:`StateError` when the console role does not answer, or refuses."""
    try:
        return unix_connect(
            str(settings.CONF.console_socket), f"ws://localhost/vms/{vmid}/vncwebsocket",
            origin=Origin(LOCAL_ORIGIN), compression=None, max_size=None,
            subprotocols=[Subprotocol(PROTOCOL), Subprotocol(f"{TICKET_PREFIX}{token}")],
            additional_headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={key}"},
        )  # fmt: skip
    except (OSError, InvalidStatus) as error:
        raise StateError(
            f"the console role does not answer: {error}", hint="Is pvelite running, and by this user?"
        ) from error


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """The terminal passes every key on as it is; a pipe is left alone."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _carry(line: ClientConnection, escape: bytes) -> int:
    """Carry bytes both ways until the escape key, the end of what is typed, or the end of the line."""
    ended, bell = os.pipe()
    threading.Thread(target=_print, args=(line, bell), daemon=True).start()
    typed = sys.stdin.fileno()
    try:
        while True:
            ready, _, _ = select.select([typed, ended], [], [])
            if ended in ready:
                reason = line.close_reason or "the line ended"
                print(f"\r\n{reason}\r", file=sys.stderr)
                return 1
            data, found, _ = os.read(typed, 4096).partition(escape)
            if data:
                line.send(data)
            if found or not data:
                return 0
    except ConnectionClosed:
        return 1


def _print(line: ClientConnection, bell: int) -> None:
    """Write what comes until the line ends; closing ``bell`` tells of it."""
    with contextlib.suppress(ConnectionClosed, OSError):
        for data in line:
            os.write(sys.stdout.fileno(), data if isinstance(data, bytes) else data.encode())
    os.close(bell)
