"""A warm template of a Debian guest: its clone does not boot, and is what its own cloud-init settings say.

Minutes in software, so only on request: ``./up test -m slow tests/qemu/cloudinit``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from clonekit import clone, config, made
from enginekit import Engine
from snapkit import lines
from test_debian import BOOT, KEY, bring, debian, told

from vms.operations import configure
from vms.qemu.agent import Agent

__all__ = ["debian"]

OTHER = KEY.replace("ada@desk", "grace@ship")
CONFIG = {
    "name": "gold", "ostype": "l26", "memory": "768", "agent": "1", "machine": "q35", "cores": "2",
    "scsihw": "virtio-scsi-single", "serial0": "socket", "vmgenid": "1",
    "scsi0": "local:0,import-from=local:import/debian-12.qcow2", "scsi1": "local:cloudinit,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:0B", "ipconfig0": "ip=10.0.2.77/24,gw=10.0.2.2", "ciuser": "ada",
    "sshkeys": quote(KEY, safe=""), "ciupgrade": "0",
}  # fmt: skip
FOR_GRACE = {"ciuser": "grace", "sshkeys": quote(OTHER, safe=""), "ipconfig0": "ip=10.0.2.88/24,gw=10.0.2.2"}
ASK = (
    "cloud-init status; hostname; cat /etc/hostname; id -un grace; cat /home/grace/.ssh/authorized_keys; "
    "ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/address; cat /run/cloud-init/result.json; "
    "systemctl is-system-running; ls /home; echo end"
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_warm_clone_takes_its_own_settings(engine: Engine, debian: Path) -> None:
    """Name, account, key and address are the clone's; nothing is left of the template's."""
    bring(engine, debian)
    vm = engine.draft(CONFIG, 900)
    engine.do("qmcreate", vm, within=120)
    engine.do("qmtemplate", vm)
    engine.do("qmwarm", vm, within=900)
    assert configure.change(vm, None, set=FOR_GRACE).finished
    task = clone(engine, vm, 101, warm="1", name="ship")
    engine.end(task, 600)
    assert task.status == "ok", f"{task.message}\n{lines(task)}"
    assert "guest: cloud-init: settings applied" in lines(task)
    copy = made(engine, task)
    said = asyncio.run(told(Agent(engine.run_dir / "vm" / "101" / "agent" / "qga.sock"), ASK, BOOT))
    assert said.startswith("status: done\nship\nship\ngrace\n"), said
    assert OTHER in said
    assert "10.0.2.88/24" in said
    assert "default via 10.0.2.2" in said
    assert config(copy)["net0"].partition(",")[0].partition("=")[2].lower() in said
    assert "DataSourceNoCloud" in said
    assert "\nrunning\n" in said
    for other in ("ada", "10.0.2.77"):
        assert other not in said, said
