"""The guest itself: its number and name, what it boots, what Windows needs, the agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vms.config.finding import Case, Finding, is_driver_disc
from vms.hardware.boot import boot_indexes
from vms.hardware.guest import windows_version

_VIRTIO_SCSI = ("virtio-scsi-pci", "virtio-scsi-single")


def identifier(case: Case) -> Iterator[Finding]:
    """R29: the number may have been taken since the page was opened."""
    if case.vmid is None or case.vmid not in case.facts.used_ids:
        return
    free = next(number for number in range(100, 1_000_000_000) if number not in case.facts.used_ids)
    text = f"The VM ID {case.vmid} is taken by now; {free} is the next free one."
    yield Finding("R29", "block", ("vmid",), text)


def name(case: Case) -> Iterator[Finding]:
    """R28: a machine without a name is hard to find."""
    if not case.config.get("name"):
        text = "Without a name it is listed by its number only."
        fix = {"name": f"vm-{case.vmid}"} if case.vmid is not None else None
        yield Finding("R28", "info", ("name",), text, fix)


def boot(case: Case) -> Iterator[Finding]:
    """R33: something has to be bootable."""
    config = case.config
    known = {key: drive for key, _, drive in config.drives()}
    if config.get("boot") is None and config.get("bootdisk") is None:
        if not known and not any(True for _ in config.slots("net")):
            text = "There is neither a disk, a CD nor a network card: nothing to boot from."
            yield Finding("R33", "warn", ("boot",), text)
        return
    listed = boot_indexes(config)
    if not listed:
        yield Finding("R33", "warn", ("boot",), "The boot order is empty: nothing is booted.", {"boot": None})
    elif all(key in known and known[key].is_empty for key in listed):
        text = "The boot order lists only CD drives without a medium: nothing is booted."
        yield Finding("R33", "warn", ("boot",), text)


AGENT_COMMANDS = (
    "# Debian, Ubuntu\napt install qemu-guest-agent\n# Fedora, Red Hat\ndnf install qemu-guest-agent"
)
"""How the agent gets into a guest."""


def agent(case: Case) -> Iterator[Finding]:
    """R30: the agent has to be installed in the guest."""
    part = case.config.get("agent")
    if part and part.value("enabled"):
        windows = windows_version(case.config.get("ostype"))
        what = "the agent (virtio-win-guest-tools.exe, on the driver disc)" if windows else "qemu-guest-agent"
        text = f"Install {what} in the guest; until then Shutdown presses the power button."
        yield Finding("R30", "info", ("agent",), text, commands="" if windows else AGENT_COMMANDS)


def windows_drivers(case: Case) -> Iterator[Finding]:
    """R2: Windows' installer sees neither VirtIO disks nor VirtIO cards without a driver disc."""
    config, discs = case.config, case.discs()
    if not windows_version(config.get("ostype")) or not discs:
        return
    if any(is_driver_disc(drive) for _, drive in discs):
        return
    disks = [key for key, _, drive in config.drives() if not drive.is_cdrom and _needs_driver(case, key)]
    cards = [key for key, _, net in config.slots("net") if net.model == "virtio"]
    if disks or cards:
        text = (
            f"Windows has no driver for {', '.join([*disks, *cards])} and no driver disc is attached: "
            "attach one, or use SATA and Intel E1000 to install."
        )
        yield Finding("R2", "warn", (*disks, *cards), text, _plain_hardware(case, disks, cards))


def _needs_driver(case: Case, key: str) -> bool:
    by_scsi = key.startswith("scsi") and case.config.value("scsihw") in _VIRTIO_SCSI
    return by_scsi or key.startswith("virtio")


def _plain_hardware(case: Case, disks: list[str], cards: list[str]) -> dict[str, str | None] | None:
    """SATA and E1000 instead, the boot order told of it; ``None`` when SATA has too few places."""
    config = case.config
    free = [f"sata{number}" for number in range(6) if f"sata{number}" not in config]
    if len(disks) > len(free):
        return None
    moved = dict(zip(disks, free, strict=False))
    fix: dict[str, str | None] = {}
    for old, new in moved.items():
        words = config.mapping[old].split(",")
        kept = [word for word in words if not word.startswith(_NOT_ON_SATA)]
        fix |= {old: None, new: ",".join(kept)}
    for key in cards:
        fix[key] = replace(config.get(key), model="e1000", queues=None, mtu=None, host_tunnel=None).format()
    order = config.get("boot")
    if order is not None and order.order is not None:
        fix["boot"] = replace(order, order=";".join(moved.get(key, key) for key in order.devices)).format()
    return fix


_NOT_ON_SATA = ("iothread=", "queues=", "ro=", "vendor=", "product=", "scsiblock=")


def driver_disc_order(case: Case) -> Iterator[Finding]:
    """R3: a driver disc before the install disc is tried first and boots nothing."""
    order = case.config.get("boot")
    drivers = {key for key, drive in case.discs() if is_driver_disc(drive)}
    installs = {key for key, _ in case.discs()} - drivers
    devices = order.devices if order is not None else []
    places = {key: devices.index(key) for key in (*drivers, *installs) if key in devices}
    early = [d for d in drivers & places.keys() for i in installs & places.keys() if places[d] < places[i]]
    if not early:
        return
    # Disks, the install disc, the driver disc, the rest: the sort keeps the order within each.
    rank = {**dict.fromkeys(installs, 1), **dict.fromkeys(drivers, 2)}
    disks = {key for key, _, drive in case.config.drives() if not drive.is_cdrom}
    ordered = sorted(devices, key=lambda key: 0 if key in disks else rank.get(key, 3))
    text = f"{early[0]}: the driver disc comes before the install disc in the boot order."
    yield Finding("R3", "warn", ("boot",), text, {"boot": f"order={';'.join(ordered)}"})


def windows_balloon(case: Case) -> Iterator[Finding]:
    """R14: Windows gives memory back only with a driver."""
    if case.config.get("balloon") and windows_version(case.config.get("ostype")):
        text = "Windows gives memory back only after its balloon driver is installed."
        yield Finding("R14", "info", ("balloon",), text)
