"""Options that reach past the machine into its node: an operator's alone, at every door."""

from __future__ import annotations

_KEYS = frozenset(
    {"args", "hookscript", "arch", "affinity", "hugepages", "keephugepages", "ivshmem", "amd-sev",
     "intel-tdx", "spice_enhancements"}
)  # fmt: skip


def operators_only(key: str, text: str) -> bool:
    """Whether only an operator may give ``key`` this value (Proxmox leaves these to root)."""
    kind = key.rstrip("0123456789")
    if key in _KEYS or kind == "parallel":
        return True
    if kind == "serial":
        return text != "socket"
    if kind in ("usb", "hostpci"):
        return "mapping=" not in text and text.partition(",")[0].removeprefix("host=") != "spice"
    return False
