"""Random values of every option: sound ones by their kind, and hostile ones."""

from __future__ import annotations

from random import Random
from urllib.parse import quote

from vms.errors import ConfigError
from vms.hardware import OPTIONS, part_of
from vms.schema.option import Option, options_of
from vms.schema.propstring import PropertyString

PIECES = (
    *("a", "Z", "9", "-", "_", ".", " ", "ü", "日本", "🐧", "é", "\u202e", "ß"),
    *(",", ",,", "=", '"', "'", "\\", "%", "%2C", "%00", "%n", ";", ":", "/", "..", "{", "}", "[", "]"),
    *("$(id)", "`", "|", "&", "\n", "\r", "\t", "\0", "\x7f", "id=x", "on", "file=/etc/shadow"),
)
"""What hostile text is made of."""
SOUND = {
    "wwn": lambda random: f"0x{random.getrandbits(64):016x}",
    "macaddr": lambda random: f"{random.randrange(128) * 2:02x}:" + ":".join(
        f"{random.randrange(256):02X}" for _ in range(5)
    ),
    "vendor": lambda random: "".join(random.choices("AZaz09 _-", k=random.randint(1, 8))).strip() or "v",
    "product": lambda random: "".join(random.choices("AZaz09 _-", k=random.randint(1, 16))).strip() or "p",
    "uuid": lambda random: "-".join(f"{random.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12)),
}  # fmt: skip
"""Sound texts of options whose kind does not say it all."""
ENCODED = ("serial", "model")


def hostile(random: Random, most: int = 6) -> str:
    """A text nobody should have to expect."""
    return "".join(random.choices(PIECES, k=random.randint(1, most)))


def value(random: Random, option: Option) -> str:
    """One value of an option, sound more often than not."""
    if option.name in ENCODED and option.check is not None and random.random() < 0.8:
        # The form that carries any text: what the guest reads may hold commas, quotes and all the rest.
        return quote(hostile(random, 4), safe="")
    if random.random() < 0.25:
        return hostile(random)
    if option.name in SOUND:
        return SOUND[option.name](random)
    if option.kind == "bool":
        return random.choice(("0", "1", "on", "off", "yes", "FALSE"))
    if option.kind == "enum":
        return random.choice(option.choices)[0]
    if option.kind in ("int", "float"):
        low = int(option.minimum or 0)
        high = int(min(option.maximum if option.maximum is not None else 1 << 62, 1 << 62))
        number = random.choice((low, high, random.randint(low, min(high, low + 4096))))
        return str(number) if option.kind == "int" else f"{number}{random.choice(('', '.5', '.125'))}"
    return hostile(random)


def part_text(random: Random, key: str, start: str, leave_out: frozenset[str], chance: float = 0.25) -> str:
    """A property string for ``key`` that begins with ``start``, with every option at random."""
    kind = part_of(key)
    assert kind is not None
    words = [start]
    for option in options_of(kind):
        if not option.short and option.name not in leave_out and random.random() < chance:
            words.append(f"{option.name}={value(random, option)}")
    random.shuffle(words[1:])
    return ",".join(words)


class Draw:
    """Draws values until one is accepted, and counts what was refused."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.refused = 0

    def part(self, key: str, start: str, leave_out: frozenset[str] = frozenset()) -> str:
        """An accepted property string for ``key``."""
        kind = part_of(key)
        assert kind is not None
        while True:
            text = part_text(self.random, key, start, leave_out)
            try:
                made: PropertyString = kind.parse(text, key)
            except ConfigError:
                self.refused += 1
                continue
            # What was accepted can be written and is read back as the same.
            assert kind.parse(made.format(), key) == made
            return text


NOT_DRAWN = frozenset(
    {
        "args",
        "arch",
        "hookscript",
        "hugepages",
        "keephugepages",
        "kvm",
        "template",
        "ivshmem",
        "boot",
        "bootdisk",
    }
)
"""What reaches past the guest (superusers' words, the node's memory), and what names devices of others."""
STARTS: dict[str, tuple[str, ...]] = {
    "agent": ("1", "0"),
    "audio0": ("device=AC97", "device=intel-hda", "device=ich9-intel-hda"),
    "cicustom": ("user=local:snippets/u",),
    "cpu": ("kvm64", "qemu64", "x86-64-v2-AES", "Westmere", "max"),
    "machine": ("pc", "q35", "pc-i440fx-7.1", "pc-q35-6.2"),
    "memory": ("64", "96", "256"),
    "meta": ("creation-qemu=9.2.0",),
    "rng0": ("/dev/urandom",),
    "smbios1": ("base64=0",),
    "spice_enhancements": ("foldersharing=1",),
    "startup": ("order=1",),
    "vga": ("std", "cirrus", "vmware", "qxl2", "serial0"),
    "watchdog": ("i6300esb", "ib700"),
}
"""How a property string begins; the rest of it is drawn. What begins it is not drawn again."""


def board(draw: Draw) -> dict[str, str]:
    """A configuration whose plain options are at random."""
    random = draw.random
    found = {"cores": str(random.randint(1, 4)), "memory": "128", "serial0": "socket"}
    for key, option in OPTIONS.items():
        if key in NOT_DRAWN or random.random() < 0.4:
            continue
        if key in STARTS:
            start = random.choice(STARTS[key])
            named = start.partition("=")[0] if "=" in start else ""
            also = {"machine": {"type"}, "cpu": {"level"}}.get(key, set())
            found[key] = draw.part(key, start, frozenset({named} | also))
        elif part_of(key) is None and key not in found:
            small = key in ("sockets", "vcpus", "balloon")
            found[key] = str(random.randint(0, 4)) if small else value(random, option)
    return found
