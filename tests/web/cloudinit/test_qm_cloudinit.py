"""``qm cloudinit``, and what the text file of a VM says of its image."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pages_house import Scene

from vms.cli.qm import SUBCOMMANDS, parser_of
from vms.errors import StateError
from vms.models import Disk, Task
from vms.models.configuration import config_of
from vms.operations import cloudinit, configure, mirror

pytestmark = pytest.mark.django_db


def qm(*words: str) -> int:
    parser, run = parser_of(next(entry for entry in SUBCOMMANDS if entry.name == "cloudinit"))
    return run(parser.parse_args(words))


def bake(scene: Scene) -> None:
    """Its image is as its settings are now."""
    vm, mapping = cloudinit.read(scene.vm)
    cloudinit.remember(vm, cloudinit.made_from(mapping, {}))


def test_dump_shows_no_password(cloudy: Scene, capsys: Any) -> None:
    assert qm("dump", "101", "user") == 0
    told = capsys.readouterr().out
    assert told.startswith("#cloud-config\nhostname: web-01\n")
    assert 'password: "**********"' in told
    assert "hash" not in told
    assert qm("dump", "101", "network") == 0
    assert 'mac_address: "bc:24:11:00:00:01"' in capsys.readouterr().out
    assert qm("dump", "101", "meta") == 0
    assert capsys.readouterr().out.startswith("instance-id: ")
    with pytest.raises(SystemExit):
        qm("dump", "101", "passwords")


def test_pending_shows_both_sides(cloudy: Scene, capsys: Any) -> None:
    bake(cloudy)
    assert qm("pending", "101") == 0
    assert capsys.readouterr().out == (
        "cur cipassword: **********\ncur ciuser: ada\ncur ipconfig0: ip=dhcp\ncur name: web-01\n"
        "cur net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n"
    )
    configure.change(
        cloudy.vm, None, set={"ciuser": "bob", "cipassword": "geheim", "nameserver": "192.0.2.1"},
        delete=["ipconfig0"],
    )  # fmt: skip
    assert qm("pending", "101") == 0
    told = capsys.readouterr().out
    for line in (
        "cur ciuser: ada\nnew ciuser: bob\n", "new nameserver: 192.0.2.1\n", "del ipconfig0: ip=dhcp\n",
        "cur cipassword: **********\nnew cipassword: **********\n",
    ):  # fmt: skip
        assert line in told
    assert qm("pending", "101", "--json") == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["ciuser"] == {"key": "ciuser", "value": "ada", "pending": "bob"}
    assert rows["ipconfig0"]["delete"] == 1
    assert not any("geheim" in str(task.params) + task.label for task in Task.objects.all())


def test_the_file_says_what_the_image_has(cloudy: Scene) -> None:
    bake(cloudy)
    assert "[special:cloudinit]" not in mirror.text_of(cloudinit.read(cloudy.vm)[0])
    configure.change(cloudy.vm, None, set={"ciuser": "bob", "nameserver": "192.0.2.1", "cipassword": "x"})
    text = mirror.text_of(cloudinit.read(cloudy.vm)[0])
    assert "\n[special:cloudinit]\nadded: nameserver\nciuser: ada\n" in text


def test_without_a_drive(cloudy: Scene) -> None:
    Disk.objects.filter(vm=cloudy.vm, slot="scsi1").delete()
    for words in (("dump", "101", "user"), ("pending", "101"), ("update", "101")):
        with pytest.raises(StateError, match="no cloud-init drive"):
            qm(*words)


def test_the_password_reaches_no_row_but_its_own(cloudy: Scene) -> None:
    task = configure.change(cloudy.vm, None, set={"cipassword": "geheim"})
    lines = "\n".join(line.text for line in task.lines.all())
    assert "geheim" not in f"{task.params}{task.label}{task.message}{lines}"
    assert "$5$" not in f"{task.params}{lines}"
    assert config_of(cloudinit.read(cloudy.vm)[0])["cipassword"].startswith("$5$")
