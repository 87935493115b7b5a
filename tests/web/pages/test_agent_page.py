"""The agent's card, dialogs and answers: who may ask what, what is refused, where no secret may stand."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.core import serializers

from vms.models import VM, Task
from vms.operations import agent
from vms.operations.agentcommands import COMMANDS
from vms.tasks import parcel

pytestmark = pytest.mark.django_db
TOLD = {
    "up": True, "since": "2026-01-01T10:00:00+00:00", "host": "web-01.example",
    "os": {"name": "Debian GNU/Linux 12", "kernel": "6.1.0", "machine": "x86_64"},
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "addresses": ["192.0.2.7"]}],
}  # fmt: skip


@pytest.fixture
def running(scene: Scene) -> VM:
    """VM 101 runs and its agent answers."""
    record = {"run_id": "r", "config": {"agent": "1"}}
    VM.everything.filter(pk=scene.vm.pk).update(status="running", run_id="r", launch=record, agent=TOLD)
    scene.vm.refresh_from_db()
    return scene.vm


def answered(task: Task, result: Any) -> None:
    """The worker has done it."""
    parcel.answer(task.params["parcel"], {"result": result})
    Task.objects.filter(pk=task.pk).update(status="ok")


def test_the_card_says_who_runs_there(running: VM) -> None:
    text = signed_in(person("anna", vms="PVEVMAdmin")).get("/vms/101").content.decode()
    for word in ("Debian GNU/Linux 12", "web-01.example", "192.0.2.7", "/vms/101/agent/exec"):
        assert word in text
    assert "How to install it" not in text


def test_the_card_says_how_it_gets_there(scene: Scene, running: VM) -> None:
    anna = signed_in(person("anna", vms="PVEVMAdmin"))

    def page(**values: Any) -> str:
        VM.everything.filter(pk=running.pk).update(**values)
        return anna.get("/vms/101?part=cards").content.decode()

    text = page(agent={})
    assert "QEMU guest agent is not running" in text
    assert "apt install qemu-guest-agent" in text
    assert "virtio-win-guest-tools.exe" in page(ostype="win11")
    assert "enabled after this start" in page(launch={"run_id": "r", "config": {"agent": "0"}})
    text = page(options={})
    assert "Not enabled" in text
    assert "/vms/101/options/agent" in text


def test_what_it_tells_is_for_who_may_ask(running: VM, monkeypatch: pytest.MonkeyPatch) -> None:
    from vms import access

    monkeypatch.setitem(access.ROLES, "PVETemplateUser", frozenset({"VM.Audit"}))
    text = signed_in(person("bob", vms="PVETemplateUser")).get("/vms/101").content.decode()
    assert "192.0.2.7" not in text
    assert "web-01.example" not in text
    assert "VM.GuestAgent.Audit" in text


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("PVEAuditor", {"query", "fsfreeze-status", "ping"}),
        ("PVEVMUser", {"query", "fsfreeze-status", "ping", "fstrim", "file-read", "file-write"}),
        ("PVEVMAdmin", {"query", "ping", "fstrim", "file-read", "file-write", "exec", "set-user-password"}),
    ],
)
def test_each_command_has_its_privilege(running: VM, role: str, may: set[str]) -> None:
    client = signed_in(person("bob", vms=role))
    data = {
        "line": "id", "query": "get-time", "file": "/etc/motd", "content": "x", "username": "ada",
        "password": "longenough", "again": "longenough",
    }  # fmt: skip
    for command in ("query", "fsfreeze-status", "ping", "fstrim", "file-read", "file-write", "exec",
                    "set-user-password"):  # fmt: skip
        answer = client.post(f"/vms/101/agent/{command}", data)
        wanted = 302 if command in may or (role == "PVEVMAdmin") else 403
        assert answer.status_code == wanted, command
        if wanted == 403:
            assert "VM.GuestAgent." in answer.content.decode()


def test_every_command_has_a_privilege_of_pve() -> None:
    from vms.access import PRIVILEGES

    assert all(privilege in PRIVILEGES for each in COMMANDS.values() for privilege in each.privileges)


@pytest.mark.parametrize(
    ("command", "data", "word"),
    [
        ("exec", {}, "command: is missing"),
        ("exec", {"line": "echo 'x"}, "cannot be split"),
        ("exec", {"line": "id", "timeout": "-1"}, "timeout: is a whole number"),
        ("exec", {"line": "cat", "input": "x" * 65537}, "input-data: has 65537 bytes"),
        ("query", {"query": "shutdown"}, "choose one of the list"),
        ("set-user-password", {"username": "a", "password": "longenough", "again": "other"}, "not the same"),
        ("set-user-password", {"username": "a", "password": "abcd", "again": "abcd"}, "5 to 1024"),
        (
            "set-user-password",
            {"username": "a:b", "password": "longenough", "again": "longenough"},
            "no name",
        ),
        ("file-read", {"file": "a\0b"}, "no path"),
        ("file-write", {"file": "/x", "content": "x" * 61441}, "at most 60 KiB"),
        ("fsfreeze-freeze", {"hold": "999999"}, "from 1 to 3600"),
        ("exec-status", {"pid": "x"}, "pid: is a whole number"),
    ],
)
def test_what_cannot_stand_is_refused(running: VM, command: str, data: dict[str, str], word: str) -> None:
    client = signed_in(person("anna", vms="PVEVMAdmin"))
    before = Task.objects.count()
    for headers in ({}, {"HX-Request": "true"}):
        answer = client.post(f"/vms/101/agent/{command}", data, headers=headers)
        assert answer.status_code == 422
        assert word.lower() in answer.content.decode().lower().replace("&#x27;", "'")
    assert Task.objects.count() == before


def test_nobody_is_asked_who_cannot_answer(scene: Scene, boss: Any) -> None:
    def refused(**values: Any) -> str:
        VM.everything.filter(pk=scene.vm.pk).update(**values)
        answer = boss.post("/vms/101/agent/fstrim")
        assert answer.status_code == 409
        return answer.content.decode()

    assert "VM 101 is not running" in refused()
    assert "VM 101 is locked (backup)" in refused(lock="backup", status="running", run_id="r")
    assert boss.post("/vms/101/agent/ping").status_code == 302
    assert "VM 101 is paused" in refused(lock="", status="paused")
    assert "No QEMU guest agent configured" in refused(status="running", options={})
    assert boss.get("/vms/101/agent/nonsense").status_code == 404


def test_a_secret_stands_in_no_row(running: VM, boss: Any) -> None:
    secret = "Tr0ub4dor-and-3"
    boss.post("/vms/101/agent/set-user-password", {"username": "ada", "password": secret, "again": secret})
    boss.post("/vms/101/agent/exec", {"line": f"login --token {secret}", "input": secret})
    boss.post("/vms/101/agent/file-write", {"file": "/etc/token", "content": secret})
    tasks = list(Task.objects.filter(type=agent.TYPE).order_by("pk"))
    assert [task.params["subject"] for task in tasks] == ["ada", "login", "/etc/token"]
    assert secret not in serializers.serialize("json", Task.objects.all())
    found = parcel.fetch(tasks[0].params["parcel"])
    assert found == {"username": "ada", "password": secret, "crypted": False}
    with pytest.raises(Exception, match="not there any more"):
        parcel.fetch(tasks[0].params["parcel"])
    answer = boss.post("/vms/101/agent/set-user-password", {"password": secret, "again": secret})
    assert secret not in answer.content.decode()


def test_an_answer_is_for_who_may_ask(running: VM) -> None:
    anna, bob = (
        signed_in(person(name, vms=role)) for name, role in (("a", "PVEVMAdmin"), ("b", "PVEVMUser"))
    )
    place = anna.post("/vms/101/agent/exec", {"line": "echo 'a b'", "timeout": "5"})["Location"]
    task = Task.objects.get(type=agent.TYPE)
    request = parcel.fetch(task.params["parcel"])
    assert (request["argv"], request["timeout"]) == (["echo", "a b"], 5)
    assert 'hx-trigger="load delay' in anna.get(place).content.decode()
    answered(task, {"pid": 7, "exited": True, "exitcode": 3, "out-data": "<b>a b", "out-truncated": True})
    text = anna.get(place).content.decode()
    assert "exit code 3" in text
    assert "&lt;b&gt;a b" in text
    assert "The output is longer" in text
    answer = bob.get(place)
    assert answer.status_code == 403
    assert "a b" not in answer.content.decode().partition("<main")[2]
    for seen in ("/tasks", f"/tasks/{task.pk}", "/vms/101"):
        assert "&lt;b&gt;a b" not in bob.get(seen).content.decode()


def test_a_file_is_shown_and_saved(running: VM, boss: Any) -> None:
    for content, shown in ((b"hello\n", "hello"), (b"\0\xff", "It is not text")):
        place = boss.post("/vms/101/agent/file-read", {"file": "/etc/motd"})["Location"]
        task = Task.objects.filter(type=agent.TYPE).latest("pk")
        data = base64.b64encode(content).decode()
        answered(task, {"content": data, "bytes-read": len(content), "truncated": False})
        assert shown in boss.get(place).content.decode()
        saved = boss.get(f"{place}?save=1")
        assert saved.content == content
        assert saved["Content-Type"] == "application/octet-stream"
        assert "attachment" in saved["Content-Disposition"]


def test_a_dialog_keeps_its_answer(running: VM, boss: Any) -> None:
    headers = {"HX-Request": "true"}
    text = boss.get("/vms/101/agent/exec", headers=headers).content.decode()
    assert "<dialog" in text
    assert "data-stays" in text
    asked = {**headers, "HX-Target": "agent-answer"}
    text = boss.post("/vms/101/agent/query", {"query": "get-osinfo"}, headers=asked).content.decode()
    task = Task.objects.get(type=agent.TYPE)
    assert f"/vms/101/agent/answers/{task.pk}?part=answer" in text
    answered(task, {"name": "Debian"})
    text = boss.get(f"/vms/101/agent/answers/{task.pk}?part=answer").content.decode()
    assert json.dumps({"name": "Debian"}, indent=2).replace('"', "&quot;") in text
    assert boss.post("/vms/101/agent/ping", headers=headers)["HX-Redirect"].startswith(
        "/vms/101/agent/answers/"
    )
    assert boss.get(f"/vms/101/agent/answers/{Task.objects.earliest('pk').pk}").status_code == 404


def test_what_a_guest_refuses_is_no_failure_of_the_vm(running: VM, boss: Any) -> None:
    boss.post("/vms/101/agent/file-read", {"file": "/none"})
    Task.objects.filter(type=agent.TYPE).update(status="error", message="Agent error: No such file.")
    Task.objects.exclude(type=agent.TYPE).update(status="ok")
    text = boss.get("/vms/101").content.decode()
    assert 'id="card-error"' not in text
    task = Task.objects.get(type=agent.TYPE)
    assert "Agent error: No such file." in boss.get(f"/vms/101/agent/answers/{task.pk}").content.decode()


def test_file_systems_are_left_alone_while_a_clone_is_made(running: VM, boss: Any) -> None:
    Task.objects.create(
        type="qmclone", node=running.node, vmid=102, label="Clone 101", params={"clone-of": "101"},
        status="running",
    )  # fmt: skip
    for command, code in (("fsfreeze-freeze", 409), ("fsfreeze-thaw", 409), ("fsfreeze-status", 302)):
        assert boss.post(f"/vms/101/agent/{command}").status_code == code


@pytest.mark.parametrize(
    ("words", "command", "given"),
    [
        ("exec 101 -- ls -l", "exec", {"argv": ["ls", "-l"], "timeout": 30}),
        ("exec 101 --timeout 0 -- ls", "exec", {"argv": ["ls"], "timeout": 3600}),
        ("exec 101 --synchronous 0 -- ls", "exec", {"argv": ["ls"], "timeout": 0}),
        ("exec-status 101 7", "exec-status", {"pid": 7}),
        ("cmd 101 get-osinfo", "get-osinfo", {}),
        ("cmd 101 fsfreeze-freeze --hold 9", "fsfreeze-freeze", {"hold": 9}),
        ("file-read 101 /x", "file-read", {"file": "/x"}),
    ],
)
def test_the_shells_words(words: str, command: str, given: dict[str, Any]) -> None:
    from vms.cli import guest, qm

    parser, _ = qm.parser_of(next(entry for entry in qm.SUBCOMMANDS if entry.name == "guest"))
    assert guest.request(parser.parse_args(words.split())) == (command, given)
