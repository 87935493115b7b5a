"""Disks and ISO images of the test guest: no loop device, no mount, no privilege."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from ingredients import run

MIB = 1 << 20
PARTITION_START = 1 * MIB
KERNEL_WORDS = "console=tty0 console=ttyS0,115200 quiet panic=5"
BIOS_MODULES = "biosdisk part_msdos fat normal linux serial terminal configfile echo test minicmd reboot halt"
EFI_MODULES = "part_msdos part_gpt fat normal linux serial terminal configfile echo test minicmd reboot halt"
INSTALLER = Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
SHIM = "usr/lib/shim/shimx64.efi.signed"
SIGNED_GRUB = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"

CONSOLE = """\
if serial --unit=0 --speed=115200; then
    terminal_input console serial
    terminal_output console serial
fi
"""
DISK_MENU = f"""{CONSOLE}
set timeout=0
menuentry "pvelite test guest" {{
    linux /vmlinuz {KERNEL_WORDS} pvelite.from=disk
    initrd /initrd.img
}}
"""
ISO_MENU = f"""{CONSOLE}
set timeout=3
menuentry "live" {{
    linux /boot/vmlinuz {KERNEL_WORDS} pvelite.from=iso
    initrd /boot/initrd.img
}}
menuentry "install" {{
    linux /boot/vmlinuz {KERNEL_WORDS} pvelite.mode=install
    initrd /boot/initrd.img /boot/install.img
}}
"""
DEBIAN_MENU = """\
set timeout=3
menuentry "Install" {
    linux /boot/linux vga=normal --- quiet
    initrd /boot/initrd.gz
}
menuentry "Install over the serial port" {
    linux /boot/linux console=ttyS0,115200 --- quiet
    initrd /boot/initrd.gz
}
"""


def fat_partition(target: Path, size: int, files: dict[str, Path]) -> None:
    """Write a FAT32 file system of ``size`` bytes holding ``files`` (path inside → path here)."""
    with target.open("wb") as image:
        image.truncate(size)
    run("mformat", "-i", target, "-F", "-v", "PVELITE", "::")
    folders = {parent for name in files for parent in Path(name).parents if parent != Path()}
    for folder in sorted(folders - {Path(".")}, key=lambda path: len(path.parts)):
        run("mmd", "-i", target, f"::/{folder}")
    for name, source in files.items():
        run("mcopy", "-i", target, source, f"::/{name}")


def disk(target: Path, partition: Path, work: Path) -> None:
    """Join boot sector, GRUB's core and ``partition`` into a disk that boots on BIOS and on UEFI."""
    core = work / "core.img"
    run("grub-mkimage", "-O", "i386-pc", "-p", "(,msdos1)/grub", "-o", core, *BIOS_MODULES.split())
    if core.stat().st_size > PARTITION_START - 512:
        raise ValueError("GRUB's core does not fit before the partition")
    size = partition.stat().st_size
    sector = bytearray(512)
    sector[:440] = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
    sector[446:462] = struct.pack(
        "<B3sB3sII", 0x80, b"\xfe\xff\xff", 0xEF, b"\xfe\xff\xff", 2048, size // 512
    )
    sector[510:] = b"\x55\xaa"
    with target.open("wb") as image:
        image.write(sector)
        image.write(core.read_bytes())
        image.seek(PARTITION_START)
        with partition.open("rb") as source:
            shutil.copyfileobj(source, image, MIB)
        image.truncate(PARTITION_START + size + MIB)


def boot_disks(source: Path, kernel: Path, initrd: Path, work: Path, out: Path) -> dict[str, Path]:
    """The guest's disk with Debian's signed boot chain, and one with a GRUB nobody signed."""
    menu = work / "grub.cfg"
    menu.write_text(DISK_MENU)
    unsigned = work / "bootx64.efi"
    run("grub-mkimage", "-O", "x86_64-efi", "-p", "/grub", "-o", unsigned, *EFI_MODULES.split())
    common = {"vmlinuz": kernel, "initrd.img": initrd, "grub/grub.cfg": menu}
    chains = {
        "disk": {
            "EFI/BOOT/BOOTX64.EFI": source / SHIM,
            "EFI/BOOT/grubx64.efi": source / SIGNED_GRUB,
            "EFI/debian/grub.cfg": menu,
        },
        "disk_unsigned": {"EFI/BOOT/BOOTX64.EFI": unsigned},
    }
    made = {}
    for name, chain in chains.items():
        partition, made[name] = work / f"{name}.fat", out / f"{name}.img"
        needed = sum(path.stat().st_size for path in (common | chain).values())
        fat_partition(partition, max(36 * MIB, (needed // MIB + 6) * MIB), common | chain)
        disk(made[name], partition, work)
    return made


def guest_iso(kernel: Path, initrd: Path, system: Path, work: Path, target: Path) -> None:
    """The guest's own ISO: boots live, or writes ``system`` (a disk image) to the first disk."""
    tree, extra = work / "iso", work / "install"
    (tree / "boot/grub").mkdir(parents=True)
    extra.mkdir()
    shutil.copy2(system, extra / "disk.img")
    run("gzip", "-1", "-n", extra / "disk.img")
    run(
        "cpio", "--quiet", "-o", "-H", "newc", "-O", tree / "boot/install.img", cwd=extra, data=b"disk.img.gz"
    )
    shutil.copy2(kernel, tree / "boot/vmlinuz")
    shutil.copy2(initrd, tree / "boot/initrd.img")
    (tree / "boot/grub/grub.cfg").write_text(ISO_MENU)
    run("grub-mkrescue", "-o", target, tree)


def debian_iso(work: Path, target: Path) -> None:
    """The Debian installer's own kernel and initrd as a bootable ISO."""
    tree = work / "debian"
    (tree / "boot/grub").mkdir(parents=True)
    for name in ("linux", "initrd.gz"):
        shutil.copy2(INSTALLER / name, tree / "boot" / name)
    (tree / "boot/grub/grub.cfg").write_text(DEBIAN_MENU)
    run("grub-mkrescue", "-o", target, tree)
