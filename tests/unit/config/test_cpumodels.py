"""An administrator's CPU models: read from their file, used by a machine."""

from __future__ import annotations

from vms.config import cpumodels
from vms.config.vmconfig import VMConfig
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command

TEXT = """# ours
cpu-model: office
    reported-model Broadwell
    flags +avx;-pcid
    hidden 1

cpu-model: plain

cpu-model: wrong
    flags avx
nonsense
"""


def test_a_file_becomes_models_and_what_is_wrong_is_said() -> None:
    models, warnings = cpumodels.parse(TEXT)
    assert set(models) == {"office", "plain"}
    assert warnings[0].startswith("line 11 ")
    assert warnings[1].startswith("wrong.flags: ")
    facts = NodeFacts(custom_cpus=models)
    context = LaunchContext(vmid=100, facts=facts, paths=RuntimePaths.of("/run/x", "/log", 100))
    argv = command(VMConfig.parse({"cpu": "custom-office"}), context)
    words = argv[argv.index("-cpu") + 1].split(",")
    assert words[0] == "Broadwell"
    assert {"+avx", "-pcid", "kvm=off", "vendor=GenuineIntel"} <= set(words)
    argv = command(VMConfig.parse({"cpu": "custom-plain"}), context)
    assert argv[argv.index("-cpu") + 1].startswith("kvm64,")
