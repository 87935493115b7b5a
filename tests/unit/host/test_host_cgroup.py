"""CPU weight and limit in both layouts of control groups, on a tree that looks like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from vms.errors import VMError
from vms.host import cgroup
from vms.host.cgroup import Share

RUN = Path("/run/pvelite")


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cgroup.procs").write_text("")
    return tmp_path


def test_version_two(unified: Path) -> None:
    group, version = cgroup.group_of(RUN, 100, unified)
    assert version == 2
    group.parent.mkdir()
    (group.parent / "cgroup.subtree_control").write_text("")
    cgroup.apply(RUN, 100, 4711, Share(200, 1.5), unified)
    assert cgroup.read(RUN, 100, unified) == {
        "cpu.weight": "200", "cpu.max": "150000 100000", "cgroup.procs": "4711"
    }  # fmt: skip
    assert (unified / "cgroup.subtree_control").read_text() == "+cpu"


def test_version_one(layered: Path) -> None:
    cgroup.apply(RUN, 100, 4711, Share(2048, 0.5), layered)
    found = cgroup.read(RUN, 100, layered)
    assert found == {
        "cpu.shares": "2048", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000",
        "cgroup.procs": "4711",
    }  # fmt: skip
    cgroup.apply(RUN, 100, 4711, Share(), layered)
    assert cgroup.read(RUN, 100, layered)["cpu.cfs_quota_us"] == "-1"


def test_nothing_asked_nothing_made(layered: Path) -> None:
    cgroup.apply(RUN, 100, 4711, Share(), layered)
    assert cgroup.read(RUN, 100, layered) == {}
    cgroup.remove(RUN, 100, layered)


def test_numbers_stay_within_the_kernels_bounds() -> None:
    assert cgroup.settings(Share(262_144), 2)["cpu.weight"] == "10000"
    assert cgroup.settings(Share(1), 1)["cpu.shares"] == "2"
    assert cgroup.settings(Share(), 2) == {"cpu.weight": "100", "cpu.max": "max 100000"}


def test_a_node_without_groups_says_so(tmp_path: Path) -> None:
    with pytest.raises(VMError, match="no control groups"):
        cgroup.apply(RUN, 100, 4711, Share(200), tmp_path)
    cgroup.remove(RUN, 100, tmp_path)


def test_installations_do_not_share_a_group(layered: Path) -> None:
    assert cgroup.group_of(RUN, 100, layered) != cgroup.group_of(Path("/run/other"), 100, layered)
