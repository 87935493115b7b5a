"""VMs with their drives and network cards.

The page shows the configuration in PVE's own words: one line a key, one row a drive, one row a network card.
All of it is judged together; nothing is saved when one value is wrong, and the error stands beside the value.
What differs of a VM that exists is asked of its one operation, as at every door; a draft is written at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from vms.config.privileged import operators_only
from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, ConfigErrors, VMError
from vms.models import VM, Disk, Nic, Task
from vms.models.configuration import (
    check_saved,
    config_of,
    drive_text,
    is_drive,
    nic_text,
    save_config,
    slot_kind,
    with_parts,
)
from vms.models.usage import facts_in_use
from vms.operations.base import OPERATIONS, check_lock, submit
from vms.operations.configure import Configure, pending_rows
from vms.operations.configure import change as change_vm
from vms.operations.protection import note_owner
from vms.operations.resulting import warnings_of
from vms.operations.wish import Wish, authorise

SECRET_KEYS = frozenset({"cipassword"})
"""Written elsewhere, never shown: kept as they are."""
POWER = (
    "qmstart",
    "qmshutdown",
    "qmreboot",
    "qmstop",
    "qmreset",
    "qmpause",
    "qmresume",
    "qmsuspend",
)


class SlotForm(forms.ModelForm[Any]):
    """One drive or network card: its slot and its value as in the configuration file."""

    value = forms.CharField(widget=forms.TextInput(attrs={"size": 90}), max_length=4000)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            text = drive_text(self.instance) if isinstance(self.instance, Disk) else nic_text(self.instance)
            self.fields["value"].initial = text

    def clean_slot(self) -> str:
        slot: str = self.cleaned_data["slot"]
        right = is_drive(slot) if self._meta.model is Disk else slot_kind(slot) == "net"
        if not right:
            example = "scsi0, sata1, ide2" if self._meta.model is Disk else "net0, net1"
            raise ValidationError(f"'{slot}' is no slot of this kind; write for example {example}.")
        return slot

    def validate_constraints(self) -> None:
        """Slots, MACs and volumes are judged by the whole configuration, not row by row."""


class SlotFormSet(forms.BaseInlineFormSet[Any, Any, Any]):
    """Rows that are read here and written by ``save_config``."""

    new_objects: list[Any]
    changed_objects: list[Any]
    deleted_objects: list[Any]

    def save(self, commit: bool = True) -> list[Any]:
        self.new_objects = self.changed_objects = self.deleted_objects = []
        return []

    def validate_unique(self) -> None:
        """See :meth:`SlotForm.validate_constraints`."""

    def rows(self) -> dict[str, tuple[str, forms.ModelForm[Any]]]:
        """Slot → (value, form) of the rows that stay."""
        kept: dict[str, tuple[str, forms.ModelForm[Any]]] = {}
        for form in self.forms:
            data = getattr(form, "cleaned_data", {})
            if data.get("slot") and data.get("value") and not data.get("DELETE"):
                if data["slot"] in kept:
                    form.add_error("slot", f"{data['slot']} is given twice; every slot holds one device.")
                kept[data["slot"]] = (data["value"].strip(), form)
        return kept


class DiskInline(admin.TabularInline[Disk, VM]):
    model = Disk
    form = SlotForm
    formset = SlotFormSet
    fields = ["slot", "value"]
    extra = 1


class NicInline(admin.TabularInline[Nic, VM]):
    model = Nic
    form = SlotForm
    formset = SlotFormSet
    fields = ["slot", "value"]
    extra = 1


class VMForm(forms.ModelForm[VM]):
    """The configuration's remaining keys, one ``key: value`` a line."""

    configuration = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 18, "cols": 90, "spellcheck": "false"}),
        help_text="One 'key: value' a line, as in the configuration file; drives and network cards below.",
    )

    class Meta:
        model = VM
        fields = ["pool"]

    request: HttpRequest
    mapping: dict[str, str]
    warnings: Sequence[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["configuration"].initial = "\n".join(
                f"{key}: {value}" for key, value in self.stored().items() if key not in SECRET_KEYS
            )

    def stored(self) -> dict[str, str]:
        """The keys that stand in this form's text."""
        whole = config_of(self.instance)
        return {key: text for key, text in whole.items() if not is_drive(key) and slot_kind(key) != "net"}

    def clean_configuration(self) -> dict[str, str]:
        wanted: dict[str, str] = {}
        for number, line in enumerate(self.cleaned_data["configuration"].splitlines(), 1):
            if not line.strip():
                continue
            key, colon, value = line.partition(":")
            key = key.strip()
            if not colon or not key:
                raise ValidationError(f"Line {number} is not 'key: value'.")
            if is_drive(key) or slot_kind(key) == "net":
                raise ValidationError(f"Line {number}: {key} has its own row below.")
            if key in wanted:
                raise ValidationError(f"Line {number}: {key} is given twice.")
            wanted[key] = value.strip()
        stored = self.stored()
        wanted.update({key: stored[key] for key in SECRET_KEYS & stored.keys()})
        changed = [key for key in wanted.keys() | stored.keys() if wanted.get(key) != stored.get(key)]
        for key in sorted(changed):
            reaches = operators_only(key, wanted.get(key) or stored[key])
            if reaches and not self.request.user.is_superuser:
                raise ValidationError(f"Only a superuser may change {key}.")
        return wanted

    def clean(self) -> dict[str, Any]:
        """Judge keys, drives and cards together; each error goes to the row or field it belongs to."""
        cleaned = super().clean() or self.cleaned_data
        formsets = getattr(self.instance, "_admin_formsets", [])
        if "configuration" not in cleaned or not all(formset.is_valid() for formset in formsets):
            return cleaned
        rows = {slot: row for formset in formsets for slot, row in formset.rows().items()}
        self.mapping = {**cleaned["configuration"], **{slot: value for slot, (value, _) in rows.items()}}
        try:
            self.ask()
        except ConfigErrors as errors:
            for error in errors:
                self.place(error, rows)
        except ConfigError as error:
            self.place(error, rows)
        except VMError as error:
            self.add_error(None, f"{error} {error.hint}".strip())
        return cleaned

    def place(self, error: ConfigError, rows: Mapping[str, tuple[str, forms.ModelForm[Any]]]) -> None:
        """Put an error on the row or field it belongs to."""
        if error.key in rows:
            text = f"{error.part}: {error.text}" if error.part else error.text
            rows[error.key][1].add_error("value", text)
            self.add_error(None, f"{error.key} is wrong; see its row. Nothing was saved.")
        else:
            self.add_error("configuration", str(error))

    def ask(self) -> None:
        """Judge what was typed as its door will. Raises :class:`VMError`."""
        vm = self.instance
        if vm.stage != VM.Stage.DEFINED:
            check_saved(vm, self.mapping)
            self.judge()
            return
        if not (self.changed or self.removed):
            return
        wish = Wish.read(vm, self.changed, self.removed)
        check_lock(Configure(), vm)
        authorise(self.request.user, vm, wish)
        Configure().judge(vm, wish)
        self.warnings = warnings_of(vm, self.mapping)

    @property
    def changed(self) -> dict[str, str]:
        """Key → text of what is not as it is."""
        before = config_of(self.instance)
        return {key: text for key, text in self.mapping.items() if before.get(key) != text}

    @property
    def removed(self) -> list[str]:
        """The keys that are there and shall not be."""
        return [key for key in config_of(self.instance) if key not in self.mapping]

    def judge(self) -> None:
        """Ask the rules, as every door does: blocking findings become errors, warnings are told later.

        A node nobody has measured yet cannot be judged by.
        """
        node = self.instance.node
        if not node.facts:
            return
        found = findings(VMConfig.parse(self.mapping), facts_in_use(node, besides=self.instance))
        self.warnings = [one.text for one in found if one.severity == "warn"]
        blocked = [ConfigError(one.keys[0], one.text) for one in found if one.severity == "block"]
        if blocked:
            raise ConfigErrors(blocked)


@admin.register(VM)
class VMAdmin(admin.ModelAdmin[VM]):
    form = VMForm
    inlines = [DiskInline, NicInline]
    fields = ["vmid", "stage", "node", "status", "lock", "owner", "pool", "configuration", "waits"]
    readonly_fields = ["vmid", "stage", "node", "status", "lock", "owner", "waits"]
    list_display = ["vmid", "name", "node", "stage", "status", "lock", "ostype", "cores", "memory"]
    list_filter = ["stage", "status", "node", "pool", "template"]
    search_fields = ["=vmid", "name", "tags", "nics__mac"]
    list_select_related = ["node"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[VM]:
        return with_parts(VM.everything.all())  # type: ignore[no-any-return]

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A VM is made by the wizard, whose draft then stands here."""
        return redirect(reverse("vms:create"))

    def has_delete_permission(self, request: HttpRequest, obj: VM | None = None) -> bool:
        return False  # destroying is an operation with its own questions, on the VM's page

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"request": request})

    def _create_formsets(self, request: HttpRequest, obj: Any, change: bool) -> Any:
        formsets, inlines = super()._create_formsets(request, obj, change)  # type: ignore[misc]
        obj._admin_formsets = formsets  # for VMForm.clean, which Django calls next
        return formsets, inlines

    def save_model(self, request: HttpRequest, obj: VM, form: Any, change: bool) -> None:
        VM.everything.filter(pk=obj.pk).update(pool=obj.pool)
        for text in form.warnings:
            self.message_user(request, text, messages.WARNING)
        if obj.stage != VM.Stage.DEFINED:
            save_config(obj, form.mapping)
            note_owner(obj, request.user.get_username())
        elif form.changed or form.removed:
            try:
                self.tell(request, change_vm(obj, request.user, set=form.changed, delete=form.removed))
            except VMError as error:  # somebody else was quicker between the page's check and this
                self.message_user(request, f"Not changed: {error}", messages.ERROR)

    def tell(self, request: HttpRequest, task: Task) -> None:
        """Say what became of a change: done, waiting for the next start, or under way."""
        if not task.finished:
            self.message_user(request, f"{task.label}: submitted.")
        for line in task.lines.filter(text__contains=": pending, "):
            key, _, why = line.text.partition(": pending, ")
            self.message_user(request, f"Pending: {key}, {why}", messages.WARNING)

    @admin.display(description="Pending")
    def waits(self, obj: VM) -> str:
        """What the next start changes, a line a key."""
        rows = [row for row in pending_rows(obj) if row.waits]
        told = [f"{row.key}: {'is removed' if row.delete else row.pending}" for row in rows]
        return "\n".join(told) or "nothing"

    def get_actions(self, request: HttpRequest) -> Any:
        """Django's own actions, and the power verbs as submitted operations."""
        actions = super().get_actions(request)
        for type_ in POWER:
            actions[type_] = (_submitting(type_), type_, OPERATIONS[type_].label)
        return actions


def _submitting(type_: str) -> Any:
    """An admin action that asks for verb ``type_`` on every selected VM."""

    def action(modeladmin: VMAdmin, request: HttpRequest, vms: QuerySet[VM]) -> None:
        for vm in vms:
            if vm.stage != VM.Stage.DEFINED:
                text = f"{vm} is not defined yet ({vm.get_stage_display()})."
                modeladmin.message_user(request, text, messages.ERROR)
                continue
            try:
                task = submit(type_, vm=vm, user=request.user)
            except VMError as error:
                modeladmin.message_user(request, f"{vm}: {error}", messages.ERROR)
            else:
                modeladmin.message_user(request, f"{task.label}: submitted.")

    return action
