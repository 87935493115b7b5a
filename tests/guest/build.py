#!/usr/bin/env python3
"""Build the test guest from Debian's packages and print where its pieces are, as JSON.

    python3 tests/guest/build.py [--flavour cloud|full] [--fresh]

Pieces: ``kernel``, ``initrd``, ``disk`` (BIOS, UEFI and Secure Boot), ``disk_unsigned`` (what Secure Boot
must refuse), ``iso`` (entries "live" and "install"), ``debian_iso`` (the Debian installer), ``memtest_iso``.
The full kernel (AHCI, e1000, LSI, MegaRAID, USB) boots five seconds slower than the cloud kernel under TCG.

Everything lives in ``$PVELITE_GUEST_CACHE`` (default ``~/.cache/pvelite-guest``) under a key made of these
scripts and the versions of the packages, so a second call only prints. A lock keeps two builds apart.
Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import initrd
import media
from ingredients import BuildError, check_tools, lists_changed, unpack, wanted

HERE = Path(__file__).resolve().parent
STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of progress."""
    print(f"guest [{time.monotonic() - STARTED:5.1f} s] {text}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where built guests live; outside the source tree."""
    named = os.environ.get("PVELITE_GUEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "pvelite-guest"


@contextmanager
def only_one(cache: Path) -> Iterator[None]:
    """Hold the cache's lock; a second builder waits and then finds the work done."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest_of_scripts() -> str:
    """Digest of these scripts and of what they put into the guest."""
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.name != "debian.py":
            digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def newest_build(cache: Path, kind: str) -> Path | None:
    """The last build of this flavour by these very scripts, whatever the packages' versions."""
    made = [path for path in cache.glob(f"{kind}-*") if (path / "pieces.json").exists()]
    return max(made, key=lambda path: path.stat().st_mtime, default=None)


def build(flavour: str, cache: Path, *, fresh: bool = False) -> dict[str, str]:
    """Build (or find) the guest of that kernel flavour; return piece → path."""
    kind = f"{flavour}-{digest_of_scripts()}"
    found = None if fresh else newest_build(cache, kind)
    if found is None or lists_changed() > found.stat().st_mtime:
        found = current_build(flavour, kind, cache, found, fresh=fresh)
    pieces: dict[str, str] = json.loads((found / "pieces.json").read_text())
    return {name: str(found / path) for name, path in pieces.items()}


def current_build(flavour: str, kind: str, cache: Path, older: Path | None, *, fresh: bool) -> Path:
    """The build of the packages apt offers now; an older one serves where apt offers nothing."""
    check_tools()
    try:
        files = wanted(flavour)
    except BuildError as error:
        if older is None:
            raise
        say(f"keeping the guest that is there: {error}")
        return older
    versions = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    done = cache / f"{kind}-{versions}"
    if fresh or not (done / "pieces.json").exists():
        work = cache / f"building-{flavour}"
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(done, ignore_errors=True)
        make(files, cache, work, work / "out")
        (work / "out").rename(done)
        shutil.rmtree(work)
        forget_older(cache, flavour, done)
    os.utime(done)
    return done


def make(files: dict[str, str], cache: Path, work: Path, out: Path) -> None:
    """Do the building: packages → file tree → initrd → disks → ISO images."""
    out.mkdir(parents=True)
    source, tree = work / "source", work / "tree"
    say(f"unpacking {len(files)} packages")
    unpack(files, cache / "debs", source)
    kernel, ramdisk = out / "vmlinuz", out / "initrd.img"
    shutil.copy2(initrd.kernel(source), kernel)
    say("packing the initial ram disk")
    initrd.stage(source, HERE / "rootfs", tree)
    initrd.archive(tree, ramdisk)
    say("making its disks")
    disks = media.boot_disks(source, kernel, ramdisk, work, out)
    say("making its installer ISO")
    media.guest_iso(kernel, ramdisk, disks["disk"], work, out / "guest.iso")
    say("packing the Debian installer as an ISO")
    media.debian_iso(work, out / "debian-installer.iso")
    pieces = {
        "kernel": kernel.name,
        "initrd": ramdisk.name,
        **{name: path.name for name, path in disks.items()},
        "iso": "guest.iso",
        "debian_iso": "debian-installer.iso",
        "memtest_iso": "/usr/lib/memtest86+/memtest86+x64.iso",
    }
    (out / "pieces.json").write_text(json.dumps(pieces, indent=1))
    say("done")


def forget_older(cache: Path, flavour: str, current: Path) -> None:
    """Drop builds of this flavour that no test asked for in a week."""
    for path in cache.glob(f"{flavour}-*"):
        if path != current and time.time() - path.stat().st_mtime > 7 * 86400:
            shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flavour", choices=("cloud", "full"), default="cloud", help="which Debian kernel")
    parser.add_argument("--fresh", action="store_true", help="build even if the cache has it")
    options = parser.parse_args()
    cache = cache_folder()
    try:
        with only_one(cache):
            pieces = build(options.flavour, cache, fresh=options.fresh)
    except BuildError as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
    print(json.dumps(pieces, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
