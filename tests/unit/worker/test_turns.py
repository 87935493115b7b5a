"""Who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from vms.worker.turns import Mode, Turns

SOURCE, TARGET, OTHER = 1, 2, 3


class Scene:
    """Tasks by number; each stays in its turn until it is told to leave."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.order: list[int] = []
        self.told: dict[int, int] = {}
        self._leave: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def come(self, pk: int, wanted: Iterable[tuple[int, Mode]]) -> None:
        self._leave[pk] = asyncio.Event()
        self._tasks[pk] = asyncio.create_task(self._live(pk, list(wanted)))
        await self.settle()

    async def _live(self, pk: int, wanted: list[tuple[int, Mode]]) -> None:
        async def waits(holder: int) -> None:
            self.told[pk] = holder

        async with self.turns.turn(wanted, pk, waits):
            self.order.append(pk)
            await self._leave[pk].wait()

    async def go(self, pk: int) -> None:
        self._leave[pk].set()
        await self._tasks[pk]
        await self.settle()

    async def cancel(self, pk: int) -> None:
        self._tasks[pk].cancel()
        await asyncio.gather(self._tasks[pk], return_exceptions=True)
        await self.settle()

    @staticmethod
    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def clone(target: int) -> list[tuple[int, Mode]]:
    return [(target, Mode.CHANGE), (SOURCE, Mode.READ)]


async def test_one_at_a_time_in_order() -> None:
    scene = Scene()
    for pk in (1, 2, 3):
        await scene.come(pk, [(SOURCE, Mode.CHANGE)])
    assert scene.order == [1]
    assert scene.turns.waiting(SOURCE) == [1, 2, 3]
    assert scene.told == {2: 1, 3: 1}
    for pk in (1, 2, 3):
        await scene.go(pk)
    assert scene.order == [1, 2, 3]
    assert scene.turns.waiting(SOURCE) == []


async def test_clones_of_one_source_go_side_by_side() -> None:
    scene = Scene()
    await scene.come(1, clone(TARGET))
    await scene.come(2, clone(OTHER))
    assert scene.order == [1, 2]
    await scene.come(3, [(SOURCE, Mode.CHANGE)])
    assert scene.told == {3: 1}
    await scene.go(1)
    assert scene.order == [1, 2]
    await scene.go(2)
    assert scene.order == [1, 2, 3]


async def test_the_power_does_not_wait_for_a_copy_and_no_copy_overtakes_a_change() -> None:
    scene = Scene()
    await scene.come(1, clone(TARGET))
    await scene.come(2, [(SOURCE, Mode.BESIDE)])
    await scene.come(3, [(SOURCE, Mode.BESIDE)])
    assert scene.order == [1, 2]
    await scene.come(4, [(SOURCE, Mode.CHANGE)])
    await scene.come(5, clone(OTHER))
    assert scene.told == {3: 2, 4: 1, 5: 4}
    for pk in (2, 3, 1):
        await scene.go(pk)
    assert scene.order == [1, 2, 3, 4]
    await scene.go(4)
    assert scene.order == [1, 2, 3, 4, 5]


async def test_who_is_cancelled_while_waiting_lets_the_next_one_in() -> None:
    scene = Scene()
    await scene.come(1, clone(TARGET))
    await scene.come(2, [(SOURCE, Mode.CHANGE)])
    await scene.come(3, clone(OTHER))
    assert scene.order == [1]
    await scene.cancel(2)
    assert scene.order == [1, 3]


async def test_two_rows_are_always_taken_in_the_same_order() -> None:
    """Each wants what the other has: nobody waits for ever."""
    scene = Scene()
    await scene.come(1, [(SOURCE, Mode.CHANGE), (TARGET, Mode.READ)])
    await scene.come(2, [(TARGET, Mode.CHANGE), (SOURCE, Mode.READ)])
    assert scene.order == [1]
    await scene.go(1)
    assert scene.order == [1, 2]


async def test_a_task_about_the_node_never_waits() -> None:
    scene = Scene()
    await scene.come(1, [])
    await scene.come(2, [])
    assert scene.order == [1, 2]
