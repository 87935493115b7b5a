"""Disk images: the only caller of ``qemu-img``.

``qemu-img`` always hears the format from us: left to guess, it takes a guest's raw disk that begins
with a qcow2 header for a qcow2, backing file ``/etc/shadow`` and all. Bytes we did not write are
looked at by :mod:`vms.storage.header` first.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vms.errors import CommandError, StorageError
from vms.host.command import Limits, run
from vms.storage.base import DiskFormat
from vms.storage.header import Header

IMPORT_TIMEOUT = 12 * 3600
"""Seconds an import may take; it can be cancelled at any time."""

READING = Limits(cpu_seconds=60, address_space=2 << 30, file_size=0)
"""For ``qemu-img`` that only reads an image a guest, or somebody before it, may have prepared."""

Progress = Callable[[float], Awaitable[None]]
SnapshotVerb = Literal["create", "apply", "delete"]


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What ``qemu-img info`` tells of an image of ours."""

    format: str
    virtual_size: int
    actual_size: int
    backing: str


async def create(path: Path, size: int, fmt: DiskFormat, *, user: str | None = None) -> None:
    """Make ``path``, which exists and is empty, an image of ``size`` bytes."""
    await _qemu_img("create", "-q", "-f", fmt, "--", str(path), str(size), user=user)


async def convert(
    source: Path, source_format: str, target: Path, fmt: DiskFormat, *, user: str | None = None
) -> None:
    """Copy an image of ours into ``target``, which exists."""
    words = ["-q", "-f", source_format, "-O", fmt, "--", str(source), str(target)]
    await _qemu_img("convert", *words, user=user, timeout=3600)


async def convert_foreign(
    source: Path, header: Header, target: Path, fmt: DiskFormat, *, user: str | None, progress: Progress
) -> None:
    """Copy a stranger's image, whose header was judged, into ``target``, which exists.

    ``progress`` hears twice a second how far it is (0 to 1, by the room it takes). Cancelling ends it.
    """
    words = ["-q", "-f", header.kind, "-O", fmt, "--", str(source), str(target)]
    whole = await asyncio.to_thread(_blocks, source)
    await _watched(words, target, header.virtual_size, whole, user, progress)


async def copy(
    source: str, header: Header, target: Path, fmt: DiskFormat,
    *, whole: int, snapshot: str = "", speed: int = 0, user: str | None, progress: Progress,
) -> None:  # fmt: skip
    """Copy an image of ours, with all it lies on, into ``target``, which exists.

    ``whole``: bytes the copy will about take, by which ``progress`` is told. ``snapshot``: as it was in that
    snapshot of its own, which a guest that has the image open does not write. ``speed``: bytes a second at
    most, 0 for all there is.
    """
    words = ["-q", "-f", header.kind, "-O", fmt, *(["-r", str(speed)] if speed else [])]
    if snapshot:
        words += ["-U", "-l", f"snapshot.name={escaped(snapshot)}"]
    words += ["--", source, str(target)]
    await _watched(words, target, header.virtual_size, max(whole // 512, 1), user, progress)
    await asyncio.to_thread(_keep, target)


async def _watched(
    words: list[str], target: Path, size: int, whole: int, user: str | None, progress: Progress
) -> None:
    """Run ``qemu-img convert``; tell by the blocks that are there how far it is. ``size``: the guest's."""
    limits = Limits(
        cpu_seconds=IMPORT_TIMEOUT, address_space=8 << 30, file_size=size + size // 32 + (64 << 20)
    )
    work = asyncio.create_task(_qemu_img("convert", *words, user=user, timeout=IMPORT_TIMEOUT, limits=limits))
    try:
        while not (await asyncio.wait({work}, timeout=0.5))[0]:
            await progress(min(await asyncio.to_thread(_blocks, target) / whole, 0.99))
    finally:
        work.cancel()
        await asyncio.wait({work})
    await work


async def fill(
    source: str, header: Header, target: str, progress: Progress,
    *, snapshot: str = "", speed: int = 0, user: str | None = None, limits: Limits | None = None,
) -> None:  # fmt: skip
    """Copy an image into a raw volume that is no file and exists: a block device, an image of a cluster.

    How far it is nobody can see from outside: ``progress`` hears the beginning and the end. ``limits`` for a
    stranger's image.
    """
    words = ["-q", "-n", "-f", header.kind, "-O", "raw", *(["-r", str(speed)] if speed else [])]
    if snapshot:
        words += ["-U", "-l", f"snapshot.name={escaped(snapshot)}"]
    await progress(0)
    await _qemu_img("convert", *words, "--", source, target, user=user, timeout=IMPORT_TIMEOUT, limits=limits)
    await progress(1)


async def pour(content: bytes, target: str, *, user: str | None = None) -> None:
    """Write bytes of ours to the start of a raw volume that has no path."""
    with tempfile.NamedTemporaryFile(prefix="pvelite-") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        words = ["-q", "-n", "-f", "raw", "-O", "raw", "--", file.name, target]
        await _qemu_img("convert", *words, user=user)


def _keep(path: Path) -> None:
    """Have a finished copy on the disk, not in memory: its source may be deleted next."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blocks(path: Path) -> int:
    return max(path.stat().st_blocks, 1)


async def resize(path: Path, fmt: DiskFormat, size: int, *, user: str | None = None) -> None:
    """Let an image no guest has open grow to ``size`` bytes. It never shrinks."""
    await _qemu_img("resize", "-q", "-f", fmt, "--", str(path), str(size), user=user)


async def info(path: Path, fmt: str, *, user: str | None = None) -> ImageInfo:
    """What qemu-img tells of an image of ours, also while a guest has it open (hence ``-U``)."""
    text = await _qemu_img(
        "info", "--output=json", "-U", "-f", fmt, "--", str(path), user=user, limits=READING
    )
    found: dict[str, Any] = json.loads(text)
    return ImageInfo(
        format=str(found["format"]),
        virtual_size=int(found["virtual-size"]),
        actual_size=int(found.get("actual-size", 0)),
        backing=str(found.get("backing-filename", "")),
    )


async def allocation(path: Path, fmt: str, *, user: str | None = None) -> list[tuple[int, int]]:
    """Where an image of ours, with all it lies on, has data: (offset, length) in order.

    Also while a guest has it open; what that wrote last may not be told then.
    """
    words = ["--output=json", "-U", "-f", fmt, "--", str(path)]
    found: list[dict[str, Any]] = json.loads(await _qemu_img("map", *words, user=user, limits=READING))
    return [(int(one["start"]), int(one["length"])) for one in found if not one.get("zero")]


async def snapshots(path: Path, *, user: str | None = None) -> list[str]:
    """The names of the snapshots inside a qcow2 of ours, oldest first, also while a guest has it open."""
    words = ["--output=json", "-U", "-f", "qcow2", "--", str(path)]
    found: dict[str, Any] = json.loads(await _qemu_img("info", *words, user=user, limits=READING))
    return [str(entry["name"]) for entry in found.get("snapshots", [])]


async def snapshot(path: Path, verb: SnapshotVerb, name: str, *, user: str | None = None) -> None:
    """Take, go back to or remove the snapshot ``name`` of a qcow2 no guest has open."""
    # The command has no -f; without the driver's name it would guess.
    image = f"driver=qcow2,file.driver=file,file.filename={escaped(str(path))}"
    words = ["-q", {"create": "-c", "apply": "-a", "delete": "-d"}[verb], name, "--image-opts", image]
    await _qemu_img("snapshot", *words, user=user, timeout=600)


def escaped(value: str) -> str:
    """A value as QEMU reads it in a list parted by commas."""
    return value.replace(",", ",,")


async def _qemu_img(
    *words: str,
    user: str | None,
    timeout: float = 120,
    limits: Limits | None = None,
) -> str:
    """Run qemu-img; its failures become :class:`StorageError` with its own words."""
    try:
        result = await run(["qemu-img", *words], user=user, timeout=timeout, limits=limits)
    except CommandError as error:
        raise StorageError(f"qemu-img {words[0]}: {error.output.strip() or error}") from error
    return result.text
