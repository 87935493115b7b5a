"""``qm terminal``: what it refuses, and the session it leaves behind: none."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session

from console import command
from vms.cli.qm import main
from vms.models import VM, Node

pytestmark = pytest.mark.django_db


@pytest.fixture
def vm(settings: Any, monkeypatch: pytest.MonkeyPatch) -> VM:
    monkeypatch.setattr("vms.cli.qm.open_installation", lambda: None)
    node = Node.objects.create(name=settings.CONF.node)
    return VM.everything.create(vmid=101, node=node, stage=VM.Stage.DEFINED, options={"serial1": "socket"})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["102"], "does not exist"),
        (["101"], "is not running"),
        (["101", "--iface", "serial0"], "is not running"),
        (["101", "--escape", "O"], "no control key"),
    ],
)
def test_refusals(vm: VM, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    assert main(["terminal", *words]) == 1
    assert why in capsys.readouterr().err
    assert not Session.objects.exists()


def test_a_running_vm(vm: VM, capsys: pytest.CaptureFixture[str]) -> None:
    VM.everything.update(status=VM.Status.RUNNING, run_id="a" * 32)
    assert main(["terminal", "101", "--iface", "serial0"]) == 1
    assert "VM 101 has no serial terminal 0" in capsys.readouterr().err
    assert main(["terminal", "101"]) == 1
    assert "the console role does not answer" in capsys.readouterr().err
    assert not Session.objects.exists()
    VM.everything.update(options={})
    assert main(["terminal", "101"]) == 1
    assert "qm set 101 --serial0 socket" in capsys.readouterr().err
    Node.objects.update(name="elsewhere")
    assert main(["terminal", "101"]) == 1
    assert "is on node elsewhere" in capsys.readouterr().err


def test_its_user_cannot_sign_in(vm: VM) -> None:
    with command._session() as (user, key):
        assert key
        assert Session.objects.count() == 1
    root = get_user_model().objects.get(username="root@pam")
    assert root == user
    assert not root.has_usable_password()
    assert not Session.objects.exists()
