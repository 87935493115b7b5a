"""``qm showcmd --file X.conf``: the command a launch would get. No database, no look at the host."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vms.cli.preview import guessed_storages
from vms.config import conffile
from vms.config.conffile import ConfFile
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, ConfigErrors
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command
from vms.schema.option import shown

NOMINAL: dict[str, Any] = {
    "bridges": [{"name": "vmbr0", "mtu": 1500}],
    "storages": {"local": {"type": "dir", "path": "/var/lib/vz"}},
}
"""Facts of an ordinary KVM node, for a preview without a node."""

RUN_DIR, LOG_DIR = "/run/pvelite", "/var/log/pvelite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.add_argument("--file", required=True, type=Path, help="configuration file to read")
    parser.add_argument(
        "--vmid", type=int, default=None, help="VM ID (default: from the file name, else 100)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--facts", type=Path, default=None, help="JSON file with the node's facts")


def run(options: argparse.Namespace) -> int:
    """Print the command. Answers 0, or 2 after one line per error naming its key."""
    try:
        words = build(options.file, options.vmid, options.facts)
    except ConfigErrors as errors:
        for error in errors:
            print(error, file=sys.stderr)
        return 2
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(words) if options.json else as_text(words))
    return 0


def build(file: Path, vmid: int | None, facts_file: Path | None) -> list[str]:
    """The argument list for a configuration file. Raises :class:`ConfigError`."""
    text, number = _text(file, "file"), vmid or _number(file)
    parsed = conffile.parse(text)
    mapping = dict(parsed.main)
    # An import keeps what it does not know; a preview that left it out would show another machine.
    unknown = [
        *parsed.unknown,
        *((key, f"'{shown(key)}' is no option of a virtual machine") for key in parsed.kept),
    ]
    if unknown:
        raise ConfigErrors([ConfigError(key, why) for key, why in unknown])
    config = VMConfig.parse(mapping)
    facts = _facts(facts_file, mapping)
    context = LaunchContext(
        vmid=number,
        facts=facts,
        paths=RuntimePaths.of(RUN_DIR, LOG_DIR, number),
        snapshots=way_back(parsed),
    )
    return [*pinning(config), *command(config, context)]


def way_back(parsed: ConfFile) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """The snapshots between now and the first one, newest first."""
    found: dict[str, Mapping[str, str]] = {}
    name = parsed.main.get("parent", "")
    while name in parsed.snapshots and name not in found:
        found[name] = parsed.snapshots[name].values
        name = found[name].get("parent", "")
    return tuple(found.items())


def pinning(config: VMConfig) -> list[str]:
    """The words before QEMU that keep it on certain CPUs of the node; a launch does the same by itself."""
    affinity = config.get("affinity")
    return ["/usr/bin/taskset", "--cpu-list", "--all-tasks", affinity] if affinity else []


def as_text(words: list[str]) -> str:
    """One option a line, quoted for a shell."""
    lines, line = [], shlex.quote(words[0])
    for word in words[1:]:
        if re.match(r"-[A-Za-z]", word):
            lines.append(line)
            line = f"  {shlex.quote(word)}"
        else:
            line += f" {shlex.quote(word)}"
    return " \\\n".join([*lines, line])


def _number(file: Path) -> int:
    return int(file.stem) if re.fullmatch(r"[1-9][0-9]{2,8}", file.stem) else 100


def _text(file: Path, key: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(key, f"cannot be read: {error}") from None


def _facts(file: Path | None, mapping: Mapping[str, str]) -> NodeFacts:
    data: Any = NOMINAL
    if file is not None:
        try:
            data = json.loads(_text(file, "facts"))
        except json.JSONDecodeError as error:
            raise ConfigError("facts", f"is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError("facts", "must be a JSON object")
    try:
        known = dict(data.get("storages", {}))
        return NodeFacts.from_json({**data, "storages": {**guessed_storages(mapping, known), **known}})
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError("facts", f"cannot be used: {error}") from None
