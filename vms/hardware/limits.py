"""How fast a drive may be used: limits, bursts and how long a burst lasts."""

from __future__ import annotations

from dataclasses import dataclass

from vms.errors import ConfigError
from vms.schema.option import opt
from vms.schema.propstring import PropertyString

_LIMITS = ("", "_rd", "_wr")


@dataclass(frozen=True, kw_only=True)
class Limits(PropertyString):
    """The limits of one drive. MB means 1048576 bytes."""

    mbps: float | None = opt(
        "Limit (MB/s)",
        minimum=0,
        unit="MB/s",
        placeholder="unlimited",
        advanced=True,
        help="The most data per second, reading and writing together.",
        otherwise="Without a limit one busy guest can slow the others on the same storage.",
        why="Unlimited by default.",
    )
    mbps_rd: float | None = opt(
        "Read limit (MB/s)",
        minimum=0,
        unit="MB/s",
        placeholder="unlimited",
        advanced=True,
        help="The most data read per second.",
        otherwise="Without a limit one busy guest can slow the others on the same storage.",
        why="Unlimited by default.",
    )
    mbps_wr: float | None = opt(
        "Write limit (MB/s)",
        minimum=0,
        unit="MB/s",
        placeholder="unlimited",
        advanced=True,
        help="The most data written per second.",
        otherwise="Without a limit one busy guest can slow the others on the same storage.",
        why="Unlimited by default.",
    )
    mbps_max: float | None = opt(
        "Max burst (MB)",
        minimum=0,
        unit="MB/s",
        placeholder="default",
        advanced=True,
        help="How far above the limit a short burst may go.",
        otherwise="Without it a burst is a tenth of the limit.",
        why="QEMU's own value by default.",
    )
    mbps_rd_max: float | None = opt(
        "Read max burst (MB)",
        minimum=0,
        unit="MB/s",
        placeholder="default",
        advanced=True,
        help="How far above the read limit a short burst may go.",
        otherwise="Without it a burst is a tenth of the limit.",
        why="QEMU's own value by default.",
    )
    mbps_wr_max: float | None = opt(
        "Write max burst (MB)",
        minimum=0,
        unit="MB/s",
        placeholder="default",
        advanced=True,
        help="How far above the write limit a short burst may go.",
        otherwise="Without it a burst is a tenth of the limit.",
        why="QEMU's own value by default.",
    )
    iops: int | None = opt(
        "Limit (ops/s)",
        minimum=0,
        unit="ops/s",
        placeholder="unlimited",
        advanced=True,
        help="The most operations per second, reading and writing together.",
        otherwise="Without a limit one busy guest can slow the others on the same storage.",
        why="Unlimited by default.",
    )
    iops_rd: int | None = opt(
        "Read limit (ops/s)",
        minimum=0,
        unit="ops/s",
        placeholder="unlimited",
        advanced=True,
        help="The most read operations per second.",
        otherwise="Without a limit one busy guest can slow the others on the same storage.",
        why="Unlimited by default.",
    )
    iops_wr: int | None = opt(
        "Write limit (ops/s)",
        minimum=0,
        unit="ops/s",
        placeholder="unlimited",
        advanced=True,
        help="The most write operations per second.",
        otherwise="Without a limit one busy guest can slow the others on the same storage.",
        why="Unlimited by default.",
    )
    iops_max: int | None = opt(
        "Max burst (ops)",
        minimum=0,
        unit="ops/s",
        placeholder="default",
        advanced=True,
        help="How many operations a short burst may have.",
        otherwise="Without it a burst is a tenth of the limit.",
        why="QEMU's own value by default.",
    )
    iops_rd_max: int | None = opt(
        "Read max burst (ops)",
        minimum=0,
        unit="ops/s",
        placeholder="default",
        advanced=True,
        help="How many read operations a short burst may have.",
        otherwise="Without it a burst is a tenth of the limit.",
        why="QEMU's own value by default.",
    )
    iops_wr_max: int | None = opt(
        "Write max burst (ops)",
        minimum=0,
        unit="ops/s",
        placeholder="default",
        advanced=True,
        help="How many write operations a short burst may have.",
        otherwise="Without it a burst is a tenth of the limit.",
        why="QEMU's own value by default.",
    )
    bps_max_length: int | None = opt(
        "Any burst length (data)",
        minimum=1,
        unit="s",
        aliases=("bps_length",),
        hidden=True,
        help="For how many seconds a burst of any data may last.",
        otherwise="Longer bursts let the guest go over its limit for longer.",
        why="One second by default.",
    )
    bps_rd_max_length: int | None = opt(
        "Read burst length (data)",
        minimum=1,
        unit="s",
        aliases=("bps_rd_length",),
        hidden=True,
        help="For how many seconds a burst of read data may last.",
        otherwise="Longer bursts let the guest go over its limit for longer.",
        why="One second by default.",
    )
    bps_wr_max_length: int | None = opt(
        "Write burst length (data)",
        minimum=1,
        unit="s",
        aliases=("bps_wr_length",),
        hidden=True,
        help="For how many seconds a burst of write data may last.",
        otherwise="Longer bursts let the guest go over its limit for longer.",
        why="One second by default.",
    )
    iops_max_length: int | None = opt(
        "Any burst length (operations)",
        minimum=1,
        unit="s",
        aliases=("iops_length",),
        hidden=True,
        help="For how many seconds a burst of any operations may last.",
        otherwise="Longer bursts let the guest go over its limit for longer.",
        why="One second by default.",
    )
    iops_rd_max_length: int | None = opt(
        "Read burst length (operations)",
        minimum=1,
        unit="s",
        aliases=("iops_rd_length",),
        hidden=True,
        help="For how many seconds a burst of read operations may last.",
        otherwise="Longer bursts let the guest go over its limit for longer.",
        why="One second by default.",
    )
    iops_wr_max_length: int | None = opt(
        "Write burst length (operations)",
        minimum=1,
        unit="s",
        aliases=("iops_wr_length",),
        hidden=True,
        help="For how many seconds a burst of write operations may last.",
        otherwise="Longer bursts let the guest go over its limit for longer.",
        why="One second by default.",
    )

    @classmethod
    def _split(cls, text: str, key: str) -> list[tuple[str, str]]:
        # bps (bytes per second) is an input form of mbps; it is stored as the latter.
        pairs = super()._split(text, key)
        return [cls._bytes_as_mebibytes(name, value) for name, value in pairs]

    @staticmethod
    def _bytes_as_mebibytes(name: str, value: str) -> tuple[str, str]:
        if name not in ("bps", "bps_rd", "bps_wr") or not (value.isascii() and value.isdigit()):
            return name, value
        return f"m{name}", f"{int(value[:18]) / (1 << 20):.3f}"

    def check_limits(self, key: str) -> None:
        """Rules between the limits. Raises :class:`ConfigError`."""
        for unit in ("mbps", "iops"):
            if getattr(self, unit) is not None and any(
                getattr(self, unit + end) is not None for end in ("_rd", "_wr")
            ):
                raise ConfigError(key, f"'{unit}' stands alone or is split into read and write", part=unit)
            for end in _LIMITS:
                self._check_burst(key, unit, end)

    def _check_burst(self, key: str, unit: str, end: str) -> None:
        base, burst = f"{unit}{end}", f"{unit}{end}_max"
        if unit == "mbps" and getattr(self, burst) is not None and getattr(self, base) is None:
            raise ConfigError(key, f"a burst needs its limit, set '{base}' too", part=burst)
        length = f"{unit.removeprefix('m')}{end}_max_length"
        if getattr(self, length) is not None and getattr(self, burst) is None:
            raise ConfigError(key, f"a burst length needs its burst, set '{burst}' too", part=length)
