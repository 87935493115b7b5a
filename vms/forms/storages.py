"""The form of a storage: its kind's options, what may lie there, and who sees it."""

from __future__ import annotations

from typing import Any

from django import forms

from vms.errors import ConfigError, ConfigErrors, VMError
from vms.forms.fields import form_field, sentence
from vms.models import Storage
from vms.operations.storages import CONTENT_WORDS, Wish, texts_of
from vms.schema.option import options_of
from vms.storage.kinds import StorageKind

PREFIX = "opt."
"""Before an option's name: a pool may have an option called as a field of ours."""


class StorageForm(forms.Form):
    """One kind's storage; with ``row`` the one that is edited, which keeps its name."""

    storage = forms.CharField(
        label="Name", max_length=63, help_text="How volumes are called there: NAME:vm-101-disk-0."
    )
    shared = forms.BooleanField(required=False, help_text="Every node sees the same volumes there.")
    enabled = forms.BooleanField(
        required=False,
        initial=True,
        help_text="Switched off it is offered nowhere, and nothing on it starts.",
    )
    force = forms.BooleanField(
        label="Save all the same", required=False, help_text="Although it cannot be used at the moment."
    )

    def __init__(self, kind: StorageKind, data: Any = None, *, row: Storage | None = None) -> None:
        super().__init__(data, auto_id="st-%s", initial=None if row is None else first_of(row))
        self.kind, self.row = kind, row
        options = {PREFIX + o.name: form_field(o, required=o.required) for o in options_of(kind.options)}
        self.fields["content"] = content = forms.MultipleChoiceField(
            choices=[(name, CONTENT_WORDS[name]) for name in kind.contents],
            widget=forms.CheckboxSelectMultiple, help_text="What may lie there.",
        )  # fmt: skip
        if row is None:
            content.initial, self.fields["shared"].initial = list(kind.contents), kind.shared
        else:
            del self.fields["storage"]
        rest = dict(self.fields)
        named = {"storage": rest.pop("storage")} if "storage" in rest else {}
        self.fields = {**named, **options, **rest}
        if not self.is_bound:
            del self.fields["force"]

    def wish(self) -> Wish:
        """What was asked for; the form is valid."""
        found = self.cleaned_data
        options = {
            name.removeprefix(PREFIX): text
            for name, text in found.items()
            if name.startswith(PREFIX) and text
        }
        return Wish(
            name=self.row.name if self.row else found["storage"].strip(), kind=self.kind.name,
            options=options, content=tuple(found["content"]), shared=found["shared"],
            enabled=found["enabled"],
        )  # fmt: skip

    def blame(self, error: VMError) -> None:
        """Put a refusal on the fields it is about."""
        for single in error.errors if isinstance(error, ConfigErrors) else (error,):
            key = single.key if isinstance(single, ConfigError) else ""
            name = next((name for name in (PREFIX + key, key) if name in self.fields), None)
            self.add_error(name, sentence(single) if isinstance(single, ConfigError) else str(single))

    @property
    def own(self) -> list[forms.BoundField]:
        """The fields of the kind's options."""
        return [self[name] for name in self.fields if name.startswith(PREFIX)]


def first_of(row: Storage) -> dict[str, Any]:
    """What the form of a storage begins with."""
    options = {PREFIX + name: text for name, text in texts_of(row).items()}
    return {**options, "content": row.content, "shared": row.shared, "enabled": row.enabled}
