"""How a group of options reads a configuration, shows it as a form and takes a form back.

A tab of the wizard is one, a dialog of the Hardware page is one; their own rules are subclasses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.forms import BoundField
from django.http import QueryDict

from vms.errors import ConfigError
from vms.forms.comparisons import COMPARISONS
from vms.forms.editing import Editing, Texts
from vms.forms.extras import EXTRAS, REQUIRED
from vms.forms.fields import TYPED_LIMIT, Choices, OptionField, OptionFlag, form_field, sentence
from vms.forms.hardware import OptionForm, option_at, read, write
from vms.schema.option import Option

Fields = dict[str, OptionField | OptionFlag]


@dataclass(frozen=True)
class Section:
    """Fields that stand together. ``advanced`` ones open with the Advanced toggle, ``folded`` ones by
    themselves."""

    names: tuple[str, ...]
    legend: str = ""
    advanced: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Block:
    """A section that has something to show."""

    legend: str
    advanced: bool
    fields: tuple[BoundField, ...]
    flags: bool = False
    folded: bool = False

    @property
    def given(self) -> int:
        """How many of its fields hold something."""
        return sum(1 for field in self.fields if field.value())

    @property
    def told(self) -> bool:
        """Whether anything is remarked on its fields."""
        return any(getattr(field.field, "note", "") for field in self.fields)

    @property
    def wrong(self) -> bool:
        return any(field.errors for field in self.fields)


def blocks(form: OptionForm, sections: Iterable[Section], names: Iterable[str]) -> list[Block]:
    """The sections of ``form`` as a page shows them; the one called ``flags`` stands for every CPU flag."""
    found = []
    for section in sections:
        flags = section.names == ("flags",)
        wanted = tuple(name for name in names if name.startswith("flag.")) if flags else section.names
        fields = tuple(form.group(wanted))
        if fields:
            found.append(Block(section.legend, section.advanced, fields, flags, section.folded))
    return found


class Panel:
    """A group of options of one configuration. ``slot`` is the drive or card being edited; "" on panels that
    hold no list."""

    slug: str = ""
    sections: tuple[Section, ...] = ()
    draft: Editing

    def __init__(self, draft: Editing) -> None:
        self.draft = draft
        self._forms: dict[str, OptionForm] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for section in self.sections for name in section.names)

    @property
    def mapping(self) -> Texts:
        return self.draft.mapping

    def slots(self) -> list[str]:
        """What the panel's list holds, in its order; one nameless slot on ordinary ones."""
        return [""]

    def scope(self, slot: str) -> str:
        return slot or self.slug

    def full(self, name: str, slot: str) -> str:
        """The name of field ``name`` in the whole configuration."""
        return f"{slot}.{name}" if slot else name

    def option(self, name: str, slot: str) -> Option:
        """The declaration behind field ``name``."""
        return EXTRAS[name] if name in EXTRAS else option_at(self.full(name, slot))

    def required(self, name: str, slot: str) -> bool:
        """Whether field ``name`` may not be left empty while it is shown."""
        return name in REQUIRED

    def choices(self, name: str, values: Texts, slot: str) -> Choices | None:
        """What can be chosen for ``name`` here and now; None leaves it to the option."""
        return None

    def values(self, slot: str) -> Texts:
        """The saved texts of every field."""
        return {name: read(self.mapping, self.full(name, slot)) for name in self.names if name not in EXTRAS}

    def shape(self, fields: Fields, values: Texts, slot: str) -> None:
        """Hide, disable and annotate fields by what the others hold."""

    def check(self, values: Texts, slot: str) -> dict[str, str]:
        """What cannot stand although each value by itself could: field → sentence."""
        return {}

    def take(self, good: Texts, values: Texts, slot: str) -> str:
        """Put the changed legal texts ``good`` into the configuration; ``values`` are all present ones.
        Returns the slot, whose name may have changed."""
        self.put(good, slot)
        return slot

    # What every panel does alike.

    def fields(self, values: Texts, slot: str) -> Fields:
        """Fresh fields, shaped by ``values``."""
        made: Fields = {}
        for name in self.names:
            inside = "." in self.full(name, slot) and name not in EXTRAS
            made[name] = form_field(
                self.option(name, slot), required=self.required(name, slot), inside=inside,
                choices=self.choices(name, values, slot),
            )  # fmt: skip
            made[name].comparison = COMPARISONS.get(name)
        self.shape(made, values, slot)
        return made

    def form(self, slot: str = "", *, lenient: bool = False) -> OptionForm:
        """The form as it stands: saved values, what was typed over them, every error on its field. It is made
        once: after a change of the draft, ask a new panel.

        ``lenient``: do not complain about fields that nobody has filled in yet.
        """
        made = self._forms.get(slot) or self._forms.setdefault(slot, self._form(slot))
        emptied = self.draft.typed.get(self.scope(slot), {})
        early = [name for name in made.errors if name not in emptied and _only_missing(made, name)]
        if not lenient or not early:
            return made
        made = self._form(slot)
        for name in early:
            del made.errors[name]
        return made

    def _form(self, slot: str) -> OptionForm:
        scope = self.scope(slot)
        values = {**self.values(slot), **self.draft.typed.get(scope, {})}
        form = OptionForm(self.fields(values, slot), values)
        form.blame(self.draft.errors.get(scope, {}) | self.check(values, slot))
        return form

    def valid(self) -> bool:
        """Whether nothing here is wrong."""
        return all(not self.form(slot).errors for slot in self.slots())

    def submit(self, data: QueryDict, slot: str = "") -> str:
        """Take a sent form: save what is legal, keep what is not. Returns the slot's name afterwards."""
        scope = self.scope(slot)
        saved, typed = self.values(slot), self.draft.typed.get(scope, {})
        known = {**saved, **typed}
        posted = self._posted(data, slot)
        touched = {name for name, text in posted.items() if text != known.get(name, "")}
        values = {**known, **posted}
        fields = self.fields(values, slot)
        form = OptionForm(fields, values)
        texts = {name: text for name, text in form.texts().items() if not fields[name].why_not}
        wrong = self.check({**values, **texts}, slot)
        bad = {n for n in (*form.errors, *wrong) if n in values and (values[n] or saved.get(n))}
        self.draft.keep(scope, {name: values[name] for name in bad})
        self.draft.forgive(scope)
        self.draft.touch({self.full(name, slot) for name in touched})
        again = (touched | (set(posted) & set(typed))) - bad
        kept = [name for name in self.names if name in again and name in texts]
        good = {name: texts[name] for name in kept if texts[name] != saved.get(name)}
        return self.take(good, {**values, **texts}, slot)

    def _posted(self, data: QueryDict, slot: str) -> Texts:
        """The fields that were on the sent page. A box that was shown and is missing was unticked."""
        shown = set(data.getlist("shown"))
        posted = {}
        for name in self.names:
            if self.option(name, slot).kind == "bool":
                if name in data or name in shown:
                    posted[name] = "1" if name in data else "0"
            elif name in data:
                posted[name] = (
                    str(data[name]).replace("\0", "\N{REPLACEMENT CHARACTER}")[:TYPED_LIMIT].strip(" ")
                )
        return posted

    def put(self, good: Mapping[str, str], slot: str) -> None:
        """Write schema options; what the schema refuses is noted on its field. Parts that need each other
        (a gateway its address) may come and go in any order: what is refused is tried again at the end."""
        later = [name for name in good if name not in EXTRAS and self._refused(name, good[name], slot)]
        for name in reversed(later):
            error = self._refused(name, good[name], slot)
            if error is not None:
                self.draft.blame(self.scope(slot), name, sentence(error), good[name])

    def _refused(self, name: str, text: str, slot: str) -> ConfigError | None:
        """Write one option; the error when it cannot stand beside the others now."""
        try:
            write(self.mapping, self.full(name, slot), text)
        except ConfigError as error:
            return error
        return None


def _only_missing(form: Any, name: str) -> bool:
    return all(error.code == "required" for error in form.errors[name].as_data())


def hide(fields: Fields, *names: str) -> None:
    """Leave ``names`` out of the page."""
    for name in names:
        if name in fields:
            fields[name].absent = True


def disable(fields: Fields, why: str, *names: str) -> None:
    """Grey ``names`` out and say why. A disabled field is never at fault."""
    for name in names:
        if name in fields:
            fields[name].why_not = why
            fields[name].required = False
