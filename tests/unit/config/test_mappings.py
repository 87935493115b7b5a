"""What the administrator names in mappings.conf, and what the rules say of a name nobody gave."""

from __future__ import annotations

from pathlib import Path

from vms.config.mappings import parse
from vms.config.rules import findings
from vms.config.vmconfig import VMConfig
from vms.hardware.context import NodeFacts
from vms.hardware.extras import VirtioFs
from vms.qemu.sharing import options
from vms.worker.survey import named

TEXT = """\
# ours
folder: documents
    path /srv/my documents
pci: gpu
    device 0000:01:00;0000:02:00.1
usb: stick
    device 1234:abcd
usb: port
    device 1-2.3
"""


def test_names_by_kind() -> None:
    found = parse(TEXT)
    assert found.warnings == []
    assert found.to_facts() == {
        "folder_mappings": {"documents": "/srv/my documents"},
        "pci_mappings": {"gpu": "0000:01:00;0000:02:00.1"},
        "usb_mappings": {"stick": "1234:abcd", "port": "1-2.3"},
    }


def test_what_cannot_be_used_is_told_by_line() -> None:
    lines = [
        "folder: up", " path /srv/../etc", "pci: x", "usb: bad", " device five", " path /srv", "nonsense",
    ]  # fmt: skip
    found = parse("\n".join([*lines, "folder: one", " device /x", "folder: no_blank name"]))
    assert [warning.split(":")[0].split(" is")[0] for warning in found.warnings] == [
        "line 2", "line 3", "line 5", "line 6", "line 7", "line 9", "line 10"
    ]  # fmt: skip
    assert found.to_facts() == {"folder_mappings": {}, "pci_mappings": {}, "usb_mappings": {}}


def test_no_file_names_nothing(tmp_path: Path) -> None:
    assert named(tmp_path / "mappings.conf")["folder_mappings"] == {}
    (tmp_path / "mappings.conf").write_bytes(b"\xff\xfe")
    assert named(tmp_path / "mappings.conf")["usb_mappings"] == {}
    (tmp_path / "mappings.conf").write_text(TEXT)
    assert named(tmp_path / "mappings.conf")["usb_mappings"]["stick"] == "1234:abcd"


def test_a_folder_nobody_named_keeps_a_machine_from_starting() -> None:
    config = VMConfig.parse({"virtiofs3": "documents,cache=never"})

    def told(facts: NodeFacts) -> list[str]:
        return [
            one.text for one in findings(config, facts) if one.rule == "virtiofs" and one.severity == "block"
        ]

    assert "shares no folder 'documents'" in told(NodeFacts(virtiofsd="/x"))[0]
    assert "no virtiofsd" in told(NodeFacts(folder_mappings={"documents": "/srv"}))[0]
    assert told(NodeFacts(folder_mappings={"documents": "/srv"}, virtiofsd="/x")) == []


def test_a_share_in_the_programs_words() -> None:
    share = VirtioFs.parse("documents,cache=never,direct-io=1,expose-acl=1", "virtiofs0")
    words = options(share, Path("/srv/x"))
    assert words[1::2] == [
        "sandbox=namespace", "source=/srv/x", "cache=none", "allow_direct_io", "xattr", "posix_acl"
    ]  # fmt: skip
