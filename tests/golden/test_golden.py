"""Every golden configuration leads to its golden command line.

``PVELITE_GOLDEN=write pytest tests/golden`` writes the command files anew; look at the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vms.cli.showcmd import as_text
from vms.config import conffile
from vms.config.vmconfig import VMConfig
from vms.hardware import OPTION_CLASSES, PARTS, SLOTS, part_of
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command
from vms.qemu.cmdline import parts as parts_of
from vms.qemu.explain import explain
from vms.schema.option import option_table, options_of

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in HERE.glob("*.conf"))
FACTS = NodeFacts.from_json(json.loads((HERE / "facts.json").read_text()))
CONTEXT = LaunchContext(vmid=100, facts=FACTS, paths=RuntimePaths.of("/run/pvelite", "/var/log/pvelite", 100))
NOT_WRITTEN = {
    "lock", "parent", "smp", "snapstate", "snaptime", "vmstate", "runningmachine", "runningcpu",
    "running-nets-host-mtu", "amd-sev", "intel-tdx", "description",
}  # fmt: skip
"""Keys only operations write, and confidential computing, which no node of ours can run."""
NOT_WRITTEN_PARTS = {
    "network", "meta", "vendor", "mapping", "mdev", "legacy-igd", "vendor-id", "device-id", "sub-vendor-id",
    "sub-device-id", "driver", "romfile", "reported-model",
}  # fmt: skip


def config_of(case: str) -> VMConfig:
    parsed = conffile.parse((HERE / f"{case}.conf").read_text())
    assert parsed.warnings == []
    return VMConfig.parse(parsed.main)


@pytest.mark.parametrize("case", CASES)
def test_command(case: str) -> None:
    text = as_text(command(config_of(case), CONTEXT)) + "\n"
    file = HERE / f"{case}.cmd"
    if os.environ.get("PVELITE_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("case", CASES)
def test_round_trip(case: str) -> None:
    parsed = conffile.parse((HERE / f"{case}.conf").read_text())
    again = conffile.parse(conffile.format(parsed))
    assert (again.main, again.description) == (parsed.main, parsed.description)
    config = VMConfig.parse(parsed.main)
    assert VMConfig.parse(config.canonical()).canonical() == config.canonical()


@pytest.mark.parametrize("case", CASES)
def test_every_argument_is_explained(case: str) -> None:
    config = config_of(case)
    parts = parts_of(config, CONTEXT)
    told = [word for group in explain(parts) for argument in group.arguments for word in argument.words]
    assert sorted(told) == sorted(word for part in parts for word in part.argv())


def test_every_option_is_in_a_golden_configuration() -> None:
    keys: set[str] = set()
    used: set[tuple[str, str]] = set()
    for case in CASES:
        for key, value in config_of(case).mapping.items():
            keys.add(key)
            part = part_of(key)
            if part is not None:
                given = part.parse(value, key)
                used |= {
                    (part.__name__, option.name)
                    for option in options_of(part)
                    if getattr(given, option.attr) is not None
                }
    plain = {option.name for cls in OPTION_CLASSES for option in options_of(cls)} - NOT_WRITTEN
    assert plain - keys == set()
    kinds = {slot.part for slot in SLOTS} | {PARTS[key] for key in PARTS if key not in NOT_WRITTEN}
    needed = set()
    for kind in kinds:
        names = {option.name for option in options_of(kind)} - NOT_WRITTEN_PARTS
        # What every bus shares needs one bus only.
        needed |= {(kind.__name__, name) for name in names}
    drives = ("IdeDrive", "SataDrive", "ScsiDrive", "VirtioDrive")
    shared = {name for kind, name in used if kind in drives}
    missing = {(kind, name) for kind, name in needed - used if not (kind in drives and name in shared)}
    assert missing == set()


def test_every_option_has_its_three_sentences() -> None:
    kinds = {*OPTION_CLASSES, *PARTS.values(), *(slot.part for slot in SLOTS)}
    silent = [
        f"{kind.__name__}.{option.name}"
        for kind in kinds
        for option in options_of(kind)
        if not (option.label and option.help and option.otherwise and option.why)
    ]
    assert silent == []
    assert all(option_table(kind) for kind in kinds)
