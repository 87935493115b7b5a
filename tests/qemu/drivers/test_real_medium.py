"""The medium of a CD drive, exchanged under a running QEMU."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from smallest import minimal

from vms.errors import MonitorError
from vms.host.paths import VMPaths
from vms.qemu import medium, process
from vms.qemu.process import Launched


def node(key: str, path: Path) -> dict[str, Any]:
    """The graph of a cold start, in small."""
    file = {"driver": "file", "node-name": f"e{key}", "filename": str(path), "read-only": True}
    middle = {"driver": "raw", "node-name": f"f{key}", "file": file, "read-only": True}
    group = f"throttle-drive-{key}"
    return {
        "driver": "throttle", "node-name": f"drive-{key}", "throttle-group": group, "file": middle,
        "read-only": True,
    }  # fmt: skip


@pytest.fixture
async def up(paths: VMPaths, short: Path) -> AsyncIterator[Launched]:
    extra = ["-device", "virtio-scsi-pci,id=scsihw0"]
    for key, device in (("ide2", "ide-cd,id=ide2"), ("scsi1", "scsi-cd,id=scsi1,bus=scsihw0.0")):
        place = short / f"{key}.raw"
        place.write_bytes(b"old" + bytes(1 << 20))
        extra += ["-object", f"throttle-group,id=throttle-drive-{key}"]
        extra += ["-blockdev", json.dumps(node(key, place)), "-device", f"{device},drive=drive-{key}"]
    extra += ["-device", "ide-cd,id=ide0"]
    launched = await process.launch(minimal(paths, *extra), qmp=paths.qmp, log=paths.log)
    yield launched
    await process.terminate(launched.running)
    await launched.monitor.close()


async def sizes(up: Launched) -> dict[str, int]:
    """Drive → bytes of its medium; 0 for an empty one."""
    found = {}
    for entry in await up.monitor.execute("query-block"):
        image = (entry.get("inserted") or {}).get("image", {})
        found[str(entry["qdev"]).rpartition("/")[2]] = int(image.get("virtual-size", 0))
    return found


async def test_a_file_replaced_under_its_name_is_read_again(up: Launched, short: Path) -> None:
    assert await sizes(up) == {"ide2": 1049088, "scsi1": 1049088, "ide0": 0}
    for key in ("ide2", "scsi1"):
        fresh = short / "fresh"
        fresh.write_bytes(bytes(2 << 20))
        fresh.replace(short / f"{key}.raw")
        await medium.change(up.monitor, key, node(key, short / f"{key}.raw"))
    assert await sizes(up) == {"ide2": 2 << 20, "scsi1": 2 << 20, "ide0": 0}


async def test_out_and_in(up: Launched, short: Path) -> None:
    await medium.change(up.monitor, "scsi1", None)
    assert (await sizes(up))["scsi1"] == 0
    await medium.change(up.monitor, "scsi1", node("scsi1", short / "scsi1.raw"))
    assert (await sizes(up))["scsi1"] == 1049088
    names = [entry["node-name"] for entry in await up.monitor.execute("query-named-block-nodes")]
    assert sorted(names) == ["drive-ide2", "drive-scsi1", "eide2", "escsi1", "fide2", "fscsi1"]


async def test_a_medium_that_cannot_be_opened_leaves_the_drive_empty_and_closed(
    up: Launched, short: Path
) -> None:
    with pytest.raises(MonitorError, match="No such file"):
        await medium.change(up.monitor, "ide2", node("ide2", short / "none"))
    assert (await sizes(up))["ide2"] == 0
    entry = next(one for one in await up.monitor.execute("query-block") if one["qdev"].endswith("ide2"))
    assert entry["tray_open"] is False
    await medium.change(up.monitor, "ide2", node("ide2", short / "ide2.raw"))
    assert (await sizes(up))["ide2"] == 1049088
    with pytest.raises(MonitorError, match="no drive 'ide3'"):
        await medium.change(up.monitor, "ide3", None)
