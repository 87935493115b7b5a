"""What a start needs besides the configuration: the node's facts, paths, opened taps.

All plain values, so that building a command stays pure and can be shown before anything is started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from vms.schema.propstring import PropertyString


class ConfigView(Protocol):
    """How hardware modules see the configuration (``vms.config.vmconfig.VMConfig`` is one)."""

    mapping: Mapping[str, str]

    def get(self, key: str) -> Any:
        """The parsed value of ``key``, or ``None`` when absent."""

    def value(self, key: str) -> Any:
        """The parsed value of ``key``, or what its absence means."""

    def slots(self, name: str) -> Iterator[tuple[str, int, Any]]:
        """``(key, index, part)`` of every used slot of a kind, lowest index first."""

    def drives(self) -> Iterator[tuple[str, int, Any]]:
        """``(key, index, drive)`` of every disk and CD drive, in QEMU's order."""

    def restricted(self, keep: Callable[[str], bool]) -> ConfigView:
        """This configuration with only the keys that ``keep`` accepts."""

    def part(self, key: str, kind: type[PropertyString]) -> Any:
        """The part at ``key``, an empty one of ``kind`` when absent."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What is known about the node a guest runs on. The defaults describe a nominal KVM node.

    ``memory`` is in bytes. ``ovmf`` maps firmware files to paths: ``code-2m``, ``vars-2m``, ``code-4m``,
    ``code-4m-secboot``, ``vars-4m``, ``vars-4m-ms``; a missing one falls back to the peer's place.
    ``storages`` maps a name to its ``type`` and whatever that type needs (``path``, ``vg``, ``pool`` …).
    ``cpu_models`` are the models this node can run with its accelerator; empty means unknown.
    ``cpu_flags`` are the processor's features under the kernel's names.
    ``custom_cpus`` maps the name of an administrator's CPU model to what it is made of, written like a
    ``cpu`` value (``reported-model=EPYC,flags=+aes``). ``pci_devices`` are the node's own: address with
    function → facts; ``pci_mappings``, ``usb_mappings`` and ``folder_mappings`` map a name to what is behind
    it on this node; ``virtiofsd`` is the program that shares a folder ("" without one).
    What rules look at: ``vcpus_used`` (CPUs of the guests that run now), ``used_macs`` (address → whose it
    is), ``used_ids``, ``unreadable`` (path or volume → what is in QEMU's way), ``power_backup`` (None:
    nobody said), ``huge_pages`` (size in MiB → free pages).
    ``blockdev``: give drives as node graphs whatever the machine version. Facts that describe a real node
    (they name its ``qemu_binary``) do so; otherwise the peer's rule holds (machine 10.0 and newer).
    """

    qemu_version: str = "11.0"
    arch: str = "x86_64"
    cpu_vendor: str = "GenuineIntel"
    phys_bits: int = 46
    kvm: bool = True
    kvm_user_ok: bool = True
    accel_reason: str = ""
    vhost_net: bool = True
    threads: int = 512
    memory: int = 1 << 40
    memory_free: int = 0
    efi_vars_size: Mapping[str, int] = field(default_factory=lambda: {"4m": 528 << 10, "2m": 128 << 10})
    bridges: tuple[Mapping[str, Any], ...] = ()
    storages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cpu_models: tuple[str, ...] = ()
    cpu_model: str = ""
    cpu_flags: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    ovmf: Mapping[str, str] = field(default_factory=dict)
    qemu_binary: str = "/usr/bin/kvm"
    qemu_user: str = ""
    qemu_user_reason: str = ""
    aio_io_uring: bool = True
    spice: bool = True
    blockdev: bool = False
    scsi_devices: tuple[str, ...] = ()
    bootsplash: str = ""
    netboot: Mapping[str, str] = field(default_factory=dict)
    """What cards in user-mode networking boot from: a TFTP ``folder`` on the node and the ``file`` in it."""
    custom_cpus: Mapping[str, str] = field(default_factory=dict)
    pci_devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pci_mappings: Mapping[str, str] = field(default_factory=dict)
    usb_mappings: Mapping[str, str] = field(default_factory=dict)
    folder_mappings: Mapping[str, str] = field(default_factory=dict)
    virtiofsd: str = ""
    vcpus_used: int = 0
    used_macs: Mapping[str, str] = field(default_factory=dict)
    used_ids: tuple[int, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    power_backup: bool | None = None
    huge_pages: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NodeFacts:
        """Facts from a JSON object. Unknown keys are left alone, missing ones mean the nominal value."""
        names = {item.name for item in fields(cls)}
        known: dict[str, Any] = {}
        for name, value in data.items():
            if name in names and value is not None:
                known[name] = tuple(value) if isinstance(value, list) else value
        known.setdefault("blockdev", "qemu_binary" in data)
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """The JSON object :meth:`from_json` reads back."""
        found: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                value = [dict(v) if isinstance(v, Mapping) else v for v in value]
            elif isinstance(value, Mapping):
                value = {k: dict(v) if isinstance(v, Mapping) else v for k, v in value.items()}
            found[item.name] = value
        return found

    @property
    def version(self) -> tuple[int, int]:
        """QEMU's version as (major, minor)."""
        found = re.match(r"(\d+)(?:\.(\d+))?", self.qemu_version)
        return (int(found[1]), int(found[2] or 0)) if found else (0, 0)

    def bridge(self, name: str) -> Mapping[str, Any] | None:
        """What is known about bridge ``name``; ``None`` when the node has no such bridge."""
        return next((bridge for bridge in self.bridges if bridge.get("name") == name), None)


@dataclass(frozen=True, kw_only=True)
class RuntimePaths:
    """Where a running guest's files are. Consoles, monitor and agent live in folders of their own."""

    folder: str
    log: str

    @classmethod
    def of(cls, run_dir: str, log_dir: str, vmid: int) -> RuntimePaths:
        """The paths of VM ``vmid`` below the node's run and log directories."""
        return cls(folder=f"{run_dir}/vm/{vmid}", log=f"{log_dir}/vm-{vmid}")

    @property
    def qmp(self) -> str:
        return f"{self.folder}/qmp/qmp.sock"

    @property
    def qmp_ops(self) -> str:
        return f"{self.folder}/qmp/qmp-ops.sock"

    @property
    def vnc(self) -> str:
        return f"{self.folder}/console/vnc.sock"

    @property
    def spice(self) -> str:
        return f"{self.folder}/console/spice.sock"

    @property
    def agent(self) -> str:
        return f"{self.folder}/agent/qga.sock"

    @property
    def tpm(self) -> str:
        return f"{self.folder}/tpm/swtpm.sock"

    @property
    def pidfile(self) -> str:
        return f"{self.folder}/qemu.pid"

    @property
    def efivars(self) -> str:
        """Where a start without ``efidisk0`` puts its throw-away copy of the EFI variables."""
        return f"{self.folder}/efivars.fd"

    def serial(self, index: int) -> str:
        """The socket of serial port ``index``."""
        return f"{self.folder}/console/serial{index}.sock"

    def serial_log(self, index: int) -> str:
        """The file that keeps what serial port ``index`` printed, viewers or not."""
        return f"{self.log}-serial{index}.log"

    def virtiofs(self, index: int) -> str:
        """The socket of the file-sharing helper of ``virtiofs<index>``."""
        return f"{self.folder}/virtiofs{index}.sock"


@dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """Everything a start knows. ``taps`` maps a slot (``net0``) to an open tap descriptor; several
    queues of one card are a tuple of descriptors. ``snapshots`` are the machine's snapshots on the way back
    from now, newest first, each with its name and the drives it was taken of.

    ``machine`` and ``cpu`` go before the configuration: the versioned machine type and the whole value of
    ``-cpu`` of the guest whose saved memory this start begins with."""

    vmid: int
    facts: NodeFacts
    paths: RuntimePaths
    taps: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    snapshots: tuple[tuple[str, Mapping[str, str]], ...] = ()
    machine: str = ""
    cpu: str = ""
