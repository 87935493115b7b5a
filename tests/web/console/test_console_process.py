"""The console role as a process: where it listens, what it writes down, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from consolekit import wait_for
from django.conf import settings

from console.models import ConsoleTicket
from vms.models import AuditEntry

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def role(home: Path) -> Iterator[Any]:
    """``python -m console`` on this module's home; its log in a file."""
    log = home / "console.log"
    (home / "secret.key").write_text(settings.SECRET_KEY)  # it signs the sessions
    environ = {**os.environ, "PVELITE_HOME": str(home), "PVELITE_LOG": "DEBUG"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "console"], cwd=ROOT, env=environ, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )  # fmt: skip
    address = home / "run" / "console.sock"
    wait_for("the socket", lambda: address.exists() or process.poll() is not None, 20)
    yield SimpleNamespace(process=process, address=address, log=log)
    if process.poll() is None:
        process.kill()
    process.wait(10)


def listens(process: psutil.Process) -> list[Any]:
    return [link for link in process.net_connections("inet") if link.status == psutil.CONN_LISTEN]


def test_from_the_opening_to_the_stop(role: Any, home: Path, desk_without_server: Any) -> None:
    desk = desk_without_server
    assert stat.S_IMODE(role.address.stat().st_mode) == 0o600
    assert listens(psutil.Process(role.process.pid)) == [], "no TCP listener, ever"
    person, vm = desk.person(superuser=True), desk.vm()
    tokens = []
    kept = desk.mint

    def mint(*given: Any, **more: Any) -> str:
        tokens.append(kept(*given, **more))
        return str(tokens[-1])

    desk.mint = mint
    good = desk.open(person, vm, address=role.address)
    greeting = f"VM{vm.vmid};".encode()
    assert good.read(len(greeting)) == greeting
    stopped = desk.vm(screen=False)
    assert desk.open(person, stopped, address=role.address).until_closed()[0] == 1011
    refused = desk.open(desk.person(superuser=True), vm, address=role.address)
    assert refused.status == 101
    refused.close()

    role.process.send_signal(signal.SIGTERM)
    assert good.until_closed() == (1001, "the console proxy restarts")
    assert role.process.wait(10) == 0
    assert not role.address.exists()

    written = role.log.read_text()
    assert f"console open: {vm.vmid} vnc by {person.user.username}" in written
    secrets = [*tokens, person.key, "pvelite.ticket", "sessionid"]
    assert len(tokens) == 3
    kept_rows = str([*ConsoleTicket.objects.values_list(), *AuditEntry.objects.values_list()])
    for secret in secrets:
        assert secret not in written, "no ticket and no cookie in the log"
        assert secret not in kept_rows, "nor in the database"
    assert AuditEntry.objects.filter(action="console-close", target__contains="restarts").exists()


def test_a_socket_left_behind_is_replaced(home: Path) -> None:
    address = home / "run" / "console.sock"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(address))
    environ = {**os.environ, "PVELITE_HOME": str(home), "PVELITE_LOG": "INFO"}
    argv = [sys.executable, "-m", "console"]
    first = subprocess.Popen(argv, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert first.stderr is not None
    assert any(b"consoles are served" in line for line in first.stderr)
    second = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, timeout=30)
    assert second.returncode == 1
    assert b"already listening" in second.stderr
    first.terminate()
    assert first.wait(10) == 0
    first.stderr.close()
