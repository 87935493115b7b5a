"""The rows of the Cloud-Init page as forms: what each shows, and the change of the configuration it asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from django import forms
from django.http import QueryDict

from vms.config import sshkeys
from vms.config.seeds import ROLES, is_windows, kind_of
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, ConfigErrors
from vms.forms.fields import Choices, OptionField, OptionFlag, form_field, sentence
from vms.forms.hardware import OptionForm, compose, decompose, option_at, read
from vms.schema.option import Option

Texts = dict[str, str]
Changes = dict[str, str | None]

PLAIN: Mapping[str, tuple[str, str]] = {
    "user": ("User", "ciuser"), "password": ("Password", "cipassword"),
    "domain": ("DNS domain", "searchdomain"), "servers": ("DNS servers", "nameserver"),
    "keys": ("SSH public key", "sshkeys"), "upgrade": ("Upgrade packages", "ciupgrade"),
    "type": ("Type", "citype"),
}  # fmt: skip
"""Row → its label and key. Besides them ``custom`` and one row ``ipconfigN`` a network card."""
CARD = re.compile(r"ipconfig(\d{1,2})")
MODES4 = (("none", "None"), ("dhcp", "DHCP"), ("static", "Static"))
MODES6 = (("none", "None"), ("dhcp", "DHCP"), ("auto", "SLAAC"), ("static", "Static"))
CUSTOM_LABELS = {
    "user": "User data",
    "network": "Network settings",
    "vendor": "Vendor data",
    "meta": "Metadata",
}


class KeysText(forms.Textarea):
    """Public keys, one a line, of a value that is kept URL-encoded."""

    def format_value(self, value: Any) -> str:
        return unquote(str(value or ""))


class Sheet:
    """One row as a form. ``texts`` are the snippets that can be chosen, volume id → label."""

    def __init__(self, row: str, mapping: Mapping[str, str], texts: Mapping[str, str]) -> None:
        """Raises ``KeyError`` for a row there is not."""
        self.row = row
        self.mapping = mapping
        self.texts = texts
        if row != "custom" and row not in PLAIN and not self._is_card():
            raise KeyError(row)
        self.values = self._values()
        self.errors: Texts = {}

    def _is_card(self) -> bool:
        found = CARD.fullmatch(self.row)
        return found is not None and (f"net{found[1]}" in self.mapping or self.row in self.mapping)

    @property
    def label(self) -> str:
        """What the row is called."""
        if self.row == "custom":
            return "Custom files"
        return PLAIN[self.row][0] if self.row in PLAIN else f"IP config (net{self.row[8:]})"

    @property
    def keys(self) -> tuple[str, ...]:
        """The configuration keys it changes."""
        if self.row in PLAIN:
            return (PLAIN[self.row][1],)
        return ("cicustom",) if self.row == "custom" else (self.row,)

    # ---- values

    def _values(self) -> Texts:
        if self.row == "custom":
            parts = decompose("cicustom", self.mapping.get("cicustom", ""))
            return {role: parts.get(role, "") for role in ROLES}
        if self.row not in PLAIN:
            return _card_values(self.mapping.get(self.row, ""))
        key = PLAIN[self.row][1]
        if key == "cipassword":
            return {"cipassword": "", "remove": "0"}
        return {key: read(self.mapping, key)}

    def fill(self, data: QueryDict) -> None:
        """Take what was sent."""
        for name in self.values:
            if self._option(name).kind == "bool":
                self.values[name] = "1" if name in data else "0"
            elif name in data:
                self.values[name] = str(data[name])[:200_000]
        if self.row == "keys":
            self.values["sshkeys"] = sshkeys.encode(self.values["sshkeys"])

    # ---- the form

    def form(self) -> OptionForm:
        """The form as it stands, every error on its field."""
        fields: dict[str, OptionField | OptionFlag] = {}
        for name in self.values:
            fields[name] = form_field(self._option(name), choices=self._choices(name))
        self._shape(fields)
        form = OptionForm(fields, self.values, prefix="ci")
        form.full_clean()
        form.errors.clear()  # whoever carries the change out says what is wrong with it
        for name, text in self.errors.items():
            form.add_error(name if name in form.fields else None, text)
        return form

    def _option(self, name: str) -> Option:
        if self.row == "custom":
            return _extra(name, CUSTOM_LABELS[name], "A text that replaces ours; Generated leaves it to us.")
        if self.row in PLAIN:
            return _REMOVE if name == "remove" else option_at(name)
        return {"mode4": _MODE4, "mode6": _MODE6}.get(name) or option_at(f"{self.row}.{name}")

    def _choices(self, name: str) -> Choices | None:
        if self.row == "custom":
            texts = {**self.texts, **{text: text for text in self.values.values() if text not in self.texts}}
            texts.pop("", None)
            return [("", "Generated"), *sorted(texts.items())]
        if name == "citype":
            default = kind_of(VMConfig.parse({k: v for k, v in self.mapping.items() if k == "ostype"}))
            return [("", f"Default ({default})"), *((kind, kind) for kind, _ in option_at("citype").choices)]
        return MODES4 if name == "mode4" else MODES6 if name == "mode6" else None

    def _shape(self, fields: dict[str, OptionField | OptionFlag]) -> None:
        if "sshkeys" in fields:
            fields["sshkeys"].widget = KeysText(
                attrs={"rows": 6, "wrap": "off", "spellcheck": "false", "class": "mono"}
            )
        for name, modes in (("mode4", MODES4), ("mode6", MODES6)):
            if name in fields:
                fields[name].widget = forms.RadioSelect(choices=modes)
        for name, (label, help_text) in _ADDRESSES.items():
            if name in fields:
                fields[name].label, fields[name].help_text = label, help_text
        if "cipassword" in fields:
            fields["cipassword"].widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
            if self.mapping.get("cipassword"):
                fields["cipassword"].note = "One is set; write another to replace it."
            else:
                fields["remove"].absent = True
        if is_windows(VMConfig.parse({k: v for k, v in self.mapping.items() if k == "ostype"})):
            for name in {"cipassword"} & fields.keys():
                fields[name].note = "Windows needs it as text, so it is kept as it is."

    # ---- the change

    def changes(self) -> Changes:
        """Key → text, None to remove it; without what is no change. Raises :class:`ConfigErrors`."""
        found = self._changed()
        return {key: text for key, text in found.items() if text != self.mapping.get(key)}

    def _changed(self) -> Changes:
        if self.row == "custom":
            return {"cicustom": compose("cicustom", self.values) or None}
        if self.row not in PLAIN:
            return {self.row: compose(self.row, _card_parts(self.values)) or None}
        key = PLAIN[self.row][1]
        text = self.values[key]
        if key == "cipassword":
            # A blank at an end belongs to a password; no field's cleaning touches it.
            return {key: None} if self.values["remove"] == "1" else {key: text} if text else {}
        if key == "ciupgrade":
            return {key: "0" if text == "0" else None}
        return {key: text.strip() or None}

    def blame(self, error: ConfigError) -> str:
        """Put an error on its field; answers what belongs to no field."""
        rest = []
        for one in error if isinstance(error, ConfigErrors) else [error]:
            name = one.part if one.part in self.values else one.key
            if name in self.values:
                self.errors[name] = sentence(one)
            else:
                rest.append(f"{one.key}: {sentence(one)}" if one.key not in self.keys else sentence(one))
        return " ".join(rest)


def _extra(name: str, label: str, help: str, kind: Any = "str") -> Option:
    return Option(name=name, attr=name, kind=kind, label=label, help=help)


_ADDRESSES = {
    "ip": ("IPv4 address", "With its prefix, as in 192.0.2.10/24."),
    "ip6": ("IPv6 address", "With its prefix, as in 2001:db8::10/64."),
}
_REMOVE = _extra("remove", "Remove it", "Without a password the user logs in with a key only.", "bool")
_MODE4 = _extra("mode4", "IPv4", "How the card gets its IPv4 address.")
_MODE6 = _extra("mode6", "IPv6", "How the card gets its IPv6 address.")


def _card_values(text: str) -> Texts:
    parts = decompose("ipconfig0", text)
    found: Texts = {}
    for version in ("", "6"):
        given = parts.get(f"ip{version}", "")
        static = bool(given) and given not in ("dhcp", "auto")
        found[f"mode{version or '4'}"] = "static" if static else given or "none"
        found[f"ip{version}"] = given if static else ""
        found[f"gw{version}"] = parts.get(f"gw{version}", "")
    return found


def _card_parts(values: Mapping[str, str]) -> Texts:
    """Raises :class:`ConfigError` where an address is missing."""
    found: Texts = {}
    for version in ("", "6"):
        mode = values[f"mode{version or '4'}"]
        address = values[f"ip{version}"].strip()
        if mode == "static" and not address:
            raise ConfigError(
                "ipconfig", "a static address is missing, as in 192.0.2.10/24", part=f"ip{version}"
            )
        found[f"ip{version}"] = address if mode == "static" else "" if mode == "none" else mode
        found[f"gw{version}"] = values[f"gw{version}"].strip() if mode == "static" else ""
    return found
