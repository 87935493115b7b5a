"""The back end of a drive: block nodes from throttle filter to file, or ``-drive`` for old machines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vms.errors import ConfigError
from vms.hardware.drive import Drive
from vms.hardware.firmware import EfiDisk
from vms.hardware.parts import Blockdev, Flag, Object, Part, escaped
from vms.hardware.plan import Plan
from vms.hardware.throttle import limits
from vms.hardware.volume import VolumeSource, resolve

_WRITEBACK = ("writeback", "writethrough", "unsafe")
_FILES = ("file", "host_device", "host_cdrom")


def node_name(level: str, key: str, volid: str) -> str:
    """A block node's name: ``f`` (format) or ``e`` (file) and a hash of key and volume."""
    digest = hashlib.sha256(f"drive={key},volid={volid}".encode()).hexdigest()
    return level + digest[:30]


class Graph:
    """Builds the back ends of one machine's drives."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def source(self, key: str, volid: str) -> VolumeSource:
        """Where a volume is. Raises :class:`ConfigError` on the drive's key."""
        try:
            return resolve(volid, self.plan.facts.storages)
        except (ValueError, KeyError) as error:
            raise ConfigError(key, str(error).strip("'"), part="file") from None

    def back_end(self, key: str, drive: Drive) -> Iterator[Part]:
        """Everything behind the device of ``key``. A drive without a medium has nothing."""
        if not self.plan.node_graphs:
            yield Flag(key, "-drive", self._legacy(key, drive))
            return
        if drive.snapshot:
            raise ConfigError(key, "is not supported with this machine version", part="snapshot")
        if not drive.is_empty:
            yield self.graph(key, drive)

    def throttle(self, key: str, drive: Drive | None) -> Object:
        """The throttle group of a drive; always there, so that limits can be set while it runs."""
        found = limits(key, drive) if drive else {}
        return Object(key, "throttle-group", {"id": f"throttle-drive-{key}", "limits": found})

    def graph(self, key: str, drive: Drive) -> Blockdev:
        """Throttle filter over format over file."""
        source = self.source(key, drive.file)
        cdrom = drive.is_cdrom
        if cdrom and drive.file.startswith("/dev/"):
            source = replace(source, driver="host_cdrom")
        direct = goes_around_cache(drive, source)
        common: dict[str, Any] = {"read-only": self.read_only(drive)}
        if not cdrom:
            common |= zeroes_and_discard(drive)
        aio = drive.aio or self.default_aio(source, drive.cache, direct)
        image = drive.image_format or source.format
        shared = {**common, "cache": {"direct": direct, "no-flush": drive.cache == "unsafe"}}
        middle = self._image(key, drive.file, source, image, shared, aio)
        if image == "qcow2" and source.keeps_snapshots_apart and not cdrom:
            lower = middle
            for volid in self._snapshot_volumes(key, drive):
                found = self.source(key, volid)
                lower["backing"] = self._image(key, volid, found, found.format, shared, aio)
                lower = lower["backing"]
        return self._throttled(key, common, middle)

    def _snapshot_volumes(self, key: str, drive: Drive) -> Iterator[str]:
        """The volumes below a drive whose storage keeps every snapshot in a volume of its own."""
        storage, _, name = drive.file.partition(":")
        folder, slash, leaf = name.rpartition("/")
        for snapshot, drives in self.plan.ctx.snapshots:
            if drives.get(key, "").partition(",")[0].removeprefix("file=") == drive.file:
                yield f"{storage}:{folder}{slash}{snapshot}-{leaf}"

    def _image(
        self, key: str, volid: str, source: VolumeSource, image: str, shared: dict[str, Any], aio: str
    ) -> dict[str, Any]:
        """The format over the file: two nodes of one volume."""
        file: dict[str, Any] = {"driver": source.driver, "node-name": node_name("e", key, volid), **shared}
        if source.filename:
            file["filename"] = source.filename
        if source.driver in _FILES:
            file["aio"] = aio
        file |= source.extra
        found = {"driver": image, "node-name": node_name("f", key, volid), **shared, "file": file}
        chained = source.driver == "file" and source.keeps_snapshots_apart
        if image == "qcow2" and chained and self.plan.qemu_at_least(8, 1):
            found["discard-no-unref"] = True
        return found

    def _throttled(self, key: str, common: dict[str, Any], middle: dict[str, Any]) -> Blockdev:
        group = {"throttle-group": f"throttle-drive-{key}"}
        top = {"driver": "throttle", "node-name": f"drive-{key}", **group, **common, "file": middle}
        return Blockdev(key, top)

    def read_only(self, drive: Drive) -> bool:
        """Whether the guest may not write."""
        return drive.is_cdrom or self.plan.template or bool(getattr(drive, "read_only", None))

    def default_aio(self, source: VolumeSource, cache: str | None, direct: bool) -> str:
        """How reads and writes are handed over when the drive does not say."""
        careful = source.storage_type in ("lvm", "cifs")
        careful = careful or (source.storage_type == "rbd" and cache in _WRITEBACK)
        if careful or not self.plan.facts.aio_io_uring:
            return "native" if direct else "threads"
        return "io_uring"

    def efi_variables(self, efi: EfiDisk | None) -> Iterator[Part]:
        """The flash chip with the variables; a throw-away file when there is no ``efidisk0``."""
        yield self.throttle("efidisk0", None)
        sizes = self.plan.facts.efi_vars_size
        common = {"read-only": self.plan.template, "detect-zeroes": "on", "discard": "ignore"}
        if efi is None:
            source, volid, image = VolumeSource("file", self.plan.ctx.paths.efivars, "raw"), "", "raw"
        else:
            source, volid = self.source("efidisk0", efi.file), efi.file
            image = efi.image_format or source.format
        size = int(sizes.get(efi.value("efitype") if efi else "2m", 0))
        aio = self.default_aio(source, None, direct=False)
        shared = {**common, "cache": {"direct": False, "no-flush": False}}
        middle = self._image("efidisk0", volid, source, image, shared, aio)
        if size and image == "raw":
            middle["size"] = size
        yield self._throttled("efidisk0", common, middle)

    def _legacy(self, key: str, drive: Drive) -> str:
        """The text of ``-drive`` as old machine versions get it."""
        cdrom = drive.is_cdrom
        words = ["if=none", f"id=drive-{key}"]
        source = VolumeSource("", "", "raw") if drive.is_empty else self.source(key, drive.file)
        direct = goes_around_cache(drive, source)
        if not drive.is_empty:
            words.insert(0, f"file={escaped(source.filename or _rbd_name(source))}")
            words.append(f"format={drive.image_format or source.format}")
        for name in ("media", "rerror", "werror"):
            if getattr(drive, name) is not None and (name != "media" or cdrom):
                words.append(f"{name}={getattr(drive, name)}")
        if drive.cache or direct:
            words.append(f"cache={drive.cache or 'none'}")
        words.append(f"aio={drive.aio or self.default_aio(source, drive.cache, direct)}")
        if drive.discard:
            words.append(f"discard={drive.discard}")
        if not cdrom:
            words.append(f"detect-zeroes={zeroes_and_discard(drive)['detect-zeroes']}")
            given = self.plan.template or getattr(drive, "read_only", None)
            words += [f"readonly={'on' if given else 'off'}"] if given is not None else []
        if drive.snapshot is not None:
            words.append(f"snapshot={'on' if drive.snapshot else 'off'}")
        words += [f"throttling.{name}={value}" for name, value in limits(key, drive).items()]
        return ",".join(words)


def goes_around_cache(drive: Drive, source: VolumeSource) -> bool:
    """Whether reads and writes bypass the node's page cache.

    A disk says so by its cache mode. One that says nothing does, except on Btrfs, whose checksums a guest
    that changes a page while it is written would break.
    """
    if drive.cache is not None:
        return drive.cache in ("none", "directsync")
    checksums = source.storage_type == "btrfs" and not source.options.get("nocow")
    return not drive.is_cdrom and not checksums


def zeroes_and_discard(drive: Drive) -> dict[str, str]:
    """What becomes of deleted blocks and of blocks full of zeroes."""
    discard = drive.discard == "on"
    zeroes = "off" if drive.detect_zeroes is False else "unmap" if discard else "on"
    return {"discard": "unmap" if discard else "ignore", "detect-zeroes": zeroes}


def _rbd_name(source: VolumeSource) -> str:
    return f"rbd:{source.extra.get('pool')}/{source.extra.get('image')}"
