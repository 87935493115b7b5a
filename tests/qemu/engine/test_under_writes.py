"""A guest that writes a pattern, and everything that is done to its disk meanwhile: none of it is harmed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from clonekit import clone, made
from diskkit import config, path_of, second
from enginekit import Engine
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper

from vms.models import VM
from vms.operations.base import submit_on
from vms.operations.configure import change

LINES, NAMES = 256, 12
"""What each file of the pattern holds: its number so many times. Files take the names in turn."""
WRITER = f"""
modprobe -a virtio_scsi sd_mod ext4
until [ -b /dev/sda ]; do sleep 0.1; done
mkdir -p /data
mount -t ext4 /dev/sda /data
cat >/tmp/writer <<'END'
n=0
while :; do
n=$((n+1))
yes $n | head -n {LINES} | dd of=/data/new conv=fsync 2>/dev/null
mv /data/new /data/p$((n % {NAMES}))
echo $n >/tmp/n && mv /tmp/n /tmp/count
done
END
setsid sh /tmp/writer </dev/null >/dev/null 2>&1 &
until [ -s /tmp/count ] && [ $(cat /tmp/count) -gt {NAMES} ]; do sleep 0.05; done
"""
WHOLE = f"""
before=$(cat /tmp/count)
until [ $(cat /tmp/count) -gt $((before + 3)) ]; do sleep 0.05; done
awk 'FNR == 1 {{ first[FILENAME] = $0 }} $0 != first[FILENAME] {{ bad = 1 }} {{ lines[FILENAME] = FNR }}
END {{ for (name in lines) if (lines[name] != {LINES}) bad = 1; exit bad }}' $(ls -d /data/p*)
"""


def whole(engine: Engine) -> None:
    """The guest goes on writing, and reads what it wrote."""
    inside(engine, 100, WHOLE)


def kept(engine: Engine, volid: str, *, calm: bool = False) -> None:
    """The file system on a disk nobody writes is in order, and so is every file of the pattern.

    ``calm``: it was left so, as after a freeze; otherwise as after a power cut, and its journal
    tells the rest.
    """
    raw, out = engine.home / "looked-at.raw", engine.home / "looked-at"
    path = path_of(volid)
    convert = ["qemu-img", "convert", "-U", "-f", path.suffix[1:], "-O", "raw", str(path), str(raw)]
    subprocess.run(convert, check=True)
    if not calm:
        mended = subprocess.run(["e2fsck", "-p", raw], capture_output=True, text=True)
        assert mended.returncode in (0, 1), mended.stdout
    found = subprocess.run(
        ["e2fsck", "-fn", raw], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert found.returncode == 0, found.stdout
    assert "journal" not in found.stdout, found.stdout
    out.mkdir(exist_ok=True)
    subprocess.run(["debugfs", "-R", f"rdump / {out}", raw], check=True, capture_output=True)
    files = sorted(file for file in out.iterdir() if re.fullmatch(r"p\d+", file.name))
    assert len(files) == NAMES
    for file in files:
        words = file.read_text().split()
        assert len(words) == LINES
        assert len(set(words)) == 1
    subprocess.run(["rm", "-r", raw, out], check=True)


def volume(vm: VM, key: str = "scsi0") -> str:
    return config(vm)[key].partition(",")[0]


def test_the_pattern_holds_under_every_operation(
    engine: Engine, guest_media: Media, warm_state: Path
) -> None:
    second(engine)
    vm = sleeper(engine, guest_media, warm_state, 100, {"scsihw": "virtio-scsi-single"})
    engine.do("qmstart", vm)
    begin(engine, vm)
    snapshots(engine, vm)
    disks(engine, vm)
    asleep(engine, vm)
    off(engine, vm)


def begin(engine: Engine, vm: VM) -> None:
    """A file system that was made outside is imported, plugged in and written to."""
    image = engine.home / "local" / "import" / "pattern.raw"
    image.parent.mkdir(exist_ok=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", image, "48M"], check=True)
    image.chmod(0o644)
    engine.end(submit_on("storagescan", node=engine.node, user=None))
    engine.do("importdisk", vm, source="local:import/pattern.raw", storage="local", format="qcow2")
    task = engine.end(change(vm, None, set={"scsi0": volume(vm, "unused0")}))
    assert task.status == "ok", task.message
    inside(engine, 100, WRITER)
    whole(engine)


def snapshots(engine: Engine, vm: VM) -> None:
    """With and without memory, back to both, a clone of one, and both deleted."""
    engine.do("qmsnapshot", vm, 60, snapname="calm")
    whole(engine)
    kept(engine, volume(made(engine, clone(engine, vm, 101, full="1", snapname="calm"))), calm=True)
    engine.do("qmsnapshot", vm, 60, snapname="ram", vmstate="1")
    whole(engine)
    engine.do("qmrollback", vm, 60, snapname="ram")
    whole(engine)
    engine.do("qmrollback", vm, 60, snapname="calm")
    kept(engine, volume(vm), calm=True)
    engine.do("qmrollback", vm, 60, snapname="ram")
    whole(engine)
    for name in ("calm", "ram"):
        engine.do("qmdelsnapshot", vm, 60, snapname=name)
        whole(engine)


def disks(engine: Engine, vm: VM) -> None:
    """It grows, moves to another storage and format and back, and is copied."""
    engine.do("resize", vm, disk="scsi0", size="+16M")
    whole(engine)
    assert inside(engine, 100, "cat /sys/block/sda/size").strip() == str(64 << 11)
    engine.do("qmmove", vm, 60, disk="scsi0", storage="second", format="raw", delete="1")
    whole(engine)
    engine.do("qmmove", vm, 60, disk="scsi0", storage="local", format="qcow2", delete="1")
    whole(engine)
    kept(engine, volume(made(engine, clone(engine, vm, 102, full="1"))), calm=True)
    whole(engine)


def asleep(engine: Engine, vm: VM) -> None:
    """Paused, hibernated, and the worker killed: it goes on each time."""
    engine.do("qmpause", vm)
    engine.do("qmresume", vm)
    whole(engine)
    engine.do("qmsuspend", vm, 60)
    kept(engine, volume(vm))
    engine.do("qmstart", vm, 60)
    whole(engine)
    engine.kill()
    engine.start()
    whole(engine)


def off(engine: Engine, vm: VM) -> None:
    """Switched off; on another bus, with another machine, a template with a clone, in the trash and back."""
    engine.do("qmstop", vm)
    kept(engine, volume(vm))
    engine.end(change(vm, None, delete=["scsi0"]))
    engine.end(change(vm, None, set={"sata3": volume(vm, "unused0")}))
    kept(engine, volume(vm, "sata3"))
    other = engine.vm({"name": "other", "ostype": "l26", "memory": "64"}, 103)
    params = {"disk": "sata3", "target_vmid": "103", "target_disk": "virtio0"}
    engine.do("qmmove", vm, **params)
    engine.do("qmtemplate", other)
    kept(engine, volume(made(engine, clone(engine, other, 104)), "virtio0"))
    engine.end(engine.submit("qmdestroy", VM.objects.get(vmid=104), now="1"))
    engine.end(engine.submit("qmdestroy", other))
    engine.end(engine.submit("qmundestroy", VM.everything.get(vmid=103)))
    kept(engine, volume(other, "virtio0"))
