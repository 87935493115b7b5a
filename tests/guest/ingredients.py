"""What the test guest is made of: Debian packages, downloaded by apt and unpacked, never installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

TOOLS = {
    "cpio": "cpio",
    "zstd": "zstd",
    "grub-mkimage": "grub-common",
    "grub-mkrescue": "grub-common",
    "mformat": "mtools",
    "xorriso": "xorriso",
}
HOST_FILES = {
    "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
    "/usr/lib/grub/x86_64-efi/moddep.lst": "grub-efi-amd64-bin",
    "/usr/lib/memtest86+/memtest86+x64.iso": "memtest86+",
    "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux": (
        "debian-installer-12-netboot-amd64"
    ),
}
LISTS = Path("/var/lib/apt/lists")
KERNELS = {"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"}
PACKAGES = (
    "busybox-static",
    "kmod",
    "qemu-guest-agent",
    "shim-signed",
    "grub-efi-amd64-signed",
)


class BuildError(Exception):
    """The guest cannot be built here; the text says what is missing."""


def run(*argv: str | Path, cwd: Path | None = None, data: bytes | None = None) -> str:
    """Run a tool, return what it printed; raise :class:`BuildError` with its own words."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, cwd=cwd, input=data, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BuildError(f"{' '.join(words)} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def check_tools() -> None:
    """Raise :class:`BuildError` naming every package that is missing on this box."""
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    missing |= {package for path, package in HOST_FILES.items() if not Path(path).exists()}
    if missing:
        raise BuildError(f"missing here, as root run: apt-get install {' '.join(sorted(missing))}")


def lists_changed() -> float:
    """When apt's package lists last changed (Unix time); what apt offers is the same until then."""
    return max((path.stat().st_mtime for path in LISTS.glob("*Packages*")), default=0.0)


def update_lists() -> None:
    """Fetch the package lists where there are none at all and we may."""
    if not any(LISTS.glob("*Packages*")) and os.geteuid() == 0:
        run("apt-get", "-q", "update")


def kernel_package(flavour: str) -> str:
    """Name of the package the ``cloud`` or ``full`` kernel metapackage stands for today."""
    depends = run("apt-cache", "depends", KERNELS[flavour])
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise BuildError(f"apt knows no {KERNELS[flavour]}; as root run: apt-get update")
    return found.group(1)


def wanted(flavour: str) -> dict[str, str]:
    """Package name → file name with its version, as apt would download it now."""
    update_lists()
    names = [kernel_package(flavour), *PACKAGES]
    lines = run("apt-get", "download", "--print-uris", *names).splitlines()
    files = {line.split()[1].split("_")[0]: line.split()[1] for line in lines if line.startswith("'")}
    absent = set(names) - set(files)
    if absent:
        raise BuildError(f"apt cannot download {', '.join(sorted(absent))}; as root run: apt-get update")
    return files


def unpack(files: dict[str, str], debs: Path, root: Path) -> None:
    """Download what ``debs`` does not hold yet and unpack everything into ``root``."""
    debs.mkdir(parents=True, exist_ok=True)
    missing = [name for name, file in files.items() if not (debs / file).exists()]
    if missing:
        run("apt-get", "download", *missing, cwd=debs)
    root.mkdir(parents=True, exist_ok=True)
    for file in files.values():
        run("dpkg-deb", "-x", debs / file, root)


def libraries(program: Path) -> list[Path]:
    """Every shared library ``program`` is linked with, as found on this box."""
    listing = run("ldd", program)
    lost = re.findall(r"(\S+) => not found", listing)
    if lost:
        raise BuildError(f"{program.name} needs {', '.join(lost)}: install qemu-system-x86")
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listing)]
