"""Files from elsewhere: what is read, what is left out and why, with line numbers; never a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vms.config import conffile, importing
from vms.errors import ConfigError

FILE = """\
# The shop%3A front
agent: 1
args: -device evil
boot: order=scsi0;ide2;net0
bogus: 7
cores: four
ide2: their-iso:iso/debian.iso,media=cdrom,size=600M
lock: backup
memory: 2048
net0: virtio=BC:24:11:AA:BB:01,bridge=vmbr0
scsi0: local-zfs:vm-101-disk-0,iothread=1,size=20G
serial0: /dev/ttyS0
serial1: socket

[PENDING]
memory: 4096
scsi1: local-zfs:vm-101-disk-9
delete: agent,scsi3

[before_upgrade]
cores: 1
snaptime: 1700000000
"""


def read(text: str = FILE, *, operator: bool = False, **storages: str) -> importing.Reading:
    return importing.read(text, {"local-zfs": "local", **storages}, operator=operator)


def said(found: importing.Reading) -> dict[str, tuple[int, str]]:
    return {note.key: (note.line, note.text) for note in found.notes if note.key}


def test_what_cannot_stand_is_told_with_its_line() -> None:
    told = said(read())
    assert told["bogus"] == (5, "'bogus' is not understood here; kept in the file, it does nothing")
    assert told["cores"] == (
        6, "unable to parse value of 'cores' - type check ('integer') failed - got 'four'; left out"
    )  # fmt: skip
    assert told["lock"][0] == 8


def test_a_key_nobody_knows_is_kept_in_its_place_in_every_section() -> None:
    text = (
        "agent: 1\nbogus: 7\ncores: 2\nnet32: virtio\n\n[PENDING]\nbogus: 8\ncores: 4\n\n"
        "[special:fleecing]\nfleecing-images: local:x\n\n[snap1]\nodd-key: a b: c\nsnaptime: 1\n"
    )
    parsed = conffile.parse(text)
    assert conffile.format(parsed) == text
    assert parsed.main == {"agent": "1", "cores": "2"}
    assert (parsed.kept, parsed.pending_kept) == ({"bogus": "7", "net32": "virtio"}, {"bogus": "8"})
    assert parsed.snapshots["snap1"].kept == {"odd-key": "a b: c"}
    assert parsed.unknown == []
    assert [problem.kept for problem in parsed.problems] == [True] * 4
    found = read(text)
    assert found.kept == parsed.kept
    assert "bogus" not in found.mapping
    assert "[PENDING]" in said(found)["bogus"][1]


def test_what_is_known_today_speaks_for_itself() -> None:
    assert conffile.with_kept({"cores": "2"}, {"cores": "8", "bogus": "1", "aaa": ""}) == {
        "aaa": "", "bogus": "1", "cores": "2"
    }  # fmt: skip


def test_only_so_much_is_kept() -> None:
    long = f"a: {'x' * 5000}\n{'k' * 70}: 1\nb: \x07\nmemory: 512\n"
    assert conffile.parse(long).kept == {}
    assert len(read(long).notes) == 3


def test_only_an_operator_brings_what_reaches_into_the_node() -> None:
    found = read()
    assert {"args", "serial0"}.isdisjoint(found.mapping)
    assert found.mapping["serial1"] == "socket"
    assert "only an operator" in said(found)["args"][1]
    assert read(operator=True).mapping["args"] == "-device evil"


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("usb0", "host=1234:5678", True), ("usb0", "spice", False), ("usb0", "mapping=stick", False),
        ("hostpci0", "0000:01:00.0", True), ("hostpci0", "mapping=gpu", False), ("parallel0", "x", True),
        ("serial0", "socket", False), ("hookscript", "local:snippets/x", True), ("cores", "2", False),
        ("affinity", "0-3", True),
    ],
)  # fmt: skip
def test_operators_only(key: str, text: str, wanted: bool) -> None:
    assert importing.operators_only(key, text) is wanted


def test_storages_are_mapped_and_drives_found() -> None:
    found = read(**{"their-iso": "local"})
    assert found.mapping["scsi0"] == "local:vm-101-disk-0,iothread=1,size=20G"
    assert found.storages == ["their-iso", "local-zfs"]
    drives = {drive.key: drive for drive in found.drives}
    assert (drives["scsi0"].kind, drives["scsi0"].size, drives["scsi0"].line) == ("disk", 20 << 30, 11)
    assert drives["ide2"].kind == "cdrom"
    assert found.owner() == 101
    assert list(importing.candidates(drives["scsi0"])) == [
        "vm-101-disk-0", "101/vm-101-disk-0.raw", "101/vm-101-disk-0.qcow2"
    ]  # fmt: skip


def test_pending_comes_along_and_snapshots_are_told() -> None:
    found = read()
    assert found.pending == {"memory": "4096", "agent": None}
    assert found.snapshots == ["before_upgrade"]
    assert any("1 snapshots are not imported: before_upgrade" in note.text for note in found.notes)
    assert found.mapping["description"] == " The shop: front"


def test_a_drive_goes_with_its_place_in_the_boot_order() -> None:
    mapping = {"boot": "order=scsi0;net0", "bootdisk": "scsi0", "scsi0": "local:1", "net0": "virtio"}
    assert importing.without_drive(mapping, "scsi0") == {"boot": "order=net0", "net0": "virtio"}


def test_a_new_identity() -> None:
    number = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    net = "virtio=BC:24:11:AA:BB:01,bridge=vmbr0"
    mapping = {"net0": net, "vmgenid": number, "smbios1": f"uuid={number}"}
    assert importing.anew(mapping) == {"net0": "virtio,bridge=vmbr0", "vmgenid": "1"}


@pytest.mark.parametrize("data", [b"\xff\xfename", b"name: a\ncores: \x80\n", b"x" * (importing.LIMIT + 1)])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        importing.decode(data)
    assert caught.value.key == "file"


def test_the_line_of_what_is_no_text() -> None:
    with pytest.raises(ConfigError, match="line 2 is no UTF-8"):
        importing.decode(b"name: a\ncores: \x80\n")


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only words", "[PENDING]\nmemory: 1\n", "hello world", "a" * 300_000]
)
def test_what_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        importing.read(text, {}, operator=True)


@settings(max_examples=120, deadline=None)
@given(st.text(max_size=400))
def test_hostile_text_never_breaks_it(text: str) -> None:
    for body in (text, "memory: 512\n" + text, "\n".join(f"scsi{n}: {text}" for n in range(3))):
        try:
            found = importing.read(body, {"a": "b"}, operator=False)
        except ConfigError:
            continue
        assert all(note.text for note in found.notes)


def test_damaged_real_files_never_break_it(shared: Path) -> None:
    """Every file of the corpus, with bytes flipped, cut and doubled."""
    chance = random.Random(7)
    for path in sorted((shared / "corpus").rglob("*.conf")):
        body = path.read_bytes()
        for _ in range(8):
            damaged = bytearray(body)
            for _ in range(chance.randint(1, 12)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            if chance.random() < 0.3:
                damaged = damaged[: chance.randrange(1, len(damaged))] * chance.randint(1, 3)
            try:
                importing.read(importing.decode(bytes(damaged)), {}, operator=False)
            except ConfigError:
                continue


def test_real_files_are_read(shared: Path) -> None:
    """Nothing of the peer's own configurations is an error to us but what the peer drops as well."""
    for path in sorted((shared / "corpus" / "parse-config").glob("*.conf")):
        text = path.read_text()
        found = importing.read(text, {}, operator=True)
        dropped = importing.OF_THE_MOMENT | {"smp"}
        assert set(conffile.parse(text).main) - dropped <= set(found.mapping), path.name
