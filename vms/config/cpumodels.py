"""The administrator's own CPU models: the text file that makes them, and what is said of a wrong one.

::

    cpu-model: office
        reported-model Broadwell
        flags +avx;-pcid

A machine asks for it with ``cpu: custom-office``.
"""

from __future__ import annotations

import re

from vms.errors import ConfigError
from vms.hardware.cpu import CustomCpu

_HEAD = re.compile(r"cpu-model:[ \t]*([A-Za-z0-9][A-Za-z0-9._-]{0,39})[ \t]*")
_LINE = re.compile(r"[ \t]+([a-z-]+)[ \t]+(\S.*?)[ \t]*")


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """``(models, warnings)``: name → value as ``NodeFacts.custom_cpus`` holds it, and what was left out."""
    made: dict[str, list[str]] = {}
    warnings: list[str] = []
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        head, words = _HEAD.fullmatch(line), _LINE.fullmatch(line)
        if head:
            name = head[1]
            made[name] = []
        elif words and name:
            made[name].append(f"{words[1]}={words[2]}")
        elif line.strip() and not line.lstrip().startswith("#"):
            warnings.append(f"line {number} is neither 'cpu-model: name' nor an indented 'option value'")
    models: dict[str, str] = {}
    for name, options in made.items():
        try:
            models[name] = CustomCpu.parse(",".join(options or ["hidden=0"]), name).format()
        except ConfigError as error:
            warnings.append(str(error))
    return models, warnings
