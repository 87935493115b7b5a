"""Who starts when, and who stops when."""

from __future__ import annotations

import pytest

from vms.models import VM
from vms.operations.fleet import vm_list
from vms.operations.order import starting, stopping, turn_of, workers


def vm(vmid: int, startup: str = "", **options: str) -> VM:
    return VM(vmid=vmid, options={**({"startup": startup} if startup else {}), **options})


def ids(groups: object) -> list[list[int]]:
    return [[turn.vm.vmid for turn in group] for group in groups]  # type: ignore[attr-defined]


GUESTS = [
    vm(101), vm(100, "order=2,up=10"), vm(107, "order=0"), vm(102, "order=2"), vm(105, "3"), vm(104, "up=9"),
]  # fmt: skip


def test_low_numbers_first_none_last_ties_by_id() -> None:
    assert ids(starting(GUESTS)) == [[107], [100, 102], [105], [101, 104]]


def test_stopping_is_the_same_list_backwards() -> None:
    assert ids(stopping(GUESTS)) == [[104, 101], [105], [102, 100], [107]]
    assert stopping([]) == starting([]) == []


def test_zero_is_a_number_and_comes_first() -> None:
    assert ids(starting([vm(100), vm(101, "order=0"), vm(102, "order=1")])) == [[101], [102], [100]]


def test_delays_and_time_outs() -> None:
    usual = turn_of(vm(100))
    assert (usual.order, usual.delay, usual.timeout(), usual.timeout(20)) == (None, 3, 180, 20)
    said = turn_of(vm(100, "order=1,up=0,down=0"))
    assert (said.order, said.delay, said.timeout(), said.timeout(20)) == (1, 0, 0, 0)
    assert turn_of(vm(100, "up=600,down=60")).delay == 600


def test_a_text_that_cannot_be_read_stops_no_node() -> None:
    assert turn_of(vm(100, "order=first")).order is None


def test_start_at_boot() -> None:
    assert turn_of(vm(100, onboot="1")).onboot
    assert not turn_of(vm(100, onboot="0")).onboot
    assert not turn_of(vm(100)).onboot


@pytest.mark.parametrize(("threads", "places"), [(1, 1), (2, 1), (4, 3), (9, 8), (64, 8)])
def test_how_many_side_by_side(threads: int, places: int) -> None:
    assert workers(threads) == places


def test_a_list_of_vms() -> None:
    assert vm_list("100, 101;102") == "100,101,102"
    for wrong in ("100,web", "1000000000", "١٠٠", "", " , "):
        with pytest.raises(ValueError, match=r"is no VM ID|names no VM"):
            vm_list(wrong)
