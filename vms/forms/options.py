"""The dialogs of the Options page: each lays a few options over one key of the configuration."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from vms.config.pending import hotplugged
from vms.errors import ConfigError
from vms.forms.editing import Texts
from vms.forms.fields import Choices
from vms.forms.hardware import compose, decompose, option_at
from vms.forms.panel import Panel, Section
from vms.hardware.machine import HOTPLUG_WORDS, Smbios1, hotplug_words
from vms.schema.option import Option, opt, option_table, options_of
from vms.schema.types import normal_tags

SMBIOS_LIMIT = 512
"""Characters of the key ``smbios1``, as in PVE."""


@dataclass(frozen=True, kw_only=True)
class Own:
    """Choices only these dialogs make, declared as every option is."""

    network: bool | None = opt(
        "Network cards", help="Add, remove and replace network cards while the guest runs.",
        otherwise="Off, such a change waits for the next start.", why="On: guests of all kinds cope with it.",
    )  # fmt: skip
    disk: bool | None = opt(
        "Disks", help="Add and remove SCSI and VirtIO disks while the guest runs.",
        otherwise="Off, such a change waits for the next start.", why="On: guests of all kinds cope with it.",
    )  # fmt: skip
    usb: bool | None = opt(
        "USB devices", help="Hand over and take back USB devices and the tablet while the guest runs.",
        otherwise="Off, such a change waits for the next start.", why="On: guests of all kinds cope with it.",
    )  # fmt: skip
    cpu: bool | None = opt(
        "Processors", help="Raise and lower the number of active vCPUs while the guest runs.",
        otherwise="Off, another number waits for the next start.",
        why="Off: the guest has to be able to give a processor back.",
    )  # fmt: skip
    memory: bool | None = opt(
        "Memory", help="Add memory while the guest runs. NUMA must be on (Hardware, Processors).",
        otherwise="Off, another size waits for the next start.",
        why="Off: it gives the guest another memory layout.",
    )  # fmt: skip
    cloudinit: bool | None = opt(
        "Cloud-init", help="Write the cloud-init drive anew as soon as one of its settings changes.",
        otherwise="Off, it is written at the next start.",
        why="Off: a guest reads it while it boots, not later.",
    )  # fmt: skip
    reason: str | None = opt(
        "Reason", max_length=300, placeholder="why nobody may remove it",
        help="Shown with your name to everybody who tries to remove the VM or one of its disks.",
        otherwise="Without it the next one switches protection off, not knowing better.",
        why="No default: only you know.",
    )  # fmt: skip
    identity: Literal["keep", "new", "none"] | None = opt(
        "VM generation ID", labels={"keep": "Keep it", "new": "Make a new one", "none": "None"},
        help="A number that changes when the machine was copied or rolled back, so that the guest notices.",
        otherwise="Without it a cloned domain controller may confuse its partners.",
        why="A random one is made at creation.",
    )  # fmt: skip


OWN: Mapping[str, Option] = option_table(Own)


class OptionPanel(Panel):
    """A dialog about the configuration key that is its ``slug``."""

    own: ClassVar[Mapping[str, Option]] = {}
    """Its fields that are no option of the schema, or are one in other words."""

    def option(self, name: str, slot: str) -> Option:
        return self.own[name] if name in self.own else option_at(name)

    def lay(self, text: str) -> None:
        """Make ``text`` the key's value; "" takes it out."""
        if text:
            self.mapping[self.slug] = text
        else:
            self.mapping.pop(self.slug, None)


def simple(key: str, *names: str) -> type[OptionPanel]:
    """The dialog of a key that needs no rule of its own."""
    return type(f"{key.title()}Panel", (OptionPanel,), {"slug": key, "sections": (Section(names or (key,)),)})


class Tags(OptionPanel):
    """Kept as the server stores them: lower case, sorted, each once."""

    slug = "tags"
    sections = (Section(("tags",)),)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        if "tags" in good:
            self.lay(normal_tags(good["tags"]))
        return slot


class LocalTime(OptionPanel):
    """Yes, no, or what the guest's system expects."""

    slug = "localtime"
    sections = (Section(("localtime",)),)
    own = {
        "localtime": replace(
            option_at("localtime"), kind="enum", choices=(("1", "Yes, local time"), ("0", "No, UTC"))
        )
    }

    def values(self, slot: str) -> Texts:
        return {"localtime": self.mapping.get("localtime", "")}

    def choices(self, name: str, values: Texts, slot: str) -> Choices:
        return [("", "Default (local time for Windows, else UTC)"), *self.own[name].choices]

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        self.lay(values["localtime"])
        return slot


class Hotplug(OptionPanel):
    """A box for each kind of device."""

    slug = "hotplug"
    sections = (Section(HOTPLUG_WORDS),)
    own = {word: OWN[word] for word in HOTPLUG_WORDS}

    def values(self, slot: str) -> Texts:
        words = hotplug_words(self.mapping.get("hotplug", "1"))
        return {word: "1" if word in words else "0" for word in HOTPLUG_WORDS}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        words = tuple(word for word in HOTPLUG_WORDS if values[word] == "1")
        self.lay("" if set(words) == hotplugged(None) else ",".join(words) or "0")
        return slot


class Smbios(OptionPanel):
    """The texts as people write them; stored in base64, so that they may hold any character."""

    slug = "smbios1"
    own = {
        option.name: replace(option, pattern="", pattern_text="", max_length=200)
        for option in options_of(Smbios1)
        if option.name != "base64"
    }
    sections = (Section(tuple(own)),)

    def values(self, slot: str) -> Texts:
        texts = smbios_texts(self.mapping.get("smbios1", ""))
        return {name: texts.get(name, "") for name in self.names}

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        try:
            length = len(self.text(values))
        except ConfigError:
            return {}  # said on its field already
        if length <= SMBIOS_LIMIT:
            return {}
        longest = max(self.names, key=lambda name: len(values[name]))
        return {
            longest: f"All texts together are too long ({length} of {SMBIOS_LIMIT} characters); shorten it."
        }

    def text(self, values: Texts) -> str:
        """The key's value. Raises :class:`ConfigError` for a number that is no UUID."""
        given = {name: values[name] for name in self.names if values[name]}
        texts = {name: b64encode(text.encode()).decode() for name, text in given.items() if name != "uuid"}
        if texts:
            given |= texts | {"base64": "1"}
        return compose("smbios1", given)

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        if good:
            # What cannot stand is said on its field and kept there; the rest goes on from what was.
            saved = self.values(slot)
            wrong = self.draft.typed.get(self.slug, {})
            self.lay(self.text({name: saved[name] if name in wrong else values[name] for name in self.names}))
        return slot


def smbios_texts(text: str) -> Texts:
    """The parts of ``smbios1`` as people write them. Raises :class:`ConfigErrors`."""
    parts = decompose("smbios1", text)
    coded = parts.pop("base64", "0") == "1"
    return {name: plain(text) if coded and name != "uuid" else text for name, text in parts.items()}


def plain(coded: str) -> str:
    """A text out of base64; itself when it is none."""
    try:
        return b64decode(coded, validate=True).decode()
    except (NotBase64, UnicodeDecodeError):
        return coded


class GuestAgent(OptionPanel):
    """The agent's channel and what it is used for."""

    slug = "agent"
    sections = (
        Section(("agent.enabled", "agent.type")),
        Section(("agent.fstrim_cloned_disks", "agent.freeze-fs")),
    )

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        super().take(good, values, slot)
        text = self.mapping.get("agent", "")
        if text and "enabled" not in decompose("agent", text):
            self.lay(compose("agent", {"enabled": "0"}, text))  # PVE insists on it when anything else is said
        return slot


class Protection(OptionPanel):
    """On, it needs a reason, which ends in ``stash``: no configuration holds it."""

    slug = "protection"
    sections = (Section(("protection", "reason")),)
    own = {"reason": OWN["reason"]}

    def values(self, slot: str) -> Texts:
        on = self.mapping.get("protection", "0")
        reason = self.draft.stash.get("reason", self.draft.vm.guard.get("reason", ""))
        return {"protection": on, "reason": str(reason)}

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        if values["protection"] == "1" and not values["reason"].strip():
            return {"reason": "A reason is missing; say why nobody may remove it."}
        return {}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        if "protection" in good:
            self.lay("1" if good["protection"] == "1" else "")
        if self.mapping.get("protection") == "1":
            self.draft.stash["reason"] = values["reason"].strip()
        return slot


class StateStorage(OptionPanel):
    """One of the storages on which the user may make disks."""

    slug = "vmstatestorage"
    sections = (Section(("vmstatestorage",)),)

    def choices(self, name: str, values: Texts, slot: str) -> Choices:
        found = [("", "Automatic"), *self.draft.offers.storage_choices]
        chosen = self.mapping.get("vmstatestorage", "")
        return found if chosen in dict(found) else [*found, (chosen, f"{chosen} (not yours to use)")]


class Generation(OptionPanel):
    """Keep the number, make another, or have none."""

    slug = "vmgenid"
    sections = (Section(("identity",)),)
    own = {"identity": OWN["identity"]}

    @property
    def present(self) -> str:
        text = self.mapping.get("vmgenid", "0")
        return "" if text == "0" else text

    def values(self, slot: str) -> Texts:
        return {"identity": "keep" if self.present else "none"}

    def choices(self, name: str, values: Texts, slot: str) -> Choices:
        words = dict(OWN[name].choices)
        if not self.present:
            return [("none", words["none"]), ("new", words["new"])]
        return [("keep", f"Keep {self.present}"), ("new", words["new"]), ("none", words["none"])]

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        if values["identity"] == "new":
            self.lay("1")
        elif values["identity"] == "none":
            self.lay("")
        return slot


def _panels() -> Iterator[type[OptionPanel]]:
    for key in ("name", "onboot"):
        yield simple(key)
    yield simple("startup", "startup.order", "startup.up", "startup.down")
    for key in ("ostype", "tablet", "acpi", "kvm", "freeze", "startdate", "reboot", "keyboard", "args"):
        yield simple(key)
    yield simple(
        "spice_enhancements", "spice_enhancements.foldersharing", "spice_enhancements.videostreaming"
    )
    yield from (Tags, LocalTime, Hotplug, Smbios, GuestAgent, Protection, StateStorage, Generation)


PANELS: Mapping[str, type[OptionPanel]] = {panel.slug: panel for panel in _panels()}
"""Configuration key → its dialog. The boot order and the notes have pages of their own kind."""
