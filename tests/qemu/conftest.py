"""Fixtures of the tests that start a real QEMU. Everything runs on TCG, so it means the same everywhere.

``guest_media``   the test guest's pieces (kernel, initrd, disk, iso …), built once and cached
``node_facts``    this node's facts, asked once
``lab``           a bench: ``await lab.start(101, {"memory": "256", …})`` → a running :class:`Guest`
``warm_guest``    ``await warm_guest(101)`` → a booted guest with its agent answering, in 0.2 s
``eventually``    wait for a state with a deadline

Boot the tiny guest directly with ``await lab.start(101, config, guest_media.direct_boot())``.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guestkit import lab as bench
from guestkit import waiting
from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.media import Media, build_media
from guestkit.warm import save_warm_state, start_warm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder starts a real QEMU."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.qemu)


@pytest.fixture(scope="session")
def guest_media() -> Media:
    """The test guest, built from Debian's packages."""
    return build_media()


@pytest.fixture(scope="session")
def node_facts() -> dict[str, Any]:
    """This node's facts as the product gathers them, on TCG."""
    return asyncio.run(bench.node_facts())


@pytest.fixture
async def lab(node_facts: dict[str, Any]) -> AsyncIterator[Lab]:
    """A bench for this test; its guests end with it."""
    made = Lab(node_facts)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(scope="session")
def warm_state(node_facts: dict[str, Any], guest_media: Media) -> Iterator[Path]:
    """The state file of a freshly booted guest, made once for the session."""
    folder = Path(tempfile.mkdtemp(prefix="pvw-", dir="/tmp"))

    async def make() -> None:
        bench_once = Lab(node_facts)
        try:
            await save_warm_state(bench_once, guest_media, folder / "warm.state")
        finally:
            await bench_once.close()

    try:
        asyncio.run(make())
        yield folder / "warm.state"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def warm_guest(lab: Lab, guest_media: Media, warm_state: Path) -> Callable[[int], Awaitable[Guest]]:
    """Start a guest that has booted already."""

    async def start(vmid: int) -> Guest:
        return await start_warm(lab, guest_media, warm_state, vmid)

    return start


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """The wait helper; see :mod:`guestkit.waiting`."""
    return waiting.eventually
