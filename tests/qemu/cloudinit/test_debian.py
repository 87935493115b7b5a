"""A Debian cloud image becomes the machine its creator asked for: name, account, key, address, vendor data.

The image is built once and kept with the test guest. In software it boots in about a minute, so it boots
once: the config drive is given to the running guest, whose cloud-init looks again.
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pycdlib
import pytest
from enginekit import Engine, until

from vms.qemu.agent import Agent

if TYPE_CHECKING:
    from vms.models import VM

BUILDER = Path(__file__).resolve().parents[2] / "guest" / "debian.py"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6o0t1T0m6Xx8S0o0m0sB1b0o0m0sB1b0o0m0sB1b0o ada@desk"
BOOT = 480
"""Seconds on a crowded box, where software is ten times slower; an idle one needs seventy."""


@pytest.fixture(scope="module")
def debian() -> Path:
    """The image; its builder says what is missing."""
    done = subprocess.run([sys.executable, str(BUILDER)], stdout=subprocess.PIPE, check=False, timeout=600)
    assert done.returncode == 0, f"the Debian image cannot be built: run {BUILDER} to see why"
    return Path(json.loads(done.stdout)["image"])


async def told(agent: Agent, script: str, seconds: float) -> str:
    """What a line of shell prints in the guest, once its agent answers."""
    async with asyncio.timeout(seconds):
        while not await agent.ping(1):
            await asyncio.sleep(0.5)
        pid = await agent.run(["/bin/sh", "-c", script])
        while not (status := await agent.run_status(pid)).exited:
            await asyncio.sleep(0.5)
    return status.stdout.decode()


VENDOR = """#cloud-config
write_files:
  - path: /etc/from-the-vendor
    content: hello
"""
ASK = (
    "cloud-init status --wait; hostname -f; id -un ada; cat /home/ada/.ssh/authorized_keys; "
    "grep ^ada: /etc/shadow; ip -4 -o addr show eth0; ip route; cat /run/cloud-init/result.json; "
    "cat /etc/from-the-vendor; echo; cat /etc/resolv.conf /etc/netplan/50-cloud-init.yaml; "
    "grep -c dist-upgrade /var/log/cloud-init.log"
)
LOOK_AGAIN = (
    "echo 'cloud_init_modules: [users-groups]' >/etc/cloud/cloud.cfg.d/99-quick.cfg; "
    "blkid -o value -s LABEL /dev/sr0; cloud-init clean --logs; rm -f /run/cloud-init/cloud.cfg; "
    "cloud-init init --local; cat /var/lib/cloud/instance/datasource /etc/netplan/50-cloud-init.yaml; "
    "basename $(readlink /var/lib/cloud/instance); cloud-init init; id -un grace"
)
"""What cloud-init does at a boot about network and accounts, with what was found at this one forgotten."""


@pytest.mark.timeout(900)
def test_a_debian_guest_is_what_was_asked_for(engine: Engine, debian: Path) -> None:
    from vms.models.configuration import config_of
    from vms.operations import snippets

    bring(engine, debian)
    snippets.save(engine.storage, "vendor.yaml", "vendor", VENDOR, None, base=0)
    vm = engine.draft(
        {"name": "shop", "searchdomain": "example.org", "ostype": "l26", "memory": "768", "agent": "1",
         "machine": "q35", "cores": "2", "scsihw": "virtio-scsi-single", "serial0": "socket",
         "scsi0": "local:0,import-from=local:import/debian-12.qcow2", "scsi1": "local:cloudinit,media=cdrom",
         "net0": "virtio=BC:24:11:00:00:0B", "ipconfig0": "ip=10.0.2.77/24,gw=10.0.2.2",
         "nameserver": "10.0.2.3", "ciuser": "ada", "cipassword": "geheim", "ciupgrade": "0",
         "sshkeys": quote(KEY, safe=""), "cicustom": "vendor=local:snippets/vendor.yaml"}
    )  # fmt: skip
    task = engine.do("qmcreate", vm, within=120, start="1")
    assert task.status == "ok", "\n".join(line.text for line in task.lines.all())
    socket = engine.run_dir / "vm" / str(vm.vmid) / "agent" / "qga.sock"
    until(socket.exists, "the agent's socket", 10)
    found = asyncio.run(told(Agent(socket), ASK, BOOT))
    assert "status: done" in found, found
    assert "shop.example.org" in found
    assert KEY in found
    assert f"ada:{config_of(vm)['cipassword']}:" in found
    assert "10.0.2.77/24" in found
    assert "default via 10.0.2.2" in found
    assert "10.0.2.3" in found
    assert "DataSourceNoCloud" in found
    assert "\nhello\n" in found
    assert found.splitlines()[-1] == "0", "no upgrade was asked for"
    _config_drive(engine, vm, socket)
    engine.do("qmstop", vm)


def bring(engine: Engine, debian: Path) -> None:
    """Put the image into the library."""
    from vms.models import Volume
    from vms.operations.base import submit_on

    folder = engine.home / "local" / "import"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "debian-12.qcow2").write_bytes(debian.read_bytes())
    (folder / "debian-12.qcow2").chmod(0o644)
    engine.end(submit_on("storagescan", node=engine.node, user=None, params={"storage": "local"}))
    assert Volume.objects.get(content="import").format == "qcow2"


def _config_drive(engine: Engine, vm: VM, socket: Path) -> None:
    """The same guest is given a config drive while it runs, and obeys that."""
    from vms.operations import configure

    change = {"citype": "configdrive2", "ipconfig0": "ip=10.0.2.88/24,gw=10.0.2.2", "ciuser": "grace"}
    configure.change(vm, None, set=change)
    engine.do("qmcloudinit", vm)
    found = asyncio.run(told(Agent(socket), LOOK_AGAIN, BOOT))
    assert found.startswith("config-2\n")
    assert "DataSourceConfigDrive" in found, found
    assert found.splitlines()[-1] == "grace", found
    assert "10.0.2.88/24" in found
    assert "bc:24:11:00:00:0b" in found
    image = pycdlib.PyCdlib()
    image.open(str(engine.home / "local" / "images" / str(vm.vmid) / f"vm-{vm.vmid}-cloudinit.raw"))
    target = io.BytesIO()
    image.get_file_from_iso_fp(target, joliet_path="/openstack/latest/meta_data.json")
    image.close()
    meta = json.loads(target.getvalue())
    assert f"\n{meta['uuid']}\n" in found
    assert (meta["hostname"], "admin_pass" in meta) == ("shop", False)
