"""What a running product gives away: nothing listens, nothing others can read, no secret in an argument."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from house import PASSWORD, House
from machines import make

ROLES = ("web", "worker", "console", "redis")


@pytest.fixture(scope="module")
def machine(house: House) -> Iterator[int]:
    """A running machine of this module."""
    vmid = make(house, start=True)
    yield vmid
    house.qm("stop", str(vmid))
    assert house.qm("destroy", str(vmid), "--now").returncode == 0


@pytest.fixture
def qemu(house: House, machine: int) -> psutil.Process:
    """Its process."""
    pid = house.guest_pid(machine)
    assert pid is not None
    return psutil.Process(pid)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def status_of(process: psutil.Process) -> dict[str, str]:
    """``/proc/PID/status``."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def test_only_the_web_server_listens_and_only_on_loopback(house: House, qemu: psutil.Process) -> None:
    found = {}
    for pid in house.processes():
        for link in psutil.Process(pid).net_connections("inet"):
            if link.status == psutil.CONN_LISTEN or link.type == 2:  # 2: a datagram socket
                found.setdefault(pid, []).append((link.laddr.ip, link.laddr.port))
    supervisor = house.process.pid if house.process else 0
    assert set(found) <= {house.role_pid("web"), supervisor}
    assert {place for places in found.values() for place in places} == {("127.0.0.1", house.port)}
    assert qemu.net_connections("inet") == []


def test_qemu_is_alone_and_without_rights(house: House, qemu: psutil.Process) -> None:
    """Its own session, nobody's child of ours, no privilege, seccomp's filter on."""
    assert os.getsid(qemu.pid) == qemu.pid
    assert os.getsid(qemu.pid) not in {os.getsid(house.role_pid(role)) for role in ROLES}
    said = status_of(qemu)
    assert said["Seccomp"] == "2"
    assert said["NoNewPrivs"] == "1"
    facts = house.manage(
        "shell", "-c", "from vms.models import Node; print(Node.objects.get().facts['qemu_user'])"
    )
    user = facts.split()[-1]
    if os.geteuid() == 0:
        assert user == "pvelite", "the test's home can be crossed, so nothing forces root"
        uid = pwd.getpwnam(user).pw_uid
        assert uid != 0
        assert said["Uid"].split() == [str(uid)] * 4
        assert int(said["CapEff"], 16) == int(said["CapPrm"], 16) == 0
        assert "0" not in said["Groups"].split()


def test_sockets_are_their_owners_alone_and_monitors_stand_apart(house: House, machine: int) -> None:
    folder = house.home / "run" / "vm" / str(machine)
    sockets = sorted(path for path in folder.rglob("*") if path.is_socket())
    assert {str(path.relative_to(folder)) for path in sockets} >= {
        "qmp/qmp.sock", "qmp/qmp-ops.sock", "console/vnc.sock"
    }  # fmt: skip
    for path in sockets:
        assert mode(path) & 0o077 == 0 or mode(path.parent) == 0o700, path
        assert mode(path.parent) == 0o700, path.parent
    assert not [path for path in (folder / "console").iterdir() if "qmp" in path.name]
    for path in house.home.rglob("*"):
        if not path.is_symlink():
            assert mode(path) & 0o002 == 0, f"{path} can be written by anybody"
    for path in (house.home / "run").glob("*.sock"):
        assert mode(path) & 0o077 == 0, path


def test_files_with_secrets_are_nobody_elses(house: House, machine: int) -> None:
    for pattern in ("pvelite.sqlite3*", "*secret*", "*key*"):
        for path in house.home.glob(pattern):
            assert mode(path) & 0o077 == 0, path
    images = list((house.home / "local" / "images" / str(machine)).iterdir())
    assert images
    for path in images:
        assert mode(path) & 0o007 == 0, path


def test_no_secret_stands_in_an_argument(house: House, qemu: psutil.Process) -> None:
    """Neither the first password nor the signing key, in no process of the whole machine."""
    secrets = [PASSWORD.encode()]
    for path in house.home.glob("*secret*"):
        if path.is_file():
            secrets.append(path.read_bytes().strip())
    assert len(secrets) > 1, "the signing key was found"
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        assert not [secret for secret in secrets if secret in words], words
    environ = Path(f"/proc/{qemu.pid}/environ").read_bytes()
    assert not [secret for secret in secrets if secret in environ]
    assert b"PVELITE" not in environ
    for log in (house.home / "log").glob("*"):
        assert not [secret for secret in secrets if secret in log.read_bytes()], log
    assert PASSWORD not in house.output.read_text()
