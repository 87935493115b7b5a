"""Every golden configuration leads to its golden command line.

``PVELITE_GOLDEN=write pytest tests/golden`` writes the command files anew; look at the difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vms.cli.showcmd import as_text
from vms.config import conffile
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.hardware import OPTION_CLASSES, PARTS, SLOTS, part_of
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.hardware.cpu import CustomCpu
from vms.qemu.cmdline import command
from vms.qemu.cmdline import parts as parts_of
from vms.qemu.explain import explain
from vms.schema.option import option_table, options_of

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in HERE.glob("*.conf"))
FACTS = NodeFacts.from_json(json.loads((HERE / "facts.json").read_text()))
CONTEXT = LaunchContext(vmid=100, facts=FACTS, paths=RuntimePaths.of("/run/pvelite", "/var/log/pvelite", 100))
REFUSED = {
    "amd-sev": "std,no-debug=1,no-key-sharing=1,kernel-hashes=1,allow-smt=0",
    "intel-tdx": "tdx,attestation=1,vsock-cid=2,vsock-port=4050",
    "hostpci0": "0000:01:00.0,mdev=nvidia-63",
}
"""What no node of ours can do: key → a value that must be refused, by name, instead of being left out."""
ELSEWHERE = {("Cpu", "reported-model"): "CustomCpu"}
"""Options that mean nothing in a machine's own configuration, and the part that uses them."""

ONCE = {"import-from"}
"""Options of a request to make a disk; the disk that is made no longer has them."""


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
    assert conffile.format(again) == conffile.format(parsed)
    modern = {k: v for k, v in parsed.main.items() if k != "smp"} | (
        {"sockets": parsed.main["smp"]} if "smp" in parsed.main else {}
    )
    assert (again.main, again.description) == (modern, parsed.description)
    assert (again.pending, again.snapshots) == (parsed.pending, parsed.snapshots)
    config = VMConfig.parse(parsed.main)
    assert VMConfig.parse(config.canonical()).canonical() == config.canonical()


@pytest.mark.parametrize("case", CASES)
def test_every_argument_is_explained(case: str) -> None:
    config = config_of(case)
    parts = parts_of(config, CONTEXT)
    told = [word for group in explain(parts) for argument in group.arguments for word in argument.words]
    assert sorted(told) == sorted(word for part in parts for word in part.argv())


def texts() -> Iterator[tuple[str, str]]:
    """Every key with its text in every section of every golden file."""
    for case in CASES:
        parsed = conffile.parse((HERE / f"{case}.conf").read_text())
        for values in (parsed.main, parsed.pending, *(one.values for one in parsed.snapshots.values())):
            yield from values.items()
        if parsed.description:
            yield "description", parsed.description
    yield from REFUSED.items()


def test_every_option_is_in_a_golden_configuration() -> None:
    keys, used = set[str](), set[tuple[str, str]]()
    values = [(key, part_of(key), text) for key, text in texts()]
    values += [("", CustomCpu, text) for text in FACTS.custom_cpus.values()]
    for key, part, text in values:
        keys.add(key)
        if part is not None:
            given = part.parse(text, key)
            used |= {(part.__name__, o.name) for o in options_of(part) if getattr(given, o.attr) is not None}
    assert {option.name for cls in OPTION_CLASSES for option in options_of(cls)} - keys == set()
    kinds = {slot.part for slot in SLOTS} | set(PARTS.values())
    options = [(kind.__name__, option) for kind in kinds for option in options_of(kind)]
    needed = {(kind, option.name) for kind, option in options if option.name not in ONCE}
    # What every bus shares needs one bus only.
    drives = ("IdeDrive", "SataDrive", "ScsiDrive", "VirtioDrive")
    shared = {name for kind, name in used if kind in drives}
    missing = {(kind, name) for kind, name in needed - used if not (kind in drives and name in shared)}
    assert {pair for pair in missing if (ELSEWHERE.get(pair), pair[1]) not in used} == set()


@pytest.mark.parametrize(("key", "text"), REFUSED.items())
def test_what_no_node_can_do_is_refused(key: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command(VMConfig.parse({key: text, "machine": "q35"}), CONTEXT)
    assert caught.value.key == key


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
