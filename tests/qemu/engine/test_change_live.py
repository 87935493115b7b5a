"""A running guest is changed through the real worker; it says itself what it sees."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from enginekit import ISO, Engine, until
from guestkit.media import Media

if TYPE_CHECKING:
    from vms.models import VM, Task

BOOT = 120
CONFIG = {
    "name": "live", "ostype": "l26", "machine": "q35", "memory": "1024", "numa": "1", "cores": "2",
    "sockets": "1", "vcpus": "1", "hotplug": "network,disk,usb,cpu,memory", "agent": "1", "shares": "0",
    "balloon": "1024", "scsihw": "virtio-scsi-single", "scsi0": "local:1", "ide2": "none,media=cdrom",
    "net0": "virtio=BC:24:11:00:00:01", "boot": "order=scsi0;ide2",
    "vga": "qxl", "tablet": "1",
}  # fmt: skip
MACS = "cat /sys/class/net/*/address"
HOT_WORDS = "memhp_default_state=online_movable"


class Inside:
    """A shell inside the guest, and its QEMU's own account, for a test that does not run on a loop."""

    def __init__(self, engine: Engine, vmid: int) -> None:
        self.folder = engine.run_dir / "vm" / str(vmid)

    def shell(self, script: str, within: float = 30) -> str:
        """What a line of shell printed in the guest; a failure in there fails the test."""
        return asyncio.run(self._run(script, within))

    async def _run(self, script: str, within: float) -> str:
        from guestkit.waiting import eventually

        from vms.qemu.agent import Agent

        agent = Agent(self.folder / "agent" / "qga.sock")
        pid = await agent.run(["/bin/sh", "-ec", script])

        async def ended() -> Any:
            status = await agent.run_status(pid)
            return status if status.exited else None

        status = await eventually(ended, f"'{script}' in the guest to end", timeout=within, poll=0.05)
        said = status.stdout.decode(errors="replace")
        assert status.exit_code == 0, f"{script}: {status.exit_code}\n{said}{status.stderr!r}"
        return said

    def says(self, script: str, words: str, within: float = 30) -> str:
        """Wait until that line of shell prints ``words``."""

        def said() -> str:
            found = self.shell(script)
            return found if words in found else ""

        return str(until(said, f"{script}: {words}", within))

    def disk(self, serial: str) -> str:
        """The name of the disk with that serial number, once the guest has it."""
        script = (
            "for disk in /sys/block/[sv]d*; do (cat $disk/serial; tail -c +5 $disk/device/vpd_pg80)"
            f" 2>/dev/null | grep -q {serial} && basename $disk; done; true"
        )
        return str(until(lambda: self.shell(script).strip(), f"the guest sees disk {serial}"))

    def ask(self, command: str, **arguments: Any) -> Any:
        """A QMP command on the operators' socket."""

        async def asked() -> Any:
            from vms.qemu.monitor import Monitor

            monitor = await Monitor.connect(self.folder / "qmp" / "qmp-ops.sock")
            try:
                return await monitor.execute(command, arguments or None)
            finally:
                await monitor.close()

        return asyncio.run(asked())

    def plugged(self) -> set[str]:
        """The ids of QEMU's devices."""
        found = self.ask("qom-list", path="/machine/peripheral")
        return {entry["name"] for entry in found if entry["type"].startswith("child<")}

    def nodes(self) -> set[str]:
        """The names of the top block nodes."""
        names = {node["node-name"] for node in self.ask("query-named-block-nodes", flat=True)}
        return {name for name in names if name.startswith("drive-")}


def boot_words(engine: Engine, media: Media, words: str = "") -> str:
    """``args`` that boot the test guest's kernel directly."""
    for path in (media.kernel, media.initrd):
        shutil.copy(path, engine.home / path.name)
        (engine.home / path.name).chmod(0o644)
    argv = media.direct_boot(words)
    argv[1], argv[3] = (str(engine.home / path.name) for path in (media.kernel, media.initrd))
    return shlex.join(argv)


def agent_up(engine: Engine, vm: VM) -> None:
    def up() -> bool:
        vm.refresh_from_db()
        return bool(vm.agent.get("up"))

    until(up, "the guest's agent is up", BOOT)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def bridges() -> Iterator[tuple[str, str]]:
    """Two bridges of the module's own."""
    names = (f"pvc{os.getpid() % 100000}", f"pvd{os.getpid() % 100000}")
    for name in names:
        ip("link", "add", name, "type", "bridge")
        ip("link", "set", name, "up")
    yield names
    for name in names:
        ip("link", "del", name)


@pytest.fixture(scope="module")
def guest(installation: Engine, guest_media: Media, bridges: Any) -> tuple[Engine, VM, Inside]:
    """One guest for all of this module's tests."""
    installation.start_redis()
    installation.start()
    args = boot_words(installation, guest_media, HOT_WORDS)
    vm = installation.draft(CONFIG | {"args": args}, 100)
    installation.do("qmcreate", vm)
    shutil.copy(ISO, installation.home / "local" / "template" / "iso" / "memtest.iso")
    from vms.operations.base import submit_on

    installation.end(submit_on("storagescan", node=installation.node, user=None))
    installation.do("qmstart", vm)
    agent_up(installation, vm)
    return installation, vm, Inside(installation, 100)


def changed(engine: Engine, vm: VM, within: float = 60, **wish: Any) -> Task:
    """Change the VM and insist that it went well; fresh rows."""
    from vms.models.configuration import with_parts
    from vms.operations.configure import change

    task = engine.end(change(vm, None, **wish), within)
    told = "\n".join([task.message, *(line.text for line in task.lines.all())])
    assert task.status == "ok", told
    vm.__dict__.update(with_parts(type(vm).everything.filter(pk=vm.pk)).get().__dict__)
    return task


def config(vm: VM) -> Mapping[str, str]:
    from vms.models.configuration import config_of, with_parts

    return config_of(with_parts(type(vm).everything.filter(pk=vm.pk)).get())


def test_a_disk_comes_and_goes_and_comes_back(guest: Any) -> None:
    """Plugged while running, written, detached, attached to another bus: what was written is there."""
    engine, vm, inside = guest
    changed(engine, vm, set={"scsi1": "local:1,serial=SECOND"})
    assert config(vm)["scsi1"] == "local:100/vm-100-disk-1.qcow2,serial=SECOND,size=1G"
    assert vm.pending == {}
    assert {"scsi1", "virtioscsi1"} <= inside.plugged()
    disk = inside.disk("SECOND")
    inside.shell(f"echo pattern-of-the-test | dd of=/dev/{disk} bs=512 seek=100 conv=fsync")
    engine.do("qmmove", vm, disk="scsi1", storage="local", format="raw", delete="1")
    assert inside.nodes() == {"drive-scsi0", "drive-scsi1-1"}, "a moved disk lies on nodes of other names"
    changed(engine, vm, delete=["scsi1"])
    assert config(vm)["unused0"] == "local:100/vm-100-disk-2.raw"
    assert not {"scsi1", "virtioscsi1"} & inside.plugged()
    assert inside.nodes() == {"drive-scsi0"}
    inside.shell("modprobe virtio_blk")
    changed(engine, vm, set={"virtio2": "local:100/vm-100-disk-2.raw,serial=BACK"})
    assert "unused0" not in config(vm)
    disk = inside.disk("BACK")
    assert "pattern-of-the-test" in inside.shell(f"dd if=/dev/{disk} bs=512 skip=100 count=1 2>/dev/null")
    changed(engine, vm, delete=["virtio2"], force=True)
    assert engine.images() == ["100/vm-100-disk-0.qcow2"]
    assert not [key for key in config(vm) if key.startswith("unused")]


def test_a_boot_disk_stays(guest: Any) -> None:
    """Its removal waits; reverted, nothing is left of the wish."""
    from vms.operations.configure import change

    engine, vm, inside = guest
    task = engine.end(change(vm, None, delete=["scsi0"]))
    assert task.status == "error"
    assert "hotplug problem - can't unplug bootdisk 'scsi0'" in task.message
    vm.refresh_from_db()
    assert vm.pending == {"scsi0": None}
    changed(engine, vm, revert=["scsi0"])
    assert vm.pending == {}
    assert "scsi0" in inside.plugged()


def test_a_medium_is_changed(guest: Any) -> None:
    """In and out; and a drive that cannot be plugged waits."""
    engine, vm, inside = guest
    changed(engine, vm, set={"ide2": "local:iso/memtest.iso,media=cdrom"})
    [drive] = [entry for entry in inside.ask("query-block") if entry["qdev"].endswith("ide2")]
    assert "/iso/memtest.iso" in drive["inserted"]["image"]["filename"]
    assert (drive["inserted"]["ro"], drive["tray_open"]) == (True, False)
    changed(engine, vm, set={"ide2": "none,media=cdrom"})
    assert "drive-ide2" not in inside.nodes()
    changed(engine, vm, set={"sata5": "none,media=cdrom"})
    assert vm.pending == {"sata5": "none,media=cdrom", "boot": "order=scsi0;ide2;sata5"}
    changed(engine, vm, revert=["sata5", "boot"])
    assert vm.pending == {}


def test_limits_of_a_drive(guest: Any) -> None:
    """Told to QEMU at once, both when they come and when they go."""
    engine, vm, inside = guest
    drive = config(vm)["scsi0"]

    def limits() -> Any:
        found = inside.ask("qom-get", path="/objects/throttle-drive-scsi0", property="limits")
        return found["bps-write"], found["bps-write-max"], found["iops-total"]

    changed(engine, vm, set={"scsi0": f"{drive},mbps_wr=5,mbps_wr_max=8,iops=100"})
    assert limits() == (5 << 20, 8 << 20, 100)
    changed(engine, vm, set={"scsi0": drive})
    assert limits() == (0, 0, 0)
    assert config(vm)["scsi0"] == drive
    changed(engine, vm, set={"scsi0": f"{drive},cache=writeback,iops=7"})
    assert limits() == (0, 0, 0)
    assert list(vm.pending) == ["scsi0"]
    changed(engine, vm, revert=["scsi0"])


def test_cards(guest: Any) -> None:
    """A cable pulled and plugged, a second card, another model, none."""
    engine, vm, inside = guest
    changed(engine, vm, set={"net0": "virtio=BC:24:11:00:00:01,link_down=1"})
    inside.says("cat /sys/class/net/eth0/carrier", "0")
    changed(engine, vm, set={"net0": "virtio=BC:24:11:00:00:01"})
    inside.says("cat /sys/class/net/eth0/carrier", "1")
    changed(engine, vm, set={"net1": "virtio=BC:24:11:00:00:02"})
    inside.says(MACS, "bc:24:11:00:00:02")
    inside.shell("modprobe vmxnet3")
    changed(engine, vm, set={"net1": "vmxnet3=BC:24:11:00:00:02"})
    inside.says("ls /sys/bus/pci/drivers/vmxnet3", "0000:")
    changed(engine, vm, delete=["net1"])
    assert "net1" not in inside.plugged()
    assert "net1" not in config(vm)
    assert vm.launch["config"]["net0"] == "virtio=BC:24:11:00:00:01"
    assert "net1" not in vm.launch["config"]


def test_a_card_on_a_bridge(guest: Any, bridges: tuple[str, str]) -> None:
    """Plugged in with a tap of its own, moved to another bridge, slowed down, pulled out."""
    engine, vm, inside = guest
    tap, beside = Path("/sys/class/net/tap100i7"), Path("/sys/class/net/ifb100i7")
    card = "virtio=BC:24:11:00:00:07,bridge="
    changed(engine, vm, set={"net7": card + bridges[0]})
    inside.says(MACS, "bc:24:11:00:00:07")
    assert (tap / "master").resolve().name == bridges[0]
    changed(engine, vm, set={"net7": f"{card}{bridges[1]},rate=5"})
    assert (tap / "master").resolve().name == bridges[1]
    assert beside.exists()
    changed(engine, vm, delete=["net7"])
    assert not tap.exists()
    assert not beside.exists()


def test_processors(guest: Any) -> None:
    """One more, one less: under emulation the guest switches it off, QEMU keeps it till the next start."""
    engine, vm, inside = guest
    online = "cat /sys/devices/system/cpu/online"
    changed(engine, vm, set={"vcpus": "2"})
    inside.says(online, "0-1")
    assert config(vm)["vcpus"] == "2"
    changed(engine, vm, set={"vcpus": "1"})
    assert inside.shell(online).strip() == "0"
    assert "cpu2" in inside.plugged()
    assert (config(vm)["vcpus"], vm.pending) == ("2", {"vcpus": "1"})
    changed(engine, vm, set={"vcpus": "2"})
    assert vm.pending == {}
    inside.says(online, "0-1")
    changed(engine, vm, delete=["vcpus"])
    assert "vcpus" not in config(vm)


def test_memory(guest: Any) -> None:
    """Two modules come; what the guest lets go of goes."""
    engine, vm, inside = guest
    kib = "awk '/^MemTotal/ {print $2}' /proc/meminfo"
    before = int(inside.shell(kib))
    changed(engine, vm, set={"memory": "2048"})
    assert inside.ask("query-memory-size-summary")["plugged-memory"] == 1 << 30
    until(lambda: int(inside.shell(kib)) - before > 900 << 10, "the guest uses its new memory")
    changed(engine, vm, set={"memory": "1024"}, within=120)
    assert inside.ask("query-memory-size-summary").get("plugged-memory", 0) == 0
    assert config(vm)["memory"] == "1024"


def test_balloon(guest: Any) -> None:
    engine, vm, inside = guest
    changed(engine, vm, set={"balloon": "512"})
    until(lambda: inside.ask("query-balloon")["actual"] == 512 << 20, "the guest gives memory back")
    changed(engine, vm, set={"balloon": "1024"})
    until(lambda: inside.ask("query-balloon")["actual"] == 1 << 30, "the guest has it again")


def test_a_usb_device_of_a_viewer(guest: Any) -> None:
    """It brings its controller, which stays empty-handed no longer than it."""
    engine, vm, inside = guest
    changed(engine, vm, set={"usb0": "spice"})
    assert {"xhci", "usbredirdev0"} <= inside.plugged()
    changed(engine, vm, delete=["usb0"])
    assert not {"xhci", "usbredirdev0"} & inside.plugged()


def test_the_pointer(guest: Any) -> None:
    engine, vm, inside = guest
    assert "tablet" in inside.plugged()
    changed(engine, vm, set={"tablet": "0"})
    assert "tablet" not in inside.plugged()
    changed(engine, vm, set={"tablet": "1"})
    assert "tablet" in inside.plugged()


def test_a_share_of_cpu_time(guest: Any) -> None:
    """Half a CPU and double weight, read back from the kernel."""
    from vms.host import cgroup

    engine, vm, _ = guest
    changed(engine, vm, set={"cpulimit": "0.5", "cpuunits": "200"})
    found = cgroup.read(engine.run_dir, 100)
    assert found.pop("cgroup.procs").split() == [str(engine.qemus()[100])]
    assert {"cpu.shares": "200", "cpu.cfs_quota_us": "50000"}.items() <= found.items() or found == {
        "cpu.weight": "200", "cpu.max": "50000 100000"
    }  # fmt: skip
    changed(engine, vm, delete=["cpulimit", "cpuunits"])
    assert cgroup.read(engine.run_dir, 100).get("cpu.cfs_quota_us", "-1") == "-1"


def test_what_waits_is_applied_when_the_guest_ends(guest: Any) -> None:
    """Not by a reset; by stop, with the removal of a disk and its volume."""
    engine, vm, _ = guest
    changed(engine, vm, set={"sata1": "local:1"})
    assert engine.images() == ["100/vm-100-disk-0.qcow2", "100/vm-100-disk-1.qcow2"]
    changed(engine, vm, set={"cores": "1", "vcpus": "1", "ostype": "other"})
    changed(engine, vm, set={"sata2": "local:cloudinit,media=cdrom"})
    assert len(engine.images()) == 3
    changed(engine, vm, revert=["sata2"])
    assert len(engine.images()) == 2, "nobody misses a cloud-init drive that never was"
    engine.do("qmreset", vm)
    assert set(vm.pending) == {"sata1", "cores", "vcpus", "ostype"}
    engine.do("qmstop", vm)
    assert vm.pending == {}
    assert config(vm)["cores"] == "1"
    assert config(vm)["sata1"] == "local:100/vm-100-disk-1.qcow2,size=1G"
    engine.do("qmstart", vm)
    changed(engine, vm, delete=["sata1"], force=True)
    assert vm.pending == {"!sata1": None}
    engine.do("qmstop", vm)
    assert (vm.pending, engine.images()) == ({}, ["100/vm-100-disk-0.qcow2"])
    assert "sata1" not in config(vm)
