"""What a clone takes over."""

from __future__ import annotations

from itertools import count

from vms.config.cloning import cloned, copy_name
from vms.config.relations import check_config

SOURCE = {
    "name": "web",
    "memory": "512",
    "onboot": "1",
    "protection": "1",
    "tags": "prod",
    "meta": "creation-qemu=7.2.22,ctime=1700000000",
    "scsi0": "local:900/base-900-disk-0.qcow2,discard=on,size=4G",
    "unused3": "local:900/vm-900-disk-9.qcow2",
    "ide2": "local:iso/a.iso,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=7",
    "net1": "e1000=BC:24:11:00:00:02",
    "smbios1": "uuid=6cf17dc3-8341-4ecc-aebd-7503f2583fb3,serial=WA==,base64=1",
    "vmgenid": "6cf17dc3-8341-4ecc-aebd-7503f2583fb4",
    "template": "1",
    "runningmachine": "pc-q35-7.2",
    "vmstate": "local:900/vm-900-state-x.raw",
}


def numbered() -> dict[str, str]:
    uuids, macs = count(1), count(0x10)
    return cloned(
        SOURCE,
        uuid=lambda: f"00000000-0000-4000-8000-{next(uuids):012d}",
        macs=lambda: f"BC:24:11:00:00:{next(macs):02X}",
    )


def test_identity_is_new_and_the_rest_is_the_same() -> None:
    made = numbered()
    check_config(made)
    assert made == {
        **{key: SOURCE[key] for key in ("name", "memory", "onboot", "protection", "tags", "meta", "scsi0")},
        "ide2": SOURCE["ide2"],
        "net0": "virtio=BC:24:11:00:00:10,bridge=vmbr0,tag=7",
        "net1": "e1000=BC:24:11:00:00:11",
        "smbios1": "base64=1,serial=WA==,uuid=00000000-0000-4000-8000-000000000001",
        "vmgenid": "00000000-0000-4000-8000-000000000002",
    }


def test_two_clones_share_nothing() -> None:
    first, second = cloned(SOURCE), cloned(SOURCE)
    for key in ("net0", "net1", "smbios1", "vmgenid"):
        assert len({first[key], second[key], SOURCE[key]}) == 3


def test_no_generation_id_is_made_where_there_was_none() -> None:
    assert "vmgenid" not in cloned({"name": "a"})
    assert cloned({"name": "a", "vmgenid": "0"})["vmgenid"] == "0"


def test_the_name_nobody_chose() -> None:
    assert copy_name("web", 900) == "Copy-of-VM-web"
    assert copy_name("", 900) == "Copy-of-VM-900"
    assert len(copy_name("x" * 253, 900)) == 253
