"""A guest that really runs: shutdown by agent and by button, power-off from inside, reboot."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from enginekit import Engine, until
from guestkit.media import Media

if TYPE_CHECKING:
    from vms.models import VM

BOOT = 90
"""Seconds a guest may take to boot in software on a busy machine; it takes three on an idle one."""


@pytest.fixture
def booting(engine: Engine, guest_media: Media) -> VM:
    """A VM that boots the test guest's kernel directly; its agent comes up within seconds."""
    for path in (guest_media.kernel, guest_media.initrd):
        shutil.copy(path, engine.home / path.name)
        (engine.home / path.name).chmod(0o644)
    words = guest_media.direct_boot()
    words[1], words[3] = (str(engine.home / path.name) for path in (guest_media.kernel, guest_media.initrd))
    config = {"name": "guest", "ostype": "l26", "memory": "256", "agent": "1", "args": shlex.join(words)}
    return engine.vm(config)


def agent_up(engine: Engine, vm: VM) -> None:
    def up() -> bool:
        vm.refresh_from_db()
        return bool(vm.agent.get("up"))

    until(up, "the guest's agent is up", BOOT)


def test_agent_power_off_and_shutdown(engine: Engine, booting: VM) -> None:
    from vms.models import VM, AuditEntry
    from vms.qemu.agent import Agent

    engine.do("qmstart", booting)
    assert booting.launch["machine"].startswith("pc-i440fx-")
    agent_up(engine, booting)
    assert any(one["name"] == "lo" for one in booting.agent["interfaces"])
    # Reboot: a new process that has what was pending.
    VM.everything.filter(pk=booting.pk).update(pending={"cores": "2"})
    pid, run = engine.qemus()[100], booting.run_id
    task = engine.do("qmreboot", booting, within=BOOT)
    assert "asking the guest agent to shut the guest down" in [line.text for line in task.lines.all()]
    assert engine.qemus()[100] != pid
    assert booting.run_id not in ("", run)
    assert (booting.cores, booting.pending, booting.status) == (2, {}, "running")
    # The guest switches itself off.
    agent_up(engine, booting)
    accidents = AuditEntry.objects.filter(action="vm-ended").count()
    asyncio.run(Agent(engine.run_dir / "vm" / "100" / "agent" / "qga.sock").shutdown())
    engine.status(booting, "stopped", timeout=30)
    assert (engine.qemus(), engine.run_files(100)) == ({}, [])
    assert (booting.run_id, booting.agent) == ("", {})
    assert AuditEntry.objects.filter(action="vm-ended").count() == accidents


def test_the_power_button(engine: Engine, booting: VM) -> None:
    """The agent is off in the configuration: the guest hears ACPI and obeys."""
    from vms.models.configuration import config_of, save_config

    engine.do("qmstart", booting)
    agent_up(engine, booting)  # booted
    save_config(booting, {**config_of(booting), "agent": "0"})
    task = engine.do("qmshutdown", booting, within=60)
    assert "pressing the power button (ACPI)" in [line.text for line in task.lines.all()]
    assert booting.status == "stopped"
