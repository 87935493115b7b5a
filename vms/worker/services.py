"""What the worker lends to operations (:class:`vms.operations.base.NodeServices`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vms.hardware.context import NodeFacts
from vms.host.paths import RunPaths
from vms.models import VM, Node, Task
from vms.storage import open_storage
from vms.storage.base import Storage as StorageDriver
from vms.worker.ends import Ends
from vms.worker.guests import LiveGuest, write_marker
from vms.worker.storages import Scanner
from vms.worker.supervisor import Supervisor


class Services:
    """This node, as operations may use it. ``facts`` is replaced whenever they are measured again."""

    def __init__(
        self, node: Node, boot: str, home: Path, paths: RunPaths, supervisor: Supervisor, scanner: Scanner,
        ends: Ends,
    ) -> None:  # fmt: skip
        self.node = node
        self.boot = boot
        self.home = home
        self.paths = paths
        self.facts = NodeFacts()
        self._supervisor = supervisor
        self._scanner = scanner
        self._ends = ends

    @property
    def user(self) -> str | None:
        """Whom QEMU runs as; None: as the worker itself."""
        return self.paths.user

    def guest(self, vmid: int) -> LiveGuest | None:
        """The live process of a VM, or None."""
        return self._supervisor.guest(vmid)

    def storage(self, name: str, facts: Mapping[str, Any]) -> StorageDriver:
        """The driver of a storage described by ``facts``. Raises :class:`StorageError`."""
        return open_storage(name, facts, user=self.user)

    def note_launch(self, vmid: int, record: Mapping[str, Any]) -> None:
        """Keep the launch record on disk, for the case that the worker dies before the row holds it."""
        write_marker(self.paths.run_dir, vmid, record)

    async def attach(self, vm: VM, launched: Any, record: dict[str, Any]) -> LiveGuest:
        """Watch a process just launched."""
        return await self._supervisor.attach(vm, launched, record)

    async def observe(self, vmid: int) -> str:
        """Ask QEMU for the status now and store it."""
        return await self._supervisor.observe(vmid)

    def expect_end(self, vmid: int, why: str) -> None:
        """Say that the process is about to end on purpose."""
        self._supervisor.expect_end(vmid, why)

    async def gone(self, vmid: int, timeout: float) -> bool:
        """Wait until the VM's process has ended and was cleaned up."""
        return await self._supervisor.gone(vmid, timeout)

    async def clean(self, vmid: int) -> None:
        """Remove what a run leaves on the host."""
        await self._supervisor.clean(vmid)

    async def scan(self, storage: str = "") -> int:
        """Read the storages (or the one) again."""
        return await self._scanner.scan(storage)

    async def ended(self, pk: int) -> Task:
        """Wait for the end of another task of this node."""
        return await self._ends.wait(pk)
