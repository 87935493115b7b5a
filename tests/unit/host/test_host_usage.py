"""The node's counters: what lies between two looks."""

from __future__ import annotations

import dataclasses

from vms.host.usage import NodeCounters, disk_counters, node_counters, node_sample

AT = NodeCounters(moment=100.0, busy=10.0, iowait=1.0, total=40.0, received=1000, sent=500, disks=(4096, 0))


def test_rates_lie_between_two_looks() -> None:
    later = dataclasses.replace(
        AT, moment=110.0, busy=15.0, iowait=2.0, total=50.0, received=3000, sent=500, disks=(4096, 81920)
    )
    sample = node_sample(AT, later)
    assert (sample["cpu"], sample["iowait"]) == (0.5, 0.1)
    assert (sample["netin"], sample["netout"]) == (200, 0)
    assert (sample["diskread"], sample["diskwrite"]) == (0, 8192)


def test_a_node_whose_disks_are_not_counted_has_no_figure_for_them() -> None:
    sample = node_sample(dataclasses.replace(AT, disks=None), dataclasses.replace(AT, moment=110.0))
    assert "diskread" not in sample
    assert "netin" in sample


def test_this_node_is_counted() -> None:
    now = node_counters(1.0)
    assert now.total > now.busy > 0
    disks = disk_counters()
    assert disks is None or min(disks) >= 0
