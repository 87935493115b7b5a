#!/usr/bin/env python3
"""Build a Debian 12 cloud image from Debian's packages and print its path, as JSON.

    python3 tests/guest/debian.py [--fresh]

It is what a publisher of cloud images makes: cloud-init, the guest agent, an SSH server, no account to log in
with. MBR; a small FAT partition with GRUB, kernel and initrd; an ext4 root. The image is compressed qcow2 in
the cache of the test guest (see ``build.py``), kept until this file changes. Needs root and takes a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import sys
from pathlib import Path

from build import cache_folder, only_one, say
from ingredients import BuildError, run
from media import BIOS_MODULES, CONSOLE, MIB, PARTITION_START, fat_partition

PACKAGES = (
    "linux-image-cloud-amd64,initramfs-tools,systemd-sysv,dbus,udev,cloud-init,netplan.io,qemu-guest-agent,"
    "openssh-server,cloud-guest-utils,e2fsprogs,iproute2,sudo"
)
RELEASE = "bookworm"
ROOT_SIZE = 1400 * MIB
# A box that emulates many guests at once is late with the timer, and the kernel's own check then gives up.
MENU = f"""{CONSOLE}
set timeout=0
menuentry "Debian" {{
    linux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200 quiet net.ifnames=0 no_timer_check
    initrd /initrd.img
}}
"""
# Without a locale package the module that sets one fails, and cloud-init's status with it.
SETTINGS = "locale: false\ndatasource_list: [ NoCloud, ConfigDrive, None ]\n"


def digest() -> str:
    """Another recipe is another image."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def build(cache: Path, *, fresh: bool) -> Path:
    """The image, made when it is not there. Raises :class:`BuildError`."""
    done = cache / f"debian-{digest()}.qcow2"
    if done.exists() and not fresh:
        return done
    if os.geteuid() != 0:
        raise BuildError("only root can build the Debian image")
    if shutil.which("mmdebstrap") is None:
        raise BuildError("missing here, as root run: apt-get install mmdebstrap")
    work = cache / "building-debian"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        make(work, done)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for older in cache.glob("debian-*.qcow2"):
        if older != done:
            older.unlink()
    return done


def make(work: Path, done: Path) -> None:
    """Packages → file tree → two partitions → disk → qcow2."""
    tree = work / "root"
    say("installing Debian's packages into a folder")
    run(
        "mmdebstrap", "--variant=minbase", "--mode=root", f"--include={PACKAGES}",
        "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        RELEASE, tree,
    )  # fmt: skip
    (tree / "etc/cloud/cloud.cfg.d/99-pvelite.cfg").write_text(SETTINGS)
    (tree / "etc/fstab").write_text("LABEL=root / ext4 defaults,errors=remount-ro 0 1\n")
    (tree / "etc/machine-id").write_text("")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    say("making its disk")
    menu = work / "grub.cfg"
    menu.write_text(MENU)
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    ramdisk = next((tree / "boot").glob("initrd.img-*"))
    fat = work / "boot.fat"
    fat_partition(fat, 64 * MIB, {"vmlinuz": kernel, "initrd.img": ramdisk, "grub/grub.cfg": menu})
    root = work / "root.ext4"
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", tree, root, f"{ROOT_SIZE // 1024}k")
    join(work / "disk.img", fat, root, work)
    say("compressing it")
    half = work / "half.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", work / "disk.img", half)
    half.replace(done)


def join(target: Path, fat: Path, root: Path, work: Path) -> None:
    """Boot sector, GRUB's core, then the two partitions, entered in the MBR."""
    core = work / "core.img"
    run("grub-mkimage", "-O", "i386-pc", "-p", "(,msdos1)/grub", "-o", core, *BIOS_MODULES.split())
    first = PARTITION_START // 512
    second = first + fat.stat().st_size // 512
    sector = bytearray(512)
    sector[:440] = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
    away = b"\xfe\xff\xff"
    sector[446:462] = struct.pack("<B3sB3sII", 0x80, away, 0x0C, away, first, fat.stat().st_size // 512)
    sector[462:478] = struct.pack("<B3sB3sII", 0, away, 0x83, away, second, root.stat().st_size // 512)
    sector[510:] = b"\x55\xaa"
    with target.open("wb") as image:
        image.write(sector)
        image.write(core.read_bytes())
        for place, part in ((first, fat), (second, root)):
            image.seek(place * 512)
            with part.open("rb") as source:
                shutil.copyfileobj(source, image, MIB)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="build even if the cache has it")
    options = parser.parse_args()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with only_one(cache / "debian"):
            image = build(cache, fresh=options.fresh)
    except BuildError as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"image": str(image)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
