"""One table of values that cannot stand, brought to every door that takes them.

Each door names the key, says what is wrong, keeps what was typed, and loses nothing that was there: the
wizard (its own form), the hardware dialogs (theirs: ``tests/web/pages``), the admin, ``save_config`` (where
all of them end), the import of a file, ``qm showcmd``, ``qm set`` and ``qm create``.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from vms.cli.qm import SUBCOMMANDS, parser_of
from vms.errors import ConfigErrors, VMError
from vms.models import VM, Nic, Node, Storage, StorageStatus, Task, Volume
from vms.models.configuration import config_of, save_config
from vms.operations.importing import Options, plan

pytestmark = pytest.mark.django_db
GIB = 1 << 30
MAC, OTHERS_MAC = "BC:24:11:00:00:01", "BC:24:11:00:00:09"
OWN = "local:101/vm-101-disk-0.qcow2"
BASE = {
    "name": "web-01", "ostype": "l26", "cores": "2", "memory": "1024", "scsihw": "virtio-scsi-single",
    "ide2": "none,media=cdrom", "net0": f"virtio={MAC}", "tags": "prod",
}  # fmt: skip
LONG = "ünïcodé" * 600
INJECTED = ("a,file=/etc/shadow", "web\n01", "x\0y", LONG)


@dataclass(frozen=True)
class Bad:
    """``change``: keys to set; ``key`` is named with ``words``. ``alone``: the value is wrong by itself."""

    change: Mapping[str, str]
    key: str
    words: str
    alone: bool = True


TABLE = {
    "underscore in the name": Bad({"name": "web_01"}, "name", "use '-'"),
    "disk of 0": Bad({"scsi0": "local:0"}, "scsi0", "0 GiB cannot be made", alone=False),
    "disk of less than nothing": Bad({"scsi0": "local:-5"}, "scsi0", "-5 GiB cannot be made", alone=False),
    "disk of 1e9 GiB": Bad({"scsi0": "local:1000000000"}, "scsi0", "above the largest disk", alone=False),
    "disk nearly as large": Bad(
        {"scsi0": "local:131073"}, "scsi0", "above the largest disk, 131072 GiB", alone=False
    ),
    "disk in words": Bad({"scsi0": "local:large"}, "scsi0", "no volume 'local:large'", alone=False),
    "size beyond 64 bits": Bad({"scsi0": f"{OWN},size=999999999T"}, "scsi0", "larger than any disk"),
    "new disk in a CD drive": Bad(
        {"ide2": "local:8,media=cdrom"}, "ide2", "cannot be a new disk", alone=False
    ),
    "new disk plugged nowhere": Bad({"unused0": "local:8"}, "unused0", "there already", alone=False),
    "ISO that is not there": Bad(
        {"ide2": "local:iso/gone.iso,media=cdrom"}, "ide2", "no volume 'local:iso/gone.iso'", alone=False
    ),
    "ISO as a hard disk": Bad({"scsi0": "local:iso/debian.iso"}, "scsi0", "media=cdrom", alone=False),
    "storage that is not there": Bad(
        {"scsi0": "nowhere:8"}, "scsi0", "'nowhere' does not exist", alone=False
    ),
    "a file of the host": Bad({"scsi0": "/etc/shadow"}, "scsi0", "path of the host", alone=False),
    "a way out of the storage": Bad({"scsi0": "local:../../etc/shadow"}, "scsi0", "climbs out"),
    "a second file": Bad({"scsi0": "local:8,file=/etc/shadow"}, "scsi0", "twice"),
    "one volume twice": Bad({"scsi0": OWN, "scsi1": OWN}, "scsi1", "already", alone=False),
    "another VM's volume": Bad({"scsi0": "local:500/vm-500-disk-0.qcow2"}, "scsi0", "VM 500", alone=False),
    "bus place that is not there": Bad({"sata6": OWN}, "sata6", "'sata6'", alone=False),  # kept in a file
    "MAC twice": Bad({"net1": f"virtio={MAC.lower()}"}, "net1", "two cards", alone=False),
    "MAC of another VM": Bad({"net1": f"virtio={OTHERS_MAC}"}, "net1", "net0 of VM 500", alone=False),
    "multicast MAC": Bad({"net1": "virtio=01:00:00:00:00:01"}, "net1", "multicast"),
    "key that nobody knows": Bad({"flying": "1"}, "flying", "'flying'", alone=False),
}
for _key in ("name", "cores", "memory", "net1", "scsi0", "boot", "vga", "cpu", "machine", "smbios1", "agent"):
    for _number, _text in enumerate(INJECTED):
        TABLE[f"{_key} with hostile text {_number}"] = Bad({_key: _text}, _key, "")

IN_A_FILE = {
    name: bad
    for name, bad in TABLE.items()
    if bad.alone and not any("\n" in text for text in bad.change.values())
}
"""What a configuration file can say; a line's end ends its value."""


@pytest.fixture
def node(db: None) -> Node:
    return Node.objects.create(name="pve1", facts={"threads": 4, "memory": 8 * GIB})


@pytest.fixture
def vm(node: Node) -> VM:
    """VM 101 with a disk of its own; VM 500 has a card and a disk too; one ISO lies there."""
    local = Storage.objects.create(name="local", path="/srv/pvelite-test")
    for vmid in (101, 500):
        Volume.objects.create(
            storage=local, node=node, name=f"{vmid}/vm-{vmid}-disk-0.qcow2", content="images",
            format="qcow2", size=4 * GIB, vmid=vmid,
        )  # fmt: skip
    Volume.objects.create(
        storage=local, node=node, name="iso/debian.iso", content="iso", format="iso", size=9
    )
    other = VM.everything.create(vmid=500, node=node, stage=VM.Stage.DEFINED)
    Nic.objects.create(vm=other, slot="net0", mac=OTHERS_MAC)
    made = VM.everything.create(vmid=101, node=node, stage=VM.Stage.DEFINED)
    save_config(made, {**BASE, "scsi0": f"{OWN},size=4G"})
    return made


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE)
def test_saving_a_configuration(vm: VM, bad: Bad) -> None:
    before, rows = config_of(vm), list(vm.disks.values()) + list(vm.nics.values())
    with pytest.raises(ConfigErrors) as caught:
        save_config(vm, {**before, **bad.change})
    found = caught.value.by_key()
    assert bad.key in found
    assert bad.words in found[bad.key]
    assert len(found[bad.key]) < 400, "an error is a sentence, not an echo of the input"
    fresh = VM.everything.get(pk=vm.pk)
    assert config_of(fresh) == before
    assert list(fresh.disks.values()) + list(fresh.nics.values()) == rows


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE)
def test_the_admin(vm: VM, admin_client: Client, bad: Bad) -> None:
    """What was typed is still there and its row, line or the page's head says what is wrong."""
    address = reverse("admin:vms_vm_change", args=[vm.pk])
    data = admin_form(admin_client, address)
    typed = place(data, bad.change)
    before = config_of(vm)
    answer = admin_client.post(address, data)
    assert answer.status_code == 200
    page = html.unescape(answer.content.decode())
    assert bad.words in page
    assert "Please correct the error" in page
    for text in typed:
        assert text.replace("\0", "") in page.replace("\r\n", "\n").replace("\0", "")
    assert config_of(VM.everything.get(pk=vm.pk)) == before


@pytest.mark.parametrize("bad", IN_A_FILE.values(), ids=IN_A_FILE)
def test_the_command_line(tmp_path: Path, bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    """``qm showcmd``: exit code 2, one line an error, the key first."""
    from vms.cli.qm import main

    file = tmp_path / "101.conf"
    file.write_text("".join(f"{key}: {text}\n" for key, text in {**BASE, **bad.change}.items()))
    assert main(["showcmd", "--file", str(file), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith(bad.key)]
    assert lines
    assert bad.words in " ".join(lines)


def qm(*words: str) -> int:
    """A subcommand of ``qm`` on this test's rows; its exit code."""
    entry = next(entry for entry in SUBCOMMANDS if entry.name == words[0])
    parser, run = parser_of(entry)
    return run(parser.parse_args(words[1:]))


def refused(*words: str) -> str:
    """What ``qm`` says against a call: by its parser, or by what it asked for."""
    with pytest.raises((VMError, SystemExit)) as caught:
        qm(*words)
    return str(caught.value)


def options(change: Mapping[str, str]) -> list[str]:
    """The words of a command line that ask for a change."""
    return [f"--{key}={text}" for key, text in change.items()]


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE)
def test_qm_set(vm: VM, bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    before = config_of(vm)
    said = refused("set", "101", *options(bad.change)) + capsys.readouterr().err
    assert bad.key in said
    assert bad.words in said or f"--{bad.key}" in said  # an option nobody knows is the parser's business
    assert not Task.objects.exists()
    assert config_of(VM.everything.get(pk=vm.pk)) == before


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE)
def test_qm_create(vm: VM, bad: Bad, capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    """No draft is left, and no number taken."""
    settings.CONF = dataclasses.replace(settings.CONF, node="pve1")
    wish = {**BASE, "net0": "virtio=BC:24:11:00:00:02", **bad.change}
    if bad.words == "two cards":
        wish["net0"] = f"virtio={MAC}"
    said = refused("create", "102", *options(wish)) + capsys.readouterr().err
    assert bad.key in said
    assert not VM.everything.filter(vmid=102).exists()
    assert not Task.objects.exists()


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE)
def test_importing_a_file(vm: VM, bad: Bad) -> None:
    """A line that cannot stand is named with its number and left out, or keeps the VM from being made."""
    wish = {**BASE, "net0": "virtio=BC:24:11:00:00:02", **bad.change}
    if bad.words == "two cards":
        wish["net0"] = f"virtio={MAC}"
    found = plan(
        "".join(f"{key}: {text}\n" for key, text in wish.items()), node=vm.node, user=None,
        options=Options(vmid=102, name="x.conf"),
    )  # fmt: skip
    text = bad.change[bad.key]
    if "\n" in text:  # its end is a line of its own
        assert [note for note in found.notes if text.partition("\n")[2] in note.text and note.line]
    else:
        words = (bad.key, "'nowhere'")
        named = [note for note in found.notes if any(word in f"{note.key} {note.text}" for word in words)]
        assert [note for note in named if note.severity != "info"], found.notes
    assert not VM.everything.filter(vmid=102).exists()


@pytest.mark.parametrize("number", [99, 0, 1_000_000_000, 500])
def test_numbers_that_cannot_be_or_are_taken(
    vm: VM, number: int, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    settings.CONF = dataclasses.replace(settings.CONF, node="pve1")
    words = "already exists" if number == 500 else "100"
    assert words in refused("create", str(number), "--memory=64") + capsys.readouterr().err
    assert words in refused("clone", "101", str(number)) + capsys.readouterr().err
    found = plan(
        "memory: 64\n", node=vm.node, user=None,
        options=Options(vmid=number, name="x.conf"),
    )  # fmt: skip
    assert not found.ready
    words = "exists already" if number == 500 else words
    assert [note for note in found.notes if words in note.text and note.severity == "block"]
    assert set(VM.everything.values_list("vmid", flat=True)) == {101, 500}


@pytest.mark.parametrize("door", ["set", "create"])
def test_a_disk_larger_than_what_is_free(vm: VM, door: str, settings: Any) -> None:
    settings.CONF = dataclasses.replace(settings.CONF, node="pve1")
    StorageStatus.objects.create(
        storage=Storage.objects.get(name="local"), node=vm.node, total=9 * GIB, used=0, available=9 * GIB
    )
    said = refused(door, {"set": "101", "create": "102"}[door], "--scsi1=local:100")
    assert "scsi1" in said
    assert "9.0 GiB free" in said
    assert not Task.objects.exists()


def admin_form(client: Client, address: str) -> dict[str, Any]:
    """What a browser would post back unchanged."""
    context = client.get(address).context
    form = context["adminform"].form
    data = {name: form[name].value() for name in form.fields}
    for inline in context["inline_admin_formsets"]:
        for bound in (inline.formset.management_form, *inline.formset.forms):
            data |= {bound.add_prefix(name): bound[name].value() for name in bound.fields}
    return {name: value for name, value in data.items() if value not in (None, False)}


def place(data: dict[str, Any], change: Mapping[str, str]) -> list[str]:
    """Type the change where the admin takes it: a drive's row, a card's row, or a line of text."""
    from vms.models.configuration import is_drive, slot_kind

    for key, text in change.items():
        kind = "disks" if is_drive(key) or key == "sata6" else "nics" if slot_kind(key) == "net" else ""
        if kind:
            rows = range(int(data[f"{kind}-TOTAL_FORMS"]))
            taken = {data.get(f"{kind}-{row}-slot"): row for row in rows}
            row = taken.get(key, taken.get(None))
            data[f"{kind}-{row}-slot"], data[f"{kind}-{row}-value"] = key, text
        else:
            lines = [line for line in data["configuration"].splitlines() if not line.startswith(f"{key}:")]
            data["configuration"] = "\n".join([*lines, f"{key}: {text}"])
    return list(change.values())
