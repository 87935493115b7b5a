"""Bridges out of sysfs, tap names, and user-mode forwardings."""

from __future__ import annotations

from pathlib import Path

import pytest

from vms.errors import NetworkError
from vms.network.bridge import bridges, read_bridge, require_bridge
from vms.network.tap import open_tap_sync, tap_name
from vms.network.usermode import Forward


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """A /sys/class/net with two bridges and a plain card."""

    def interface(name: str, flags: str, mtu: int, vlan: str | None, ports: list[str]) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "flags").write_text(f"{flags}\n")
        (folder / "mtu").write_text(f"{mtu}\n")
        if vlan is not None:
            (folder / "bridge").mkdir()
            (folder / "bridge" / "vlan_filtering").write_text(f"{vlan}\n")
            (folder / "brif").mkdir()
            for port in ports:
                (folder / "brif" / port).touch()

    interface("vmbr1", "0x1002", 9000, "1", [])
    interface("vmbr0", "0x1003", 1500, "0", ["tap101i0", "eth0"])
    interface("eth0", "0x1003", 1500, None, [])
    (tmp_path / "bonding_masters").write_text("")
    return tmp_path


def test_bridges_are_read(sys: Path) -> None:
    first, second = bridges(sys)
    assert first.to_json() == {
        "name": "vmbr0", "mtu": 1500, "active": True, "vlan_aware": False, "ports": ["eth0", "tap101i0"],
    }  # fmt: skip
    assert (second.name, second.mtu, second.active, second.vlan_aware) == ("vmbr1", 9000, False, True)


@pytest.mark.parametrize("name", ["eth0", "vmbr7", "", ".", "..", "../vmbr0", "vmbr0/bridge"])
def test_what_is_no_bridge(sys: Path, name: str) -> None:
    assert read_bridge(name, sys) is None
    with pytest.raises(NetworkError) as caught:
        require_bridge(name, sys)
    assert "vmbr0, vmbr1" in caught.value.hint


def test_a_bridge_that_is_down(sys: Path) -> None:
    with pytest.raises(NetworkError, match="is down"):
        require_bridge("vmbr1", sys)


def test_this_machines_bridges_can_be_read() -> None:
    assert all(bridge.mtu > 0 for bridge in bridges())


def test_tap_names_fit_the_kernel() -> None:
    assert tap_name(101, 0) == "tap101i0"
    assert len(tap_name(999_999_999, 31)) <= 15


def test_no_tap_without_its_bridge() -> None:
    with pytest.raises(NetworkError, match="bridge 'vmbr-none' does not exist"):
        open_tap_sync(101, 0, "vmbr-none")
    assert not Path("/sys/class/net/tap101i0").exists()


def test_forwardings() -> None:
    forward = Forward("tcp", 2222, 22)
    assert forward.rule == "tcp:127.0.0.1:2222-:22"
    assert forward.removal == "tcp:127.0.0.1:2222"
    with pytest.raises(NetworkError):
        Forward("tcp", 0, 22)
