"""Parts plugged into a running machine and pulled out again.

The parts are those of a cold start (:func:`vms.qemu.cmdline.parts`): a change plugs what the new command line
has more than the old one. Everything here may be done twice: what is there is not added again, what is gone
is not removed again, so whoever was interrupted begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vms.errors import MonitorError, QemuError
from vms.hardware.parts import Blockdev, Chardev, Device, Netdev, Object, Part
from vms.qemu.blocknodes import graphs_of
from vms.qemu.monitor import Event, Monitor

PATIENCE = 30.0
"""Seconds a guest gets to let go of a device; one without a driver never does."""
_BUSY = 0.05
"""Seconds between two tries to close a node its device has just let go of."""

_ORDER = (Chardev, Object, Blockdev, Netdev, Device)
_ADD = {
    Chardev: "chardev-add", Object: "object-add", Blockdev: "blockdev-add", Netdev: "netdev_add",
    Device: "device_add",
}  # fmt: skip
_REMOVE = {
    Chardev: ("chardev-remove", "id"), Object: ("object-del", "id"), Blockdev: ("blockdev-del", "node-name"),
    Netdev: ("netdev_del", "id"), Device: ("device_del", "id"),
}  # fmt: skip


class Unwilling(QemuError):
    """The guest did not let go of a device."""


@dataclass(frozen=True)
class Difference:
    """What a change adds to a running machine and takes from it, in the order of a cold start."""

    added: tuple[Part, ...]
    removed: tuple[Part, ...]

    @property
    def devices(self) -> list[str]:
        """The ids of the devices that come or go."""
        return [name_of(part) for part in (*self.added, *self.removed) if isinstance(part, Device)]


def name_of(part: Part) -> str:
    """The id of a part that can be plugged; empty for a flag and for a device without one."""
    if isinstance(part, Blockdev):
        return str(part.node["node-name"])
    if isinstance(part, (Chardev, Object, Netdev, Device)):
        return str(part.options.get("id", ""))
    return ""


def difference(before: Iterable[Part], after: Iterable[Part]) -> Difference:
    """Compare two machines by the ids of their parts."""
    old = {(type(part), name_of(part)): part for part in before if name_of(part)}
    new = {(type(part), name_of(part)): part for part in after if name_of(part)}
    return Difference(
        tuple(part for key, part in new.items() if key not in old),
        tuple(part for key, part in old.items() if key not in new),
    )


def ordered(parts: Iterable[Part]) -> list[Part]:
    """What others name comes first; devices last, in the order of a cold start."""
    return sorted(parts, key=lambda part: _ORDER.index(type(part)))


async def present(monitor: Monitor, place: str = "/machine/peripheral") -> set[str]:
    """The ids of what is plugged (or, at ``/objects``, of the objects there are)."""
    found = await monitor.execute("qom-list", {"path": place})
    return {str(entry["name"]) for entry in found if str(entry["type"]).startswith("child<")}


async def plug(monitor: Monitor, parts: Sequence[Part]) -> None:
    """Add parts in their order; a device that is there already is left as it is.

    Raises :class:`MonitorError`; then nothing of it stays.
    """
    there = await present(monitor)
    wanted = [part for part in ordered(parts) if not (isinstance(part, Device) and name_of(part) in there)]
    if not any(isinstance(part, Device) for part in wanted) and any(
        isinstance(part, Device) for part in parts
    ):
        return
    await sweep(monitor, [part for part in wanted if not isinstance(part, Device)])
    kept = await present(monitor, "/objects")
    done: list[Part] = []
    try:
        for part in wanted:
            if isinstance(part, Object) and name_of(part) in kept:
                continue  # something that was plugged before holds it
            await monitor.execute(_ADD[type(part)], part.qmp())
            done.append(part)
    except MonitorError:
        await take_back(monitor, done)
        raise


async def take_back(monitor: Monitor, done: Sequence[Part]) -> None:
    """Remove what was just added; the guest may not have seen it yet, so a device gets a moment."""
    for part in reversed(done):
        with contextlib.suppress(QemuError):
            if isinstance(part, Device):
                await unplug_device(monitor, name_of(part), 5)
            else:
                await _remove(monitor, part)


async def unplug(monitor: Monitor, parts: Sequence[Part], patience: float = PATIENCE) -> None:
    """Remove parts, devices first, last added first. Raises :class:`Unwilling` when the guest refuses."""
    for part in reversed(ordered(parts)):
        if isinstance(part, Device):
            await unplug_device(monitor, name_of(part), patience)
    await sweep(monitor, [part for part in parts if not isinstance(part, Device)])


async def sweep(monitor: Monitor, parts: Sequence[Part]) -> None:
    """Remove what stood behind devices that are gone. What is gone itself is no error."""
    for part in reversed(ordered(parts)):
        with contextlib.suppress(MonitorError):
            await _remove(monitor, part)


async def _remove(monitor: Monitor, part: Part) -> None:
    if not isinstance(part, Blockdev):
        await _remove_one(monitor, part, name_of(part))
        return
    # A disk that was moved while the guest ran lies behind another node than it began with.
    for name in await graphs_of(monitor, name_of(part)):
        await _remove_one(monitor, part, name)


async def _remove_one(monitor: Monitor, part: Part, name: str) -> None:
    command, argument = _REMOVE[type(part)]
    # A device that has just gone holds its node for a moment.
    for _ in range(20):
        try:
            await monitor.execute(command, {argument: name})
            return
        except MonitorError as error:
            if "in use" not in error.description and "busy" not in error.description:
                raise
        await asyncio.sleep(_BUSY)


async def unplug_device(monitor: Monitor, device: str, patience: float = PATIENCE) -> None:
    """Pull one device out and wait until the guest let go. One that is not there is no error.

    Raises :class:`Unwilling` when it does not within ``patience`` seconds, or says that it will not.
    """
    with _told(monitor, device) as answer:
        try:
            await monitor.execute("device_del", {"id": device})
        except MonitorError as error:
            if error.error_class == "DeviceNotFound":
                return
            # Asked before and still being let go of: wait for that.
            if "in the process of unplug" not in error.description:
                raise
        try:
            async with asyncio.timeout(patience):
                refused = await answer
        except TimeoutError:
            if device not in await present(monitor):
                return
            raise Unwilling(
                f"the guest did not let go of '{device}' within {patience:g} s",
                hint="It needs a driver for hot-unplug, and the device must not be in use.",
            ) from None
        if refused:
            raise Unwilling(refused)


@contextlib.contextmanager
def _told(monitor: Monitor, device: str) -> Iterator[asyncio.Future[str]]:
    """The answer to an unplug request: empty once the device is gone, else why the guest refuses."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(event: Event) -> None:
        if answer.done():
            return
        if event.name == "DEVICE_DELETED" and event.data.get("device") == device:
            answer.set_result("")
        elif event.name == "DEVICE_UNPLUG_GUEST_ERROR" and event.data.get("device") == device:
            answer.set_result(f"the guest refuses to let go of '{device}'")
        elif event.name == "MEM_UNPLUG_ERROR" and event.data.get("device") == device:
            answer.set_result(f"the guest refuses to let go of '{device}': {event.data.get('msg', '')}")
        elif event.name == "ACPI_DEVICE_OST" and refusal(event.data.get("info", {}), device):
            answer.set_result(f"the guest refuses to let go of '{device}': it is in use")

    stop = monitor.on_event(heard)
    try:
        yield answer
    finally:
        stop()
        answer.cancel()


def refusal(info: Any, device: str) -> bool:
    """Whether a guest's ACPI report says that it does not eject that device (source 3: an eject request;
    status 0: done, 0x84: under way)."""
    mine = isinstance(info, dict) and info.get("device") == device
    return bool(mine and info.get("source") in (3, 0x103) and info.get("status") not in (0, 0x84))
