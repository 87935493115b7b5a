"""Images somebody brought: only whole ones of the kinds we know become disks."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from vms.errors import StorageError
from vms.storage import header
from vms.storage.directory import DirectoryStorage
from vms.storage.upload import Upload


def qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


def judge(path: Path) -> header.Header:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return header.check_import(descriptor, path.name)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "fmt", "options"),
    [("a.qcow2", "qcow2", ()), ("a.img", "qcow2", ()), ("a.raw", "raw", ()), ("a.img", "raw", ()),
     ("a.vmdk", "vmdk", ()), ("a.vmdk", "vmdk", ("-o", "subformat=streamOptimized"))],
)  # fmt: skip
def test_whole_images(tmp_path: Path, name: str, fmt: str, options: tuple[str, ...]) -> None:
    path, source = tmp_path / name, tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) + bytes(7 << 20))
    qemu_img("convert", "-f", "raw", "-O", fmt, *options, str(source), str(path))
    found = judge(path)
    assert (found.kind, found.virtual_size) == (fmt, 8 << 20)


def hostile(folder: Path, case: str) -> Path:
    path = folder / f"x.{case.partition('-')[0]}"
    if case == "qcow2-backing":
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", str(path), "1M")
    elif case == "qcow2-data-file":
        data = folder / "data"
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={data}", str(path), "1M")
    elif case == "vmdk-flat":
        qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(path), "1M")
    elif case == "vmdk-parent":
        base = folder / "base.vmdk"
        qemu_img("create", "-q", "-f", "vmdk", str(base), "1M")
        qemu_img("create", "-q", "-f", "vmdk", "-b", str(base), "-F", "vmdk", str(path))
    elif case == "vmdk-list":
        path.write_bytes(b"KDMV" + struct.pack("<IIQQQQ", 1, 3, 0, 128, 1, 20) + bytes(1 << 16))
    elif case == "qcow2-huge":
        qemu_img("create", "-q", "-f", "qcow2", str(path), "1M")
        body = bytearray(path.read_bytes())
        body[24:32] = struct.pack(">Q", 1 << 60)
        path.write_bytes(body)
    elif case == "raw-qcow2":
        qemu_img("create", "-q", "-f", "qcow2", str(path), "1M")
    elif case == "qcow2-raw":
        path.write_bytes(bytes(4096))
    elif case == "img-gzip":
        path.write_bytes(b"\x1f\x8b" + bytes(4096))
    elif case == "img-vdi":
        qemu_img("create", "-q", "-f", "vdi", str(path), "1M")
    else:
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "case",
    ["qcow2-backing", "qcow2-data-file", "vmdk-flat", "vmdk-parent", "vmdk-list", "qcow2-huge", "raw-qcow2",
     "qcow2-raw", "img-gzip", "img-vdi", "raw-empty"],
)  # fmt: skip
def test_all_others_are_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(StorageError):
        judge(hostile(tmp_path, case))


def test_an_upload_ends_in_the_library(tmp_path: Path) -> None:
    storage = DirectoryStorage("local", tmp_path / "local")
    with Upload(storage, "debian.img", content="import") as incoming:
        incoming.write(bytes(1 << 20))
        assert incoming.finish() == "local:import/debian.img"
    assert (incoming.format, incoming.size) == ("raw", 1 << 20)
    with Upload(storage, "evil.qcow2", content="import") as incoming:
        incoming.write(b"#!/bin/sh")
        with pytest.raises(StorageError, match="should be qcow2"):
            incoming.finish()
    assert sorted(path.name for path in (tmp_path / "local" / "import").iterdir()) == ["debian.img"]


async def test_a_disk_from_an_image(tmp_path: Path) -> None:
    storage = DirectoryStorage("local", tmp_path / "local")
    await storage.prepare()
    body = os.urandom(3 << 20)
    (storage.import_folder / "one.raw").write_bytes(body)
    hostile(storage.import_folder, "qcow2-backing")
    listing = await storage.list("import")
    assert [volume.volid for volume in listing.volumes] == ["local:import/one.raw"]
    assert "backing file" in listing.findings[0].text
    told: list[float] = []

    async def progress(fraction: float) -> None:
        told.append(fraction)

    made = await storage.allocate_import(101, storage.import_folder / "one.raw", "raw", "qcow2", progress)
    assert (made.volid, made.size, made.format) == ("local:101/vm-101-disk-0.qcow2", 3 << 20, "qcow2")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(made.path), str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == body
    with pytest.raises(StorageError, match="no disk"):
        await storage.activate("local:import/one.raw", "raw")
    with pytest.raises(StorageError, match="backing"):
        await storage.allocate_import(101, storage.import_folder / "x.qcow2", "qcow2", "raw", progress)
    assert len((await storage.list("images", 101)).volumes) == 1


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
async def test_a_seed_has_a_volume_of_its_own(tmp_path: Path, fmt: str) -> None:
    storage = DirectoryStorage("local", tmp_path / "local")
    kind = "raw" if fmt == "raw" else "qcow2"
    for content in (b"one".ljust(4 << 20, b"\0"), b"two".ljust(4 << 20, b"\0")):
        made = await storage.allocate_seed(101, content, kind)  # type: ignore[arg-type]
        assert (made.volid, made.size) == (f"local:101/vm-101-cloudinit.{fmt}", 4 << 20)
        assert (made.path.stat().st_mode & 0o777, made.content, made.vmid) == (0o600, "images", 101)
        assert (await storage.list("images", 101)).volumes == (made,)
        await storage.activate(made.volid, fmt)
    assert [path.name for path in made.path.parent.iterdir()] == [f"vm-101-cloudinit.{fmt}"]
