"""The tab System: board, firmware, controller, agent, TPM."""

from __future__ import annotations

from vms.forms import disks
from vms.forms.boards import LABELS, board_of, machine_type, version_of, versions
from vms.forms.editing import Texts
from vms.forms.fields import Choices
from vms.forms.hardware import compose, decompose
from vms.forms.panel import Fields, Panel, disable, hide
from vms.wizard.drafts import Draft
from vms.wizard.tabs import BY_SLUG

FORMATS = ("raw", "qcow2")


def sole_place(draft: Draft) -> str:
    """The storage for small disks when there is only one to choose."""
    places = draft.offers.disk_places
    return places[0].name if len(places) == 1 else ""


def small_disk(draft: Draft, key: str, storage: str, parts: Texts) -> None:
    """Put the EFI or TPM disk ``key`` on ``storage``; its size is the backend's. None without a storage."""
    if not storage:
        draft.mapping.pop(key, None)
        return
    draft.mapping[key] = compose(key, {"file": f"{storage}:1", **parts}, draft.mapping.get(key, ""))


class System(Panel):
    """Board, firmware, controller, agent, TPM."""

    slug = "system"
    sections = BY_SLUG["system"].sections
    draft: Draft

    def values(self, slot: str) -> Texts:
        mapping, stash = self.mapping, self.draft.stash
        efi, tpm = decompose("efidisk0", mapping.get("efidisk0", "")), mapping.get("tpmstate0", "")
        found = super().values(slot) | {
            "efi": stash.get("efi", "1"),
            "efi_storage": efi.get("file", "").partition(":")[0] or stash.get("efi_storage", ""),
            "efi_format": self.draft.offers.format_on(
                efi.get("file", "").partition(":")[0],
                efi.get("format", "") or stash.get("efi_format", "qcow2"),
            ),
            "tpm": stash.get("tpm", "1" if tpm else "0"),
            "tpm_storage": tpm.partition(":")[0] or stash.get("tpm_storage", ""),
        }
        if not efi:
            found["efidisk0.pre-enrolled-keys"] = stash.get("keys", "1")
        found["tpmstate0.version"] = found["tpmstate0.version"] or "v2.0"
        kind = found["machine.type"]
        return found | {"machine.type": board_of(kind), "machine_version": version_of(kind)}

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        if name == "machine.type":
            chosen = values.get(name, "")
            return [*LABELS.items(), *([] if chosen in LABELS else [(chosen, chosen)])]
        if name == "machine_version":
            offered = versions(values.get("machine.type", ""), self.draft.facts)
            pinned = values.get(name, "")
            return offered if pinned in dict(offered) else [*offered, (pinned, f"{pinned} (not here)")]
        if name == "vga.type":
            cards = [pair for pair in self.option(name, slot).choices if pair[0] != "cirrus"]
            return [("", "Default"), *cards]
        if name in ("efi_storage", "tpm_storage"):
            return [("", "Choose a storage"), *self.draft.offers.storage_choices]
        if name in ("efi_format", "tpmstate0.version"):
            return list(self.option(name, slot).choices)
        return None

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        if values.get("bios") != "ovmf":
            hide(fields, "efi", "efi_storage", "efi_format", "efidisk0.pre-enrolled-keys")
        elif values.get("efi") != "1":
            why = "There is no EFI disk to put it on."
            disable(fields, why, "efi_storage", "efi_format", "efidisk0.pre-enrolled-keys")
        elif self.mapping.get("efidisk0") and values.get("efi_storage"):
            fields["efi_storage"].note = f"528 KiB on '{values['efi_storage']}'."
        only = self.draft.offers.only_format(values.get("efi_storage", ""))
        if only:
            disable(fields, only, "efi_format")
        if values.get("tpm") != "1":
            hide(fields, "tpm_storage", "tpmstate0.version")
        if values.get("vga.type", "").startswith("serial"):
            fields["vga.type"].note = "A serial port is added; the web console becomes a terminal."

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        own = {"efidisk0.pre-enrolled-keys": "keys", "efi_format": "efi_format", "efi": "efi"}
        own |= {"efi_storage": "efi_storage", "tpm": "tpm", "tpm_storage": "tpm_storage"}
        for name, note in own.items():
            if name in good:
                self.draft.stash[note] = good[name]
        if {"machine.type", "machine_version"} & set(good):
            good["machine.type"] = self._machine(good, values)
        plain = {n: t for n, t in good.items() if n.partition(".")[0] not in ("efidisk0", "tpmstate0")}
        self.put(plain, slot)
        if "scsihw" in good:
            disks.tune(self.draft)
        if "vga.type" in good:
            self._serial(good["vga.type"])
        if "tpmstate0.version" in good:
            self.draft.stash["tpm_version"] = good["tpmstate0.version"]
        settle(self.draft)
        return slot

    def _machine(self, good: Texts, values: Texts) -> str:
        """The type of board and version; a version the new board does not have becomes the latest."""
        board, version = values["machine.type"], values["machine_version"]
        if version not in dict(versions(board, self.draft.facts)) and "machine_version" not in good:
            version = ""
        return machine_type(board, version)

    def _serial(self, card: str) -> None:
        for index in range(4):
            key = f"serial{index}"
            if key == card:
                self.mapping[key] = "socket"
            elif self.mapping.get(key) == "socket":
                del self.mapping[key]


def settle(draft: Draft) -> None:
    """Add or remove the EFI and TPM disks as the System tab's choices ask."""
    values = System(draft).values("")
    if values["bios"] == "ovmf" and values["efi"] == "1":
        keys = draft.stash.get("keys", values["efidisk0.pre-enrolled-keys"])
        form = draft.stash.get("efi_format") or values["efi_format"]
        parts = {"efitype": "4m", "pre-enrolled-keys": keys, "format": form}
        small_disk(draft, "efidisk0", draft.stash.get("efi_storage") or values["efi_storage"]
                   or sole_place(draft), parts)  # fmt: skip
    else:
        draft.mapping.pop("efidisk0", None)
    if values["tpm"] == "1":
        version = draft.stash.get("tpm_version") or values["tpmstate0.version"]
        store = draft.stash.get("tpm_storage") or values["tpm_storage"] or sole_place(draft)
        small_disk(draft, "tpmstate0", store, {"version": version})
    else:
        draft.mapping.pop("tpmstate0", None)
