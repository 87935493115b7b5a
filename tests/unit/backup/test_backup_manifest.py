"""A manifest is a stranger's text: what is taken, and in which words the rest is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from vms.backup.manifest import LIMIT, ArchivedDisk, Manifest, parse
from vms.errors import StorageError


def disk(key: str = "scsi0", **changes: Any) -> ArchivedDisk:
    values = {"volid": "local:101/vm-101-disk-0.qcow2", "format": "qcow2", "size": 1 << 30}
    return ArchivedDisk(**{"key": key, "member": f"{key}.raw", **values, **changes})


def manifest(*disks: ArchivedDisk) -> Manifest:
    return Manifest(
        vmid=101, name="ein Käse", node="pve1", begun=datetime(2026, 1, 31, 23, 59, tzinfo=UTC), mode="stop",
        consistent=False, product="pvelite 0.1.0", disks=disks,
    )  # fmt: skip


def test_there_and_back() -> None:
    made = manifest(disk(), disk("efidisk0"), disk("tpmstate0", format="raw"))
    assert parse(made.format()) == made
    assert made.size == 3 << 30
    assert made.disk("efidisk0.raw") == disk("efidisk0")
    assert made.disk("scsi1.raw") is None


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(told: Any) -> None:
        for step in path[:-1]:
            told = told[step]
        told[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (put("format", value="tar"), "no backup"),
        (put("version", value=3), "version is 3"),
        (put("version", value=True), "version"),
        (put("more", value=1), "'more' is not expected"),
        (lambda told: told.pop("node"), "'node' is missing"),
        (put("vmid", value=99), "vmid"),
        (put("vmid", value="101"), "vmid"),
        (put("vmid", value=1e300), "vmid"),
        (put("vmid", value=True), "vmid"),
        (put("name", value="a\nb"), "name"),
        (put("name", value="x" * 256), "name"),
        (put("begun", value="yesterday"), "begun"),
        (put("mode", value="live"), "mode"),
        (put("mode", value=[]), "mode"),
        (put("consistent", value=1), "consistent"),
        (put("disks", value={}), "disks"),
        (put("disks", value=[{}] * 65), "at most 64"),
        (put("disks", 0, value=None), "a disk has to have"),
        (put("disks", 0, "extra", value=1), "a disk has to have"),
        (put("disks", 0, "key", value="net0"), "no drive"),
        (put("disks", 0, "key", value="unused0"), "no drive"),
        (put("disks", 0, "key", value="../../etc"), "no drive"),
        (put("disks", 0, "member", value="../scsi0.raw"), "has to be the member 'scsi0.raw'"),
        (put("disks", 0, "member", value="/etc/passwd"), "has to be the member"),
        (put("disks", 0, "size", value=-1), "size"),
        (put("disks", 0, "size", value=0), "size"),
        (put("disks", 0, "size", value=1 << 60), "size"),
        (put("disks", 0, "volid", value="a\0b"), "volid"),
        (put("disks", 0, "format", value="qcow2,file=x"), "format"),
        (lambda told: told["disks"].append(told["disks"][0]), "twice"),
    ],
)
def test_what_is_refused(change: Callable[[Any], None], word: str) -> None:
    told = json.loads(manifest(disk()).format())
    change(told)
    with pytest.raises(StorageError, match=word) as caught:
        parse(json.dumps(told).encode())
    assert str(caught.value).startswith("manifest.json: ")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": 1, "a": 2}', b"1" * 5000, b"x" * (LIMIT + 1)],
)
def test_texts_that_are_none(data: bytes) -> None:
    with pytest.raises(StorageError, match="manifest"):
        parse(data)


@pytest.mark.parametrize("bad", [disk(size=1 << 60), disk(size=0), disk(volid="a" * 500), disk("net0")])
def test_what_could_not_be_read_is_not_written(bad: ArchivedDisk) -> None:
    with pytest.raises(StorageError):
        manifest(bad).format()
