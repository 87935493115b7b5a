"""Hostile values are refused or come back as they were; no text makes the file parser fail."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vms.config import conffile
from vms.config.vmconfig import VMConfig, parse_value
from vms.errors import ConfigError, VMError
from vms.hardware import OPTIONS, PARTS, SLOTS
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command
from vms.schema.option import options_of
from vms.schema.propstring import PropertyString

FACTS = NodeFacts(storages={"local": {"type": "dir", "path": "/srv"}}, bridges=({"name": "vmbr0"},))
CONTEXT = LaunchContext(vmid=100, facts=FACTS, paths=RuntimePaths.of("/run/x", "/var/log/x", 100))
INJECTIONS = (",file=/etc/shadow", "a,file=/etc/shadow", "x\nargs: -device evil", "x\0y", "é" * 2048)
KEYS = [*OPTIONS, *(f"{slot.name}0" for slot in SLOTS)]
KINDS = sorted({*PARTS.values(), *(slot.part for slot in SLOTS)}, key=lambda kind: kind.__name__)
FREE_TEXT = {"args", "cipassword", "description", "runningcpu", "sshkeys"}
"""Keys whose text may hold anything printable; of them only ``args`` reaches QEMU, and only root sets it."""


@pytest.mark.parametrize("value", INJECTIONS)
def test_an_injection_is_refused_or_stays_one_value(value: str) -> None:
    passed = set()
    for key in KEYS:
        try:
            words = command(VMConfig.parse({key: value}), CONTEXT)
        except ConfigError:
            continue
        passed.add(key)
        if key != "args":
            assert not [word for word in words if "/etc/shadow" in word or "evil" in word]
    assert passed <= FREE_TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_a_comma_or_newline_never_passes_a_sub_option(kind: type[PropertyString]) -> None:
    options = options_of(kind)
    start = "local:1," if any(option.name == "file" for option in options) else ""
    for option in options:
        for value in INJECTIONS:
            with pytest.raises(ConfigError):
                kind.parse(f"{start}{option.name}={value}", "k")


@given(key=st.sampled_from(KEYS), value=st.text(max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_value_is_refused_or_round_trips(key: str, value: str) -> None:
    try:
        parsed = parse_value(key, value)
    except ConfigError:
        return
    if isinstance(parsed, PropertyString):
        try:
            text = parsed.format()
        except ConfigError:
            return
        assert parse_value(key, text) == parsed


@given(st.text(max_size=400))
@settings(max_examples=40, deadline=None)
def test_any_file_can_be_read(text: str) -> None:
    parsed = conffile.parse(text)
    again = conffile.format(parsed)
    assert conffile.format(conffile.parse(again)) == again


_LINE = st.one_of(
    st.builds("{}: {}".format, st.sampled_from([*KEYS, "delete", "nonsense"]), st.text(max_size=30)),
    st.sampled_from(
        ["[PENDING]", "[snap1]", "[special:cloudinit]", "[:3]", "# note", "[pending]", "cdrom: none"]
    ),
)


@given(st.lists(_LINE, max_size=12))
@settings(max_examples=25, deadline=None)
def test_any_lines_can_be_read_and_written(lines: list[str]) -> None:
    parsed = conffile.parse("\n".join(lines))
    again = conffile.format(parsed)
    assert conffile.parse(again).main == conffile.parse(conffile.format(conffile.parse(again))).main
    with contextlib.suppress(VMError):
        VMConfig.parse(parsed.main)
