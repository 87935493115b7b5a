"""A draft being edited: a VM row, its configuration, and what its maker typed, touched and saw.

The configuration always lives in the rows (``save_config``); ``vm.draft`` holds only what no configuration
can: texts that are no legal value yet, and which values a person set on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vms.config.secrets import masked
from vms.errors import ConfigError
from vms.forms.editing import Editing, Texts
from vms.forms.fields import sentence
from vms.forms.hardware import decompose
from vms.hardware import part_of
from vms.models import VM
from vms.models.configuration import config_of, save_config
from vms.operations.protection import note_owner
from vms.wizard.tabs import SLUGS, tab_of


class Draft(Editing):
    """One draft in one request. Change it through the panels, then :meth:`store`."""

    def __init__(self, vm: VM, user: Any) -> None:
        super().__init__(vm, user, config_of(vm))
        self.saved: Texts = dict(self.mapping)
        memory: dict[str, Any] = dict(vm.draft)
        self.touched = set(memory.get("touched", ()))
        self.visited: set[str] = set(memory.get("visited", ()))
        self.pressed: set[str] = set(memory.get("pressed", ()))
        self.typed = dict(memory.get("typed", {}))
        self.errors = dict(memory.get("errors", {}))
        self.before: dict[str, str | None] = dict(memory.get("before", {}))
        self.followed: str = memory.get("followed", "")
        self.stash = dict(memory.get("stash", {}))
        self.was: list[int] = list(memory.get("was", ()))
        self.rest = {k: v for k, v in memory.items() if k not in _OWN}

    @property
    def reserved(self) -> set[str]:
        """The drive every machine made here has, and the second one for drivers."""
        return {"ide2", "ide0"} if self.stash.get("drivers") == "1" else {"ide2"}

    def store(self, *, note: bool = True) -> None:
        """Save the configuration, and with ``note`` the notes. A key that cannot stand keeps its former
        value, the new text stays in its field and the reason under it; everything else is saved."""
        wanted = dict(self.mapping)
        for _ in range(len(wanted) + 1):
            try:
                if wanted != self.saved or not self.vm.digest:
                    self._stored(save_config(self.vm, wanted))
                    note_owner(self.vm, self.user.get_username())
                break
            except ConfigError as error:
                if not self._give_way(wanted, error):
                    break
        self.mapping = dict(self.saved)
        if note:
            self.remember()

    def _stored(self, stored: Texts) -> None:
        """What was saved, as it was stored; what stood before is kept to mark the difference."""
        if self.saved and stored != self.saved:
            self.rest["previous"] = masked(self.saved)
        self.saved = stored

    def _give_way(self, wanted: Texts, error: ConfigError) -> bool:
        changed = False
        for single in getattr(error, "errors", (error,)):
            scope, name, text = locate(single, wanted)
            self.blame(scope, name, text, _tried(wanted.get(single.key, ""), single))
            old = self.saved.get(single.key)
            if wanted.get(single.key) != old:
                changed = True
                wanted.pop(single.key, None)
                if old is not None:
                    wanted[single.key] = old
        return changed

    def remember(self) -> None:
        """Write the notes into the row."""
        self.vm.draft = self.rest | {
            "touched": sorted(self.touched), "visited": [s for s in SLUGS if s in self.visited],
            "pressed": sorted(self.pressed), "typed": self.typed, "errors": self.errors,
            "before": self.before, "followed": self.followed, "stash": self.stash, "was": self.was,
        }  # fmt: skip
        self.vm.save(update_fields=["draft", "modified"])


_OWN = frozenset({"touched", "visited", "pressed", "typed", "errors", "before", "followed", "stash", "was"})


def locate(error: ConfigError, mapping: Mapping[str, str]) -> tuple[str, str, str]:
    """Scope, field name and sentence of a configuration error. The scope of a listed drive is its slot."""
    slug = tab_of(error.key, mapping) or "general"
    text = sentence(error)
    if slug in ("disks", "network"):
        part = {"file": "storage", "format": "format", "": "bus" if slug == "disks" else "macaddr"}.get(
            error.part, error.part
        )
        return error.key, part, text
    files = {"efidisk0": "efi_storage", "tpmstate0": "tpm_storage", "ide2": "iso", "ide0": "drivers_iso"}
    if error.key in files and error.part in ("", "file"):
        return slug, files[error.key], text
    whole = {"cpu": "cpu.cputype", "vga": "vga.type", "machine": "machine.type", "agent": "agent.enabled"}
    whole |= {"memory": "memory.current", "startup": "startup.order"}
    if not error.part:
        return slug, whole.get(error.key, error.key), text
    return slug, f"{error.key}.{error.part}", text


def _tried(text: str, error: ConfigError) -> str | None:
    """What was typed for the part at fault, to show it again."""
    if part_of(error.key) is None:
        return text
    try:
        return decompose(error.key, text).get(error.part)
    except ConfigError:
        return None
