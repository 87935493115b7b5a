"""The guest's kernel and its initial ram disk: busybox, the guest agent, the drivers it may meet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ingredients import libraries, run

MODULES = (
    "virtio_pci virtio_blk virtio_scsi virtio_net virtio_balloon virtio_console virtio-rng virtio_mem "
    "virtio_input nvme sd_mod sr_mod vmw_pvscsi ata_piix ata_generic ahci sym53c8xx megaraid_sas "
    "e1000 e1000e 8139cp 8139too vmxnet3 pcnet32 ne2k-pci i6300esb pvpanic-pci "
    "xhci-pci ehci-pci uhci-hcd usbhid hid-generic usb-storage button evdev psmouse "
    "ext4 vfat isofs virtiofs nls_cp437 nls_iso8859-1 nls_ascii efivarfs crc32c_generic crc32c-intel"
)


def closure(listing: str, names: list[str]) -> list[str]:
    """Paths of the named modules and all they depend on, from the text of ``modules.dep``."""
    depends: dict[str, list[str]] = {}
    for line in listing.splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
    wanted = {name.replace("-", "_") for name in names}
    pending = [path for path in depends if Path(path).name.split(".")[0].replace("-", "_") in wanted]
    found: set[str] = set()
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += depends[path]
    return sorted(found)


def stage(source: Path, rootfs: Path, target: Path) -> None:
    """Lay out the guest's file tree in ``target`` from unpacked packages and our own ``rootfs``."""
    shutil.copytree(rootfs, target, symlinks=True)
    for folder in ("bin", "sbin", "usr/sbin", "usr/bin", "dev", "proc", "sys"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / "bin/busybox", target / "bin/busybox")
    (target / "bin/sh").symlink_to("busybox")
    agent = source / "usr/sbin/qemu-ga"
    shutil.copy2(agent, target / "usr/sbin/qemu-ga")
    for library in libraries(agent):
        place = target / str(library).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.resolve(), place)
    release = os.listdir(source / "lib/modules")[0]
    modules = source / "lib/modules" / release
    kept = target / "lib/modules" / release
    run_depmod(source, source, release)
    for path in closure((modules / "modules.dep").read_text(), MODULES.split()):
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(modules / path, kept / path)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy2(modules / name, kept / name)
    run_depmod(source, target, release)


def run_depmod(source: Path, root: Path, release: str) -> None:
    """Index the modules of ``root`` with the depmod that was unpacked into ``source``."""
    program = source / "bin/depmod"
    if not program.is_symlink():
        program.symlink_to("kmod")
    run(program, "-b", root, release)


def archive(tree: Path, target: Path) -> None:
    """Pack ``tree`` as the compressed cpio a Linux kernel takes as initial ram disk."""
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    plain = target.with_suffix(".cpio")
    run(
        "cpio",
        "--quiet",
        "-o",
        "-H",
        "newc",
        "-R",
        "0:0",
        "-O",
        plain,
        cwd=tree,
        data="\n".join(names).encode(),
    )
    run("zstd", "-q", "-f", "-10", plain, "-o", target)
    plain.unlink()


def kernel(source: Path) -> Path:
    """The kernel image among the unpacked packages."""
    return next((source / "boot").glob("vmlinuz-*"))
