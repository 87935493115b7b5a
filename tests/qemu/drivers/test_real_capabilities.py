"""What this node's QEMU says of itself, and the decision between KVM and TCG."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from vms.errors import QemuError
from vms.hardware.context import NodeFacts
from vms.host.facts import gather
from vms.qemu import capabilities


async def test_facts_of_this_node() -> None:
    qemu = await capabilities.examine()
    facts = NodeFacts.from_json(json.loads(json.dumps(await gather(qemu=qemu.to_json()))))
    assert facts.version >= (7, 2)
    assert facts.machines[0].startswith("pc-i440fx-")
    assert any(name.startswith("pc-q35-") for name in facts.machines)
    assert {"qemu64", "max"} <= set(facts.cpu_models)
    assert Path(facts.qemu_binary).is_file()
    assert qemu.user_network
    assert Path(facts.ovmf["code-4m"]).is_file()


async def test_kvm_is_decided_by_probe_not_by_the_device() -> None:
    decision = await capabilities.probe(capabilities.find_binary())
    virtualises = re.search(r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if not usable:
        assert not decision.kvm
        assert "/dev/kvm" in decision.reason
    elif not virtualises:
        assert not decision.kvm
        assert "neither vmx nor svm" in decision.reason
    assert decision.reason.endswith(".")


async def test_the_operator_decides() -> None:
    binary = capabilities.find_binary()
    off = await capabilities.probe(binary, wanted="tcg")
    assert off == capabilities.Accelerator(False, "KVM is switched off for this node by its operator.")
    on = await capabilities.probe(binary, wanted="kvm")
    assert on.kvm == os.access("/dev/kvm", os.R_OK | os.W_OK)


async def test_a_user_who_may_not() -> None:
    if os.geteuid() != 0:
        with pytest.raises(QemuError):
            await capabilities.examine(user="nobody")
        return
    mode = Path("/dev/kvm").stat().st_mode if Path("/dev/kvm").exists() else 0
    decision = await capabilities.probe(capabilities.find_binary(), user="nobody")
    if not mode & 0o006:
        assert not decision.kvm
    assert (await capabilities.examine(user="nobody", wanted="tcg")).machines


async def test_no_qemu_at_all() -> None:
    with pytest.raises(QemuError, match="cannot be used"):
        await capabilities.examine("/no/such/qemu")
    with pytest.raises(QemuError, match="does not tell its version"):
        await capabilities.examine("/bin/true")
