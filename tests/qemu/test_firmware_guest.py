"""Firmware, Secure Boot, TPM and disks as a guest sees them from inside, on the product's command line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.media import Media

UUID = "5e1f4c0a-9a5c-4d0e-8d6b-0c6f7e1a2b3c"
MAC = "BC:24:11:0A:0B:0C"
UEFI = {
    "ostype": "l26",
    "machine": "q35",
    "bios": "ovmf",
    "memory": "512",
    "scsihw": "virtio-scsi-pci",
    "agent": "1",
    "serial0": "socket",
}
BOOT_LIMIT = 150
"""Seconds a UEFI boot may take: 10 to 20 on an idle box under TCG, more on a busy one."""


async def test_a_uefi_guest_sees_the_machine_it_was_given(lab: Lab, guest_media: Media) -> None:
    """Boots the disk nobody signed, so it also shows that Secure Boot alone refuses it further down."""
    system = await lab.disk(101, copy=guest_media.disk_unsigned)
    config = {
        **UEFI,
        "sockets": "1",
        "cores": "2",
        "efidisk0": await lab.efi_disk(101, keys=False),
        "tpmstate0": await lab.tpm_state(101),
        "scsi0": f"{system},serial=SYSTEM,ssd=1,discard=on",
        "net0": f"virtio={MAC}",
        "smbios1": f"uuid={UUID}",
        "vmgenid": "11111111-2222-4333-8444-555555555555",
        "boot": "order=scsi0",
    }
    guest = await lab.start(101, config)
    seen = await guest.facts(BOOT_LIMIT)
    said = seen.words
    assert (said["firmware"], said["secureboot"], said["booted_from"]) == ("uefi", "0", "disk")
    assert said["tpm"] == "2"
    assert set(said["pcr0"]) > {"0"}, "the firmware measured itself into the TPM"
    assert said["product_uuid"].lower() == UUID
    assert said["vmgenid"] == "present"
    assert said["product_version"].startswith("pc-q35-")
    assert (said["cpus"], said["sockets"], said["cores"]) == ("2", "1", "2")
    assert int(said["memory_installed"]) == 512 << 20
    disk = seen.disk("SYSTEM")
    assert (disk["driver"], disk["rotational"], disk["ro"]) == ("virtio_scsi", "0", "0")
    assert int(disk["discard"]) > 0
    assert seen.nic(MAC)["driver"] == "virtio_net"


async def test_secure_boot_boots_what_debian_signed(lab: Lab, guest_media: Media) -> None:
    system = await lab.disk(102, copy=guest_media.disk)
    efi, state = await lab.efi_disk(102, keys=True), await lab.tpm_state(102)
    guest = await lab.start(102, {**UEFI, "efidisk0": efi, "tpmstate0": state, "scsi0": system})
    said = (await guest.facts(BOOT_LIMIT)).words
    assert (said["firmware"], said["secureboot"], said["tpm"]) == ("uefi", "1", "2")


async def test_secure_boot_refuses_what_nobody_signed(lab: Lab, guest_media: Media) -> None:
    system = await lab.disk(103, copy=guest_media.disk_unsigned)
    efi = await lab.efi_disk(103, keys=True)
    guest = await lab.start(103, {**UEFI, "efidisk0": efi, "scsi0": system, "boot": "order=scsi0"})
    said = await guest.says("No bootable option or device was found", BOOT_LIMIT)
    assert "Access Denied" in said
    assert "Booting" not in said


async def test_what_a_guest_wrote_is_there_after_stop_and_start(lab: Lab, guest_media: Media) -> None:
    """Boots its own disk on SeaBIOS twice; the second guest reads what the first wrote to two others."""
    config = {
        "ostype": "l26", "memory": "256", "scsihw": "virtio-scsi-single", "agent": "1", "serial0": "socket",
        "scsi0": await lab.disk(105, copy=guest_media.disk), "boot": "order=scsi0",
        "scsi1": f"{await lab.disk(105)},serial=QCOW,iothread=1",
        "virtio2": f"{await lab.disk(105, fmt='raw')},serial=RAW,cache=writeback",
    }  # fmt: skip
    first = await lab.start(105, config)
    facts = await first.facts(BOOT_LIMIT)
    assert (facts.words["firmware"], facts.words["booted_from"]) == ("bios", "disk")
    assert facts.disk("RAW")["driver"] == "virtio_blk"
    sums = {}
    for serial in ("QCOW", "RAW"):
        name = facts.disk(serial)["name"]
        sums[serial] = await first.shell(
            f"mke2fs /dev/{name} >/dev/null; mount -t ext4 /dev/{name} /mnt; "
            "dd if=/dev/urandom of=/mnt/big bs=1M count=4 2>/dev/null; md5sum </mnt/big; umount /mnt; sync"
        )
    await first.quit()
    second = await lab.start(105, config)
    facts = await second.facts(BOOT_LIMIT)
    for serial, wrote in sums.items():
        name = facts.disk(serial)["name"]
        assert await second.shell(f"mount -t ext4 /dev/{name} /mnt; md5sum </mnt/big; umount /mnt") == wrote


async def test_a_warm_guest_is_a_booted_guest(warm_guest: Callable[[int], Awaitable[Guest]]) -> None:
    guest = await warm_guest(106)
    assert await guest.monitor.query_status() == "running"
    assert float((await guest.shell("cut -d' ' -f1 /proc/uptime")).strip()) > 1
    facts = await guest.facts()
    assert facts.words["product_version"].startswith("pc-q35-")
    assert await guest.shell("echo $((6 * 7))") == "42\n"


async def test_the_power_button_reaches_the_guest(warm_guest: Callable[[int], Awaitable[Guest]]) -> None:
    guest = await warm_guest(107)
    await guest.monitor.system_powerdown()
    await guest.switched_off()
