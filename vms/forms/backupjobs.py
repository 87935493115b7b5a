"""A backup job as a form: fields for what it says, and the job they make."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from django import forms

from vms.config import calendar
from vms.errors import ConfigError, ConfigErrors
from vms.forms.keeping import KeepForm, numbers_of
from vms.models import VM, BackupJob, Node, Pool, Storage
from vms.operations.fleet import vm_list

WHOM = (("all", "Every VM"), ("pool", "The VMs of a pool"), ("list", "These VMs"))
MODES = (
    ("snapshot", "Snapshot: the guest goes on"), ("suspend", "Suspend: it stands still for a moment"),
    ("stop", "Stop: it is shut down and started again"),
)  # fmt: skip
COMPRESS = (("zstd", "zstd"), ("0", "none"))
COLUMNS = {"pool": "whom", "vmids": "whom", "all_vms": "whom"}
"""Where the error of a column stands that is no field of its own."""


class NumbersField(forms.CharField):
    """VM IDs, separated as one likes."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return []
        try:
            return sorted({int(word) for word in vm_list(text).split(",")})
        except ValueError as error:
            raise forms.ValidationError(str(error)[:1].upper() + str(error)[1:] + ".") from None


class BackupJobForm(KeepForm):
    """``name`` only for a new one: its tasks are known by it."""

    name = forms.CharField(max_length=63, help_text="A letter, then letters, digits, hyphen or underscore.")
    enabled = forms.BooleanField(required=False, initial=True, help_text="It begins at its times.")
    schedule = forms.CharField(
        max_length=calendar.LONGEST, initial="02:00",
        help_text="sat 02:00 · mon..fri 21:00 · */2:00 (every two hours) · *-*-01 03:00 (monthly) · "
        "daily, weekly, monthly.",
    )  # fmt: skip
    repeat_missed = forms.BooleanField(
        required=False, label="Repeat missed",
        help_text="A run whose time came while this node was off begins as soon as it is on again.",
    )  # fmt: skip
    storage = forms.ModelChoiceField(
        Storage.objects.none(), empty_label=None, help_text="Where the backups are put."
    )
    node = forms.ModelChoiceField(
        Node.objects.order_by("name"), required=False, empty_label="All nodes",
        help_text="Only VMs that are on this node.",
    )  # fmt: skip
    whom = forms.ChoiceField(label="VMs", choices=WHOM, initial="all", widget=forms.RadioSelect)
    pool = forms.ModelChoiceField(Pool.objects.order_by("name"), required=False, empty_label="None")
    vmids = forms.TypedMultipleChoiceField(
        label="These VMs", coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    exclude = NumbersField(required=False, label="But not", max_length=4000, help_text="VM IDs: 103, 104.")
    mode = forms.ChoiceField(choices=MODES, initial="snapshot")
    compress = forms.ChoiceField(label="Compression", choices=COMPRESS, initial="zstd")
    limit = forms.IntegerField(
        min_value=0, max_value=1 << 30, initial=0, label="Rate limit", help_text="KiB a second; 0: none."
    )
    notes = forms.CharField(
        required=False, max_length=1000, initial="{{guestname}}",
        help_text="{{guestname}}, {{vmid}} and {{node}} are filled in.",
    )  # fmt: skip
    fleecing = forms.ModelChoiceField(
        Storage.objects.none(), required=False, empty_label="Off",
        help_text="What a guest overwrites meanwhile is put aside here, so that a slow storage for backups "
        "does not slow the guest.",
    )  # fmt: skip
    comment = forms.CharField(required=False, max_length=500)

    def __init__(
        self, data: Any = None, *, job: BackupJob | None = None, vms: Iterable[VM] = (),
        initial: MutableMapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(data, auto_id="job-%s", initial=initial or (values_of(job) if job else None))
        self.job = job
        if job is not None:
            del self.fields["name"]
        stores = list(Storage.objects.filter(enabled=True).order_by("name"))
        for field, content in (("storage", "backup"), ("fleecing", "images")):
            named = [row.pk for row in stores if content in row.content]
            chooser: Any = self.fields[field]
            chooser.queryset = Storage.objects.filter(pk__in=named).order_by("name")
        shown = {vm.vmid: f"{vm.vmid} {vm.display_name}" for vm in vms}
        shown |= {
            number: f"{number} (not there)" for number in (job.vmids if job else ()) if number not in shown
        }
        chooser = self.fields["vmids"]
        chooser.choices = sorted(shown.items())

    def made(self) -> BackupJob:
        """The job as the fields say it: a new one or the changed one, not stored. Once the form is clean."""
        job, given = self.job or BackupJob(name=self.cleaned_data["name"]), self.cleaned_data
        whom = given["whom"]
        job.all_vms = whom == "all"
        job.pool = given["pool"] if whom == "pool" else None
        job.vmids = sorted(given["vmids"]) if whom == "list" else []
        job.exclude = [] if whom == "list" else given["exclude"]
        job.keep = self.keep()
        for name in (
            "enabled", "schedule", "repeat_missed", "storage", "node", "mode", "compress", "limit", "notes",
            "fleecing", "comment",
        ):  # fmt: skip
            setattr(job, name, given[name])
        return job

    def blame(self, error: ConfigError) -> None:
        """Put what the rules say to its field."""
        for one in error if isinstance(error, ConfigErrors) else [error]:
            field = COLUMNS.get(one.key, "keep_last" if one.key == "keep" else one.key)
            text = one.text[:1].upper() + one.text[1:]
            self.add_error(
                field if field in self.fields else None, text if text.endswith(".") else f"{text}."
            )


def values_of(job: BackupJob) -> dict[str, Any]:
    """What the form begins with for a job that is there."""
    whom = "all" if job.all_vms else "pool" if job.pool_id is not None else "list"
    columns = (
        "enabled", "schedule", "repeat_missed", "storage", "node", "pool", "vmids", "mode", "compress",
        "limit", "notes", "fleecing", "comment",
    )  # fmt: skip
    values = {name: getattr(job, name) for name in columns}
    values |= numbers_of(job.keep)
    return values | {"whom": whom, "exclude": ", ".join(map(str, job.exclude))}
