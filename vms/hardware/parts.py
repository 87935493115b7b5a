"""What a hardware module yields: values, not strings.

A part knows the configuration key it came from, so a preview can say why an argument is there. The same
part serves a cold start (:meth:`Part.argv`) and hot-plug over QMP (:meth:`Part.qmp`). QEMU takes devices,
network back ends, block nodes and most objects as JSON on its command line, so no value can end up as a
second option by holding a comma.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Mebibytes(int):
    """An amount of memory in MiB: ``512M`` on the command line, bytes over QMP."""


def escaped(text: str) -> str:
    """``text`` fit for QEMU's ``key=value,…`` form, where a comma is written twice."""
    return text.replace(",", ",,")


def keyval(first: str, options: Mapping[str, Any]) -> str:
    """QEMU's ``first,key=value,…`` form of ``options``."""
    return ",".join([escaped(first), *(f"{k}={escaped(_word(v))}" for k, v in options.items())])


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mebibytes):
        return f"{int(value)}M"
    return str(value)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return int(value) * (1 << 20) if isinstance(value, Mebibytes) else value


@dataclass(frozen=True)
class Part:
    """One piece of a machine. ``key`` is the configuration key that asked for it ("" = always there)."""

    key: str

    def argv(self) -> list[str]:
        """The words QEMU gets on its command line."""
        raise NotImplementedError

    def qmp(self) -> dict[str, Any]:
        """The argument of the QMP command that adds this part to a running machine."""
        raise NotImplementedError


@dataclass(frozen=True)
class Device(Part):
    """A device the guest sees (``-device``, ``device_add``)."""

    driver: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def qmp(self) -> dict[str, Any]:
        return {"driver": self.driver, **self.options}

    def argv(self) -> list[str]:
        return ["-device", _json(self.qmp())]


@dataclass(frozen=True)
class Netdev(Part):
    """The host's end of a network card (``-netdev``, ``netdev_add``)."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def qmp(self) -> dict[str, Any]:
        return {"type": self.type, **self.options}

    def argv(self) -> list[str]:
        # Text form: QEMU 7.2 reads JSON here only for part of its back ends.
        return ["-netdev", keyval(self.type, self.options)]


@dataclass(frozen=True)
class Blockdev(Part):
    """A graph of block nodes (``-blockdev``, ``blockdev-add``)."""

    node: Mapping[str, Any]

    def qmp(self) -> dict[str, Any]:
        return dict(self.node)

    def argv(self) -> list[str]:
        return ["-blockdev", _json(self.node)]


@dataclass(frozen=True)
class Object(Part):
    """A back-end object (``-object``, ``object-add``)."""

    qom_type: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def qmp(self) -> dict[str, Any]:
        return {"qom-type": self.qom_type, **{k: _plain(v) for k, v in self.options.items()}}

    def argv(self) -> list[str]:
        if any(isinstance(value, Mebibytes) for value in self.options.values()):
            return ["-object", keyval(self.qom_type, self.options)]
        return ["-object", _json(self.qmp())]


@dataclass(frozen=True)
class Chardev(Part):
    """A character stream: a socket, a host device (``-chardev``, ``chardev-add``)."""

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def argv(self) -> list[str]:
        return ["-chardev", keyval(self.backend, self.options)]

    def qmp(self) -> dict[str, Any]:
        data = {k: v for k, v in self.options.items() if k != "id"}
        if self.backend == "socket":
            path = data.pop("path")
            data["addr"] = {"type": "unix", "data": {"path": path}}
        elif self.backend == "spicevmc":
            data["type"] = data.pop("name")
        elif "path" in data:
            data["device"] = data.pop("path")
        return {"id": self.options["id"], "backend": {"type": self.backend, "data": data}}


@dataclass(frozen=True)
class Flag(Part):
    """Any other option: ``-smp``, ``-cpu``, ``-machine``. Exists on a cold start only."""

    name: str
    text: str | None = None

    def argv(self) -> list[str]:
        return [self.name] if self.text is None else [self.name, self.text]

    def qmp(self) -> dict[str, Any]:
        raise NotImplementedError(f"{self.name} cannot change while the machine runs")
