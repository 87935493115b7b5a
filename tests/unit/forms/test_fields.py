"""An option of the schema as a form field, and configurations read and written by option names."""

from __future__ import annotations

import django
import pytest
from django.conf import settings

if not settings.configured:
    django.setup()

from django import forms

from vms.errors import ConfigError
from vms.forms.fields import OptionField, OptionFlag, enum_choices, flat, form_field
from vms.forms.hardware import OptionForm, compose, decompose, option_at, read, split_name, write
from vms.hardware import OPTIONS


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_option_has_a_field_with_the_schemas_words(name: str) -> None:
    field = form_field(OPTIONS[name])
    option = OPTIONS[name]
    assert (field.label, field.help_text, field.advanced) == (option.label, option.help, option.advanced)
    assert isinstance(field, OptionFlag if option.kind == "bool" else OptionField)
    assert (field.otherwise, field.why, field.unit) == (option.otherwise, option.why, option.unit)


def test_an_enum_offers_its_values_and_absence() -> None:
    assert enum_choices(option_at("bios")) == [
        ("", "Default (SeaBIOS)"), ("seabios", "SeaBIOS"), ("ovmf", "OVMF (UEFI)")
    ]  # fmt: skip
    assert enum_choices(option_at("net0.model"), required=True)[0][0] == "e1000"


def test_numbers_are_checked_by_the_schema() -> None:
    field = form_field(option_at("cores"))
    assert field.clean(" 4 ") == "4"
    assert field.clean("") == ""
    with pytest.raises(forms.ValidationError, match="below the smallest allowed value, 1"):
        field.clean("0")
    with pytest.raises(forms.ValidationError, match="not a whole number"):
        field.clean("1,file=/etc/shadow")


def test_a_part_of_a_property_string_holds_no_comma() -> None:
    field = form_field(option_at("smbios1.serial"), inside=True)
    with pytest.raises(forms.ValidationError):
        field.clean("a,b")


def test_only_what_is_offered_is_taken() -> None:
    field = form_field(option_at("net0.bridge"), choices=[("vmbr0", "vmbr0"), ("", "none")])
    assert field.clean("vmbr0") == "vmbr0"
    assert field.clean("") == ""
    with pytest.raises(forms.ValidationError, match="not offered"):
        field.clean("vmbr9")


def test_absurd_lengths_are_refused_unread() -> None:
    with pytest.raises(forms.ValidationError, match="longer than"):
        form_field(option_at("name")).clean("a" * 20_000)


def test_flat() -> None:
    assert flat([("Linux", [("l26", "new")]), ("x", "y")]) == [("l26", "new"), ("x", "y")]


def test_names() -> None:
    assert split_name("cpu.cputype") == ("cpu", "cputype")
    assert split_name("cores") == ("cores", "")
    with pytest.raises(KeyError):
        option_at("cores.x")


def test_compose_and_decompose() -> None:
    assert decompose("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0") == {
        "model": "virtio", "macaddr": "BC:24:11:00:00:01", "bridge": "vmbr0"
    }  # fmt: skip
    assert compose("net0", {"tag": "20", "bridge": ""}, "virtio,bridge=vmbr0,queues=2") == (
        "virtio,queues=2,tag=20"
    )
    assert compose("agent", {"enabled": ""}, "1") == ""
    with pytest.raises(ConfigError) as caught:
        compose("net0", {"bridge": "vmbr0,tag=1"}, "virtio")
    assert (caught.value.key, caught.value.part) == ("net0", "bridge")
    with pytest.raises(ConfigError) as caught:
        compose("scsi0", {"cache": "none"})
    assert caught.value.part == "file"


def test_read_and_write() -> None:
    mapping = {"cores": "2", "agent": "1"}
    assert (read(mapping, "cores"), read(mapping, "sockets")) == ("2", "")
    assert (read(mapping, "agent.enabled"), read(mapping, "onboot"), read({}, "kvm")) == ("1", "0", "1")
    write(mapping, "agent.enabled", "0")
    write(mapping, "onboot", "1")
    write(mapping, "kvm", "1")
    write(mapping, "startup.up", "30")
    assert mapping == {"cores": "2", "onboot": "1", "startup": "up=30"}
    write(mapping, "startup.up", "")
    assert "startup" not in mapping


def test_a_form_keeps_what_was_typed_and_takes_further_blame() -> None:
    fields = {"cores": form_field(option_at("cores")), "onboot": form_field(option_at("onboot"))}
    form = OptionForm(fields, {"cores": "x", "onboot": "1"})
    form.blame({"onboot": "Not here.", "elsewhere": "Of all."})
    assert form["cores"].value() == "x"
    assert set(form.errors) == {"cores", "onboot", "__all__"}
    assert form["onboot"].value() is True
    assert form.texts() == {"onboot": "1"}


def test_a_disabled_field_is_never_blamed() -> None:
    field = form_field(option_at("cores"))
    field.why_not = "Not now."
    form = OptionForm({"cores": field}, {"cores": "2"})
    form.blame({"cores": "Wrong."})
    assert "cores" not in form.errors
