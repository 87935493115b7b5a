"""Which privilege each option needs, and what a change does to the keys around it."""

from __future__ import annotations

import pytest

from vms.access import PRIVILEGES
from vms.config.pending import all_keys
from vms.config.rights import ON_VM, OPERATOR, Right, rights
from vms.config.upkeep import applied, boot_disks, is_seed, is_wish, owner_of
from vms.errors import ConfigError
from vms.hardware import DRIVE_SLOTS

A, B = "local:100/vm-100-disk-0.qcow2", "local:100/vm-100-disk-1.qcow2"
SEED = "local:100/vm-100-cloudinit.raw"
CLONE = "local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-2.qcow2"


def test_every_option_has_its_privilege_or_is_an_operators() -> None:
    """A new option is nobody's but an operator's until somebody says whose it is."""
    operators = {
        "args", "lock", "hookscript", "arch", "affinity", "hugepages", "keephugepages", "ivshmem", "parallel",
        "amd-sev", "intel-tdx", "spice_enhancements", "vmgenid", "meta", "parent", "snaptime", "snapstate",
        "running-nets-host-mtu",
    }  # fmt: skip
    assert all_keys() - ON_VM.keys() - set(DRIVE_SLOTS) == operators | {"vmstate"}
    assert {name for names in ON_VM.values() for name in names} <= set(PRIVILEGES)


@pytest.mark.parametrize(
    ("key", "old", "new", "wanted"),
    [
        ("cores", None, "2", [Right(("VM.Config.CPU",))]),
        ("numa0", None, "cpus=0", [Right(("VM.Config.CPU",))]),
        ("memory", "512", None, [Right(("VM.Config.Memory",))]),
        ("bios", None, "ovmf", [Right(("VM.Config.Options",))]),
        ("startup", None, "order=1", [Right(("VM.Config.Options",)), Right(("Sys.Modify",), "/")]),
        ("ipconfig0", None, "ip=dhcp", [Right(("VM.Config.Cloudinit", "VM.Config.Network"))]),
        ("vmstate", A, None, [Right(("VM.Config.Disk",)), Right(("VM.PowerMgmt",))]),
        ("affinity", None, "0", [OPERATOR]),
        ("serial0", "/dev/ttyS0", None, [OPERATOR]),
        ("scsi0", A, None, [Right(("VM.Config.Disk",))]),
        ("scsi0", None, "local:8",
         [Right(("VM.Config.Disk",)), Right(("Datastore.AllocateSpace",), "/storage/local")]),
        ("scsi0", None, A, [Right(("VM.Config.Disk",))]),
        ("scsi0", A, f"{A},cache=none", [Right(("VM.Config.Disk",))]),
        ("ide2", None, "none,media=cdrom", [Right(("VM.Config.CDROM",))]),
        ("ide2", "none,media=cdrom", "local:iso/a.iso,media=cdrom",
         [Right(("VM.Config.CDROM",)),
          Right(("Datastore.AllocateSpace", "Datastore.Audit"), "/storage/local")]),
        ("ide2", None, "cdrom,media=cdrom", [Right(("VM.Config.CDROM",)), Right(("Sys.Console",), "/")]),
        ("ide2", "none,media=cdrom", B, [Right(("VM.Config.CDROM",)), Right(("VM.Config.Disk",))]),
        ("ide2", None, "local:cloudinit,media=cdrom",
         [Right(("VM.Config.CDROM",)), Right(("VM.Config.Cloudinit",)),
          Right(("Datastore.AllocateSpace",), "/storage/local")]),
        ("efidisk0", None, "local:1",
         [Right(("VM.Config.Disk",)), Right(("Datastore.AllocateSpace",), "/storage/local")]),
        ("net0", None, "virtio", [Right(("VM.Config.Network",))]),
        ("net0", None, "virtio,bridge=vmbr0,tag=5",
         [Right(("VM.Config.Network",)), Right(("SDN.Use",), "/sdn/zones/localnetwork/vmbr0/5")]),
        ("net0", "virtio,bridge=vmbr0", "virtio,bridge=vmbr0,rate=5", [Right(("VM.Config.Network",))]),
        ("usb0", None, "mapping=key",
         [Right(("VM.Config.HWType",)), Right(("Mapping.Use",), "/mapping/usb/key")]),
        ("hostpci0", None, "mapping=gpu",
         [Right(("VM.Config.HWType",)), Right(("Mapping.Use",), "/mapping/pci/gpu")]),
        ("virtiofs0", None, "share",
         [Right(("VM.Config.Disk",)), Right(("Mapping.Use",), "/mapping/dir/share")]),
    ],
)  # fmt: skip
def test_rights(key: str, old: str | None, new: str | None, wanted: list[Right]) -> None:
    assert rights(key, old, new) == wanted


def test_who_owns_a_volume_is_in_its_name() -> None:
    assert (owner_of(A), owner_of(CLONE), owner_of("local:iso/a.iso"), owner_of("none")) == (
        100,
        100,
        None,
        None,
    )
    assert is_seed(SEED)
    assert not is_seed(A)
    assert [is_wish(text) for text in ("local:8", "local:0.5,format=raw", "local:cloudinit", A, "none")] == [
        True, True, True, False, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "changes", "forced", "after", "doomed"),
    [
        ({"scsi0": A}, {"scsi0": None}, (), {"unused0": A}, ()),
        ({"scsi0": A, "unused0": B}, {"scsi0": None}, (), {"unused0": B, "unused1": A}, ()),
        ({"scsi0": A}, {"scsi0": None}, ("scsi0",), {}, (A,)),
        ({"unused0": A}, {"unused0": None}, (), {}, (A,)),
        ({"unused0": A, "scsi0": B}, {"unused0": None, "scsi0": None}, (), {"unused0": B}, (A,)),
        ({"ide2": f"{SEED},media=cdrom"}, {"ide2": None}, (), {}, (SEED,)),
        ({"ide2": "local:iso/a.iso,media=cdrom"}, {"ide2": None}, (), {}, ()),
        ({"scsi0": "local:101/vm-101-disk-0.qcow2"}, {"scsi0": None}, ("scsi0",), {}, ()),
        ({"scsi0": CLONE}, {"scsi0": None}, (), {"unused0": CLONE}, ()),
        ({"scsi0": A}, {"scsi0": B}, (), {"scsi0": B, "unused0": A}, ()),
        ({"scsi0": A}, {"scsi0": None, "sata0": A}, (), {"sata0": A}, ()),
        ({"unused3": A}, {"scsi1": f"{A},ssd=1"}, (), {"scsi1": f"{A},ssd=1"}, ()),
        ({"efidisk0": f"{A},efitype=4m"}, {"efidisk0": None}, (), {"unused0": A}, ()),
        ({"net0": "virtio", "boot": "order=net0;scsi0", "scsi0": A}, {"net0": None}, (),
         {"boot": "order=scsi0", "scsi0": A}, ()),
        ({"scsi0": B, "bootdisk": "scsi0", "boot": "cdn"}, {"scsi0": None}, (),
         {"boot": "cdn", "unused0": B}, ()),
        ({"scsi0": A, "boot": "order=scsi0"}, {"scsi0": B}, (),
         {"scsi0": B, "boot": "order=scsi0", "unused0": A}, ()),
    ],
)  # fmt: skip
def test_what_follows_from_a_change(
    before: dict[str, str], changes: dict[str, str | None], forced: tuple[str, ...], after: dict[str, str],
    doomed: tuple[str, ...],
) -> None:  # fmt: skip
    found = applied(before, changes, 100, forced)
    assert (found.mapping, found.doomed) == (after, doomed)


def test_a_volume_somebody_waits_for_is_left_alone() -> None:
    assert applied({"scsi0": A}, {"scsi0": None}, 100, keep=[A]).mapping == {}


def test_there_is_an_end_to_detached_disks() -> None:
    full = {f"unused{number}": f"local:100/vm-100-disk-{number + 9}.qcow2" for number in range(256)}
    with pytest.raises(ConfigError, match="Too many unused volumes"):
        applied({**full, "scsi0": A}, {"scsi0": None}, 100)


def test_disks_a_guest_boots_from() -> None:
    config = {"boot": "order=net0;scsi1;ide2", "scsi1": A, "ide2": "none,media=cdrom", "scsi0": B}
    assert boot_disks(config) == ["scsi1"]
    assert boot_disks({"bootdisk": "scsi0", "scsi0": A}) == ["scsi0"]
    assert boot_disks({"scsi0": A}) == []
