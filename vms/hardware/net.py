"""Network cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vms.errors import ConfigError
from vms.schema.option import opt, shown
from vms.schema.propstring import PropertyString
from vms.schema.types import CpuSet, mac_address

MODEL = Literal[
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
]
MODELS: tuple[str, ...] = get_args(MODEL)
OFFERED_MODELS = ("e1000", "e1000e", "virtio", "rtl8139", "vmxnet3")
"""The models a form offers, in its order."""


def trunks(text: str) -> str:
    """VLAN numbers and ranges separated by semicolons."""
    for piece in text.split(";"):
        ends = piece.split("-")
        if len(ends) > 2 or not all(e.isascii() and e.isdigit() and 1 <= int(e[:5]) <= 4094 for e in ends):
            raise ValueError(f"'{shown(piece)}' is not a VLAN number or range between 1 and 4094")
    return text


@dataclass(frozen=True, kw_only=True)
class Net(PropertyString):
    """One network card."""

    model: MODEL = opt(
        "Model",
        required=True,
        short=True,
        labels={
            "e1000": "Intel E1000",
            "e1000e": "Intel E1000E",
            "virtio": "VirtIO (paravirtualized)",
            "rtl8139": "Realtek RTL8139",
            "vmxnet3": "VMware vmxnet3",
        },
        help="The kind of network card the guest sees.",
        otherwise="VirtIO is many times faster; a card the guest has no driver for does not work at all.",
        why="VirtIO for Linux; Intel E1000 for others, whose drivers every system brings along.",
    )
    macaddr: str | None = opt(
        "MAC address",
        check=mac_address,
        placeholder="auto",
        max_length=17,
        help="The card's hardware address.",
        otherwise="The same address twice on one network makes both machines lose packets.",
        why="A random one with the prefix BC:24:11 is made at creation.",
    )
    bridge: str | None = opt(
        "Bridge",
        pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}",
        pattern_text="a bridge name of at most 15 letters and digits, like vmbr0",
        help="The node's switch the card is plugged into.",
        otherwise="Without a bridge the guest reaches out through the node, but nobody reaches it.",
        why="The node's first bridge; without one, user-mode networking, which works on every box.",
    )
    tag: int | None = opt(
        "VLAN tag",
        minimum=1,
        maximum=4094,
        placeholder="no VLAN",
        help="The VLAN this card belongs to.",
        otherwise="The wrong number puts the guest into somebody else's network, or into none.",
        why="No VLAN by default.",
    )
    trunks: str | None = opt(
        "Trunks",
        check=trunks,
        max_length=256,
        advanced=True,
        help="VLANs that the guest may use itself, like 10;20-30.",
        otherwise="Without it the guest's own tags pass as the bridge is set up to let them.",
        why="Empty by default.",
    )
    firewall: bool | None = opt(
        "Firewall",
        default=False,
        help="Let the node's firewall look at this card's traffic.",
        otherwise="Off, no firewall rule applies to this card.",
        why="On in the wizard; without rules it lets everything through.",
    )
    link_down: bool | None = opt(
        "Disconnect",
        default=False,
        advanced=True,
        help="Pull the plug: the card is there, but has no link.",
        otherwise="Off, the card is connected.",
        why="Off by default.",
    )
    queues: int | None = opt(
        "Multiqueue",
        minimum=0,
        maximum=64,
        advanced=True,
        help="How many packet queues a VirtIO card has, so that several guest CPUs share its work.",
        otherwise="More queues than guest CPUs only use memory.",
        why="One queue by default.",
    )
    rate: float | None = opt(
        "Rate limit (MB/s)",
        minimum=0,
        maximum=10240,
        unit="MB/s",
        placeholder="unlimited",
        advanced=True,
        help="The most megabytes per second, in each direction. 1 MB/s is about 8 Mbit/s.",
        otherwise="Without a limit one guest can fill the node's line.",
        why="Unlimited by default.",
    )
    mtu: int | None = opt(
        "MTU",
        minimum=1,
        maximum=65520,
        placeholder="Same as bridge",
        advanced=True,
        help="The largest packet a VirtIO card tells its guest about; 1 means the bridge's.",
        otherwise="Larger than the bridge's is refused, smaller wastes a little speed.",
        why="Same as the bridge by default.",
    )
    host_tunnel: bool | None = opt(
        "Tunnel offload",
        key="host-tunnel",
        default=False,
        hidden=True,
        help="Let the guest hand over packets of its own tunnels in large pieces.",
        otherwise="Off, tunnels in the guest are a little slower.",
        why="Off by default.",
    )

    @classmethod
    def _split(cls, text: str, key: str) -> list[tuple[str, str]]:
        # 'virtio=BC:24:…' names the model and the address in one piece.
        pairs: list[tuple[str, str]] = []
        for name, value in super()._split(text, key):
            if name in MODELS:
                pairs += [("model", name), ("macaddr", value)]
            else:
                pairs.append((name, value))
        return pairs

    def format(self) -> str:
        """The canonical text: ``model=MAC`` first, the rest alphabetically."""
        text = super().format()
        if self.macaddr is None:
            return text
        words = [word for word in text.split(",")[1:] if not word.startswith("macaddr=")]
        return ",".join([f"{self.model}={self.macaddr}", *words])

    @property
    def trunk_tags(self) -> list[int]:
        """The VLANs the guest may use itself, ascending."""
        return sorted(set(CpuSet.parse(self.trunks, ";").numbers())) if self.trunks else []

    def check_parts(self, key: str) -> None:
        if self.mtu is not None and 1 < self.mtu < 576:
            raise ConfigError(
                key, f"{self.mtu} is smaller than 576, the smallest packet IP allows", part="mtu"
            )
