"""From a drive's limits to what QEMU's throttle gets."""

from __future__ import annotations

from vms.errors import ConfigError
from vms.hardware.drive import Drive

MIB = 1 << 20
LARGEST = 10**15
"""The largest limit QEMU takes, per second and for a whole burst."""
_ENDS = (("", "total"), ("_rd", "read"), ("_wr", "write"))


def limits(key: str, drive: Drive) -> dict[str, int]:
    """The limits of a drive under QEMU's names; nothing for what is not limited.

    Raises :class:`ConfigError` for limits that QEMU would refuse.
    """
    found: dict[str, int] = {}
    for unit, name, factor in (("mbps", "bps", MIB), ("iops", "iops", 1)):
        for end, word in _ENDS:
            base = int((getattr(drive, unit + end) or 0) * factor)
            burst = int((getattr(drive, f"{unit}{end}_max") or 0) * factor)
            length = getattr(drive, f"{name}{end}_max_length")
            _check(key, f"{unit}{end}", base, burst, length or 1)
            values = {"": base, "-max": burst, "-max-length": length}
            found |= {f"{name}-{word}{tail}": value for tail, value in values.items() if value}
    return found


def _check(key: str, name: str, base: int, burst: int, length: int) -> None:
    if base > LARGEST:
        raise ConfigError(key, "is more than QEMU can limit to, leave it out", part=name)
    if burst and not base:
        raise ConfigError(key, f"a burst needs its limit, set '{name}' too", part=f"{name}_max")
    if burst and burst < base:
        raise ConfigError(key, f"a burst cannot be smaller than its limit '{name}'", part=f"{name}_max")
    if length > 1 and not burst:
        part = f"{name.removeprefix('m')}_max_length"
        raise ConfigError(key, f"a burst length needs its burst, set '{name}_max' too", part=part)
    if burst * length > LARGEST:
        raise ConfigError(key, "so large a burst is more than QEMU can limit to", part=f"{name}_max")
