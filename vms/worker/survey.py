"""Looks at the node itself: what QEMU can do here, bridges, storages, free memory."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

from vms.config import cpumodels, mappings
from vms.errors import QemuError
from vms.hardware.context import NodeFacts
from vms.host import facts
from vms.models import Storage
from vms.network import usermode
from vms.network.bridge import bridges
from vms.qemu import capabilities, sharing
from vms.worker import rows
from vms.worker.database import Database
from vms.worker.services import Services
from vms.worker.storages import Scanner

log = logging.getLogger(__name__)


def no_qemu(error: QemuError) -> dict[str, Any]:
    """The facts of a node whose QEMU cannot be used: the reason stands where the accelerator's would."""
    binary = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
    reason = f"{error} {error.hint}".strip()
    return {
        "qemu_binary": binary, "qemu_version": "0.0", "kvm": False, "kvm_user_ok": False,
        "accel_reason": reason, "machines": [], "cpu_models": [],
    }  # fmt: skip


def custom_cpus(file: Path) -> dict[str, str]:
    """The administrator's CPU models, from ``cpu-models.conf``; none without the file."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        log.error("cpu-models.conf cannot be read: %s", error)
        return {}
    models, warnings = cpumodels.parse(text)
    for warning in warnings:
        log.warning("cpu-models.conf: %s", warning)
    return models


def named(file: Path) -> dict[str, dict[str, str]]:
    """What the administrator gave a name, from ``mappings.conf``; nothing without the file."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        log.error("mappings.conf cannot be read: %s", error)
        text = ""
    found = mappings.parse(text)
    for warning in found.warnings:
        log.warning("mappings.conf: %s", warning)
    return found.to_facts()


class Survey:
    """Measures at the start and, what can change, every half minute."""

    def __init__(self, services: Services, scanner: Scanner, database: Database, user_reason: str) -> None:
        self._services = services
        self._scanner = scanner
        self._db = database
        self._reason = user_reason
        self._facts: dict[str, Any] = {}

    async def measure(self) -> None:
        """Everything: QEMU is asked, too. Takes about 0.3 s."""
        node = self._services.node
        wanted: Any = node.accelerator
        try:
            qemu = (await capabilities.examine(user=self._services.user, wanted=wanted)).to_json()
        except QemuError as error:
            log.error("%s", error)
            qemu = no_qemu(error)
        found = await facts.gather(
            qemu=qemu, bridges=[one.to_json() for one in bridges()], user=self._services.user,
            user_reason=self._reason, storages=await self._db(self._storages),
        )  # fmt: skip
        found["netboot"] = await asyncio.to_thread(usermode.netboot, self._services.home / "tftp")
        found["custom_cpus"] = await asyncio.to_thread(custom_cpus, self._services.home / "cpu-models.conf")
        found["virtiofsd"] = await asyncio.to_thread(sharing.program)
        found |= await asyncio.to_thread(named, self._services.home / "mappings.conf")
        await self._use(found)

    async def again(self) -> None:
        """What changes without a restart: bridges, memory, storages."""
        await self._scanner.scan()
        now = {
            "bridges": [one.to_json() for one in bridges()],
            "storages": await self._db(self._storages),
            "netboot": await asyncio.to_thread(usermode.netboot, self._services.home / "tftp"),
            **await asyncio.to_thread(facts.memory),
            **await asyncio.to_thread(named, self._services.home / "mappings.conf"),
        }
        if any(self._facts.get(key) != now[key] for key in now if key not in ("memory", "memory_free")):
            await self._use({**self._facts, **now})

    async def _use(self, found: dict[str, Any]) -> None:
        self._facts = found
        self._services.facts = NodeFacts.from_json(found)
        await self._db(rows.store_facts, self._services.node, found)

    @staticmethod
    def _storages() -> dict[str, dict[str, Any]]:
        return {row.name: row.facts() for row in Storage.objects.filter(enabled=True)}
