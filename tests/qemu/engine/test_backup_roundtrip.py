"""There and back: a guest writes while it is backed up; what is restored boots and holds all of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from backupkit import archive, digest, raw, unpacked
from diskkit import config, lines
from enginekit import Engine, until
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper
from restorekit import done, nothing_left, restore
from test_under_writes import LINES, NAMES, begin, kept, volume, whole

from vms.models import VM

READ = f"""
modprobe -a virtio_scsi sd_mod ext4
until [ -b /dev/sda ]; do sleep 0.1; done
mkdir -p /data
mount -t ext4 /dev/sda /data
awk 'FNR == 1 {{ first[FILENAME] = $0 }} $0 != first[FILENAME] {{ bad = 1 }} {{ lines[FILENAME] = FNR }}
END {{ n = 0
for (name in lines) {{ n++; if (lines[name] != {LINES}) bad = 1 }}
exit bad || n != {NAMES} }}' \
  $(ls -d /data/p*)
"""


def test_there_and_back(engine: Engine, guest_media: Media, warm_state: Path, tmp_path: Path) -> None:
    vm = sleeper(engine, guest_media, warm_state, 100, {"scsihw": "virtio-scsi-single"})
    engine.do("qmstart", vm)
    begin(engine, vm)
    task = engine.do("vzdump", vm, 90, compress="zstd")
    assert task.status == "ok", lines(task)
    whole(engine)
    kept_in = archive(engine, task)
    volid = f"local:backup/{kept_in.name}"

    # Under another number: it boots, and reads what the first one wrote.
    copy = done(engine, restore(engine, volid, 101, unique="1"))
    members = unpacked(kept_in, tmp_path / "members")
    assert digest(raw(engine, copy, "scsi0", tmp_path / "raw")) == digest(members["scsi0.raw"])
    kept(engine, volume(copy), calm=True)
    assert config(copy)["args"] == config(vm)["args"]
    engine.do("qmstart", copy, 90)
    until(lambda: agent_up(copy), "the restored guest's agent is up", 120)
    inside(engine, 101, READ)
    whole(engine)
    engine.do("qmstop", copy)

    # Over it, from a backup of the first one switched off: every byte the same.
    engine.do("qmstop", vm)
    task = engine.do("vzdump", vm, 90, compress="0")
    off = f"local:backup/{archive(engine, task).name}"
    copy = done(engine, restore(engine, off, 101, unique="1", force="1"))
    same = ["qemu-img", "compare", "-f", "raw", "-F", "raw"]
    disks = [raw(engine, one, "scsi0", tmp_path / f"{one.vmid}.raw") for one in (vm, copy)]
    assert subprocess.run([*same, *map(str, disks)]).returncode == 0
    assert digest(disks[0]) == digest(disks[1])
    kept(engine, volume(copy))
    nothing_left(engine)


def agent_up(vm: VM) -> bool:
    vm.refresh_from_db()
    return bool(vm.agent.get("up"))
