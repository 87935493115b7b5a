"""What the pages say: states and reasons in words, refusals as sentences; queries stay flat."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from vms.models import VM, AuditEntry, Disk, Node, Task
from vms.views.failures import explain

pytestmark = pytest.mark.django_db
HX = {"HX-Request": "true"}


def read(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


# ---- coming and going


def test_login_goes_where_one_wanted_and_only_there(scene: Scene) -> None:
    person("anna")
    for wanted, lands in (
        ("/vms/101?x=1", "/vms/101?x=1"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
    ):
        client = Client()
        answer = client.post("/login", {"username": "anna", "password": "x", "next": wanted})
        assert (answer.status_code, answer.headers["Location"]) == (302, lands)
    assert AuditEntry.objects.filter(action="login", username="anna").count() == 3


def test_login_errors_tell_nothing_and_guessing_is_stopped(scene: Scene) -> None:
    person("anna")
    client = Client()
    texts = set()
    for name in ("anna", "nobody-here"):
        answer = client.post("/login", {"username": name, "password": "wrong"})
        assert answer.status_code == 403
        texts.add(answer.content.decode().count("User name or password is not right."))
    assert texts == {1}
    codes = [client.post("/login", {"username": "anna", "password": "wrong"}).status_code for _ in range(6)]
    assert codes[-1] == 429
    assert client.post("/login", {"username": "anna", "password": "x"}).status_code == 429


def test_logout_ends_the_session(scene: Scene, boss: Client) -> None:
    assert boss.post("/logout").status_code == 302
    assert boss.get("/").status_code == 302


# ---- the list


def test_the_list_filters_sorts_and_pages(scene: Scene, boss: Client) -> None:
    scene.add_vms(60)
    first = read(boss, "/")
    assert "1–50 of 61 VMs" in first
    assert "51–61 of 61 VMs" in read(boss, "/?page=2")
    assert read(boss, "/?q=web&part=rows").count("<tr>") == 2
    assert "app-200" not in read(boss, "/?tag=web")
    assert "app-200" in read(boss, "/?tag=prod")
    assert "No VM matches" in read(boss, "/?state=running")
    names = read(boss, "/?sort=-vmid&part=rows")
    assert names.index("app-259") < names.index("app-258")
    assert 'aria-sort="descending"' in names


def test_drafts_and_trash_are_not_listed(scene: Scene, boss: Client) -> None:
    VM.everything.create(vmid=300, node=scene.node, stage=VM.Stage.DRAFT, name="unfinished")
    for address in ("/", "/tree"):
        assert "unfinished" not in read(boss, address)
    assert boss.get("/vms/300").status_code == 404


def test_an_empty_house_says_what_to_do_next(db: None, boss: Client) -> None:
    assert "create the first VM" in read(boss, "/")
    assert "Ask an operator" in read(signed_in(person("bob")), "/")


@pytest.mark.parametrize(
    "path",
    ["/", "/tree", "/tasks", "/tasks/log", "/vms/101", "/vms/101/hardware", "/storage/local", "/nodes/pve1"],
)
@pytest.mark.parametrize("who", ["boss", "anna"])
def test_queries_do_not_grow_with_the_number_of_vms(scene: Scene, operator: Any, path: str, who: str) -> None:
    user = operator if who == "boss" else person("anna", root="Administrator")
    scene.add_vms(2, 200)
    few = queries(user, path)
    scene.add_vms(57, 300)
    assert queries(user, path) <= few
    assert few <= 20


def queries(user: Any, path: str) -> int:
    client = signed_in(user)
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert client.get(path).status_code == 200
    return len(seen)


def test_the_tree_stops_at_a_hundred_of_a_node(scene: Scene, boss: Client) -> None:
    VM.everything.bulk_create(
        VM(vmid=1000 + number, node=scene.node, stage=VM.Stage.DEFINED, name=f"many-{number}")
        for number in range(250)
    )
    text = read(boss, "/tree")
    assert text.count('id="tree-vm-') == 100
    assert "151 more: open the list" in text
    assert "0/251" in text


# ---- a VM's page


def test_the_page_names_state_node_and_parts(scene: Scene, boss: Client) -> None:
    text = read(boss, "/vms/101")
    for words in ("Stopped", "pve1", "TCG (emulation, slow)", "/dev/kvm is not there", "2 GiB", "32 GiB"):
        assert words in text, words
    hardware = read(boss, "/vms/101/hardware")
    for words in (
        "Hard disk (scsi0)",
        "CD/DVD drive (ide2)",
        "local:iso/debian.iso,media=cdrom",
        "VirtIO SCSI single",
    ):
        assert words in hardware, words
    assert hardware.index("Memory") < hardware.index("Processors") < hardware.index("Hard disk (scsi0)")
    options = read(boss, "/vms/101/options")
    assert "Start at boot" in options
    assert "Default (No)" in options


def test_a_failed_task_is_explained_until_something_later_worked(scene: Scene, boss: Client) -> None:
    text = read(boss, "/vms/101")
    for words in (
        "Another process uses a disk of this VM",
        "remove tap101i0",
        "then start again",
        "qemu: raw words",
    ):
        assert words in text, words
    Task.objects.create(
        type="qmstart", node=scene.node, vm=scene.vm, vmid=101, status="ok", ended=timezone.now()
    )
    assert "Another process uses" not in read(boss, "/vms/101")


def test_an_unknown_failure_keeps_its_own_words(scene: Scene) -> None:
    scene.task.message = "The moon was full."
    scene.task.detail = ""
    found = explain(scene.task)
    assert (found.cause, found.title) == ("The moon was full.", "Start 101 (web-01) failed")


@pytest.mark.parametrize(
    ("status", "first", "reasons"),
    [
        (
            "stopped",
            "Start",
            {"shutdown": "The VM is not running.", "reset": "The VM is not running.", "destroy": ""},
        ),
        (
            "running",
            "Start",
            {"start": "The VM runs already.", "destroy": "The VM runs. Stop it first.", "stop": ""},
        ),
        ("paused", "Resume", {"resume": "", "shutdown": "The VM is paused. Resume it first, or stop it."}),
        ("suspended", "Resume", {"resume": "", "pause": "The VM is paused already."}),
        ("io-error", "Start", {"stop": "", "reset": ""}),
    ],
)
def test_controls_say_why_they_cannot_be_used(
    scene: Scene, operator: Any, status: str, first: str, reasons: dict[str, str]
) -> None:
    from vms.views.power import VERBS, refusal, toolbar

    vm = scene.vm
    vm.status = status
    assert toolbar(operator, vm)["first"].verb.label == first
    from vms.access import PRIVILEGES

    for verb, reason in reasons.items():
        assert refusal(VERBS[verb], vm, frozenset(PRIVILEGES)) == reason, verb


def test_a_hibernated_vm_reads_suspended_and_offers_to_resume(scene: Scene, operator: Any) -> None:
    from vms.access import PRIVILEGES
    from vms.views.power import VERBS, refusal, toolbar

    vm = scene.vm
    vm.status, vm.lock = "stopped", "suspended"
    bar = toolbar(operator, vm)
    assert (bar["state"].word, bar["state"].tone) == ("Suspended", "suspended")
    assert bar["first"].verb.label == "Resume"
    assert bar["discard"].reason == ""
    everything = frozenset(PRIVILEGES)
    assert all(not refusal(VERBS[name], vm, everything) for name in ("start", "resume", "discard", "destroy"))
    locked = "The VM is hibernated. Resume it first, or discard its saved memory."
    assert refusal(VERBS["shutdown"], vm, everything) == locked
    short = everything - {"VM.Config.Disk"}
    assert refusal(VERBS["discard"], vm, short) == "You may not: VM.Config.Disk on this VM is missing."
    vm.status, vm.lock, vm.options = "running", "", {"hostpci0": "0000:01:00.0"}
    told = "The memory cannot be saved with: hostpci0."
    assert refusal(VERBS["hibernate"], vm, everything) == told


def test_a_silent_node_makes_states_unknown(scene: Scene, boss: Client) -> None:
    VM.objects.filter(pk=scene.vm.pk).update(status="running")
    Node.objects.update(heartbeat=timezone.now() - timedelta(minutes=5))
    for address in ("/", "/tree", "/vms/101"):
        assert "Unknown, was running" in read(boss, address)
    assert "Node pve1 is offline" in read(boss, "/vms/101")
    assert "VM states there are the last known ones" in read(boss, "/nodes/pve1")


def test_names_are_text_whatever_they_hold(scene: Scene, boss: Client) -> None:
    evil = "<script>alert(1)</script>"
    VM.objects.filter(pk=scene.vm.pk).update(name=evil, tags=evil)
    Task.objects.filter(pk=scene.task.pk).update(label=evil, message=evil, detail=evil)
    addresses = (
        "/",
        "/tree",
        "/vms/101",
        "/vms/101/options",
        "/tasks",
        "/tasks/log",
        f"/tasks/{scene.task.pk}",
    )
    for address in (*addresses, f"/?q={evil}&tag={evil}", "/vms/101/ask/destroy"):
        assert "<script>alert" not in read(boss, address), address


# ---- verbs


def test_start_is_asked_for_by_form_and_by_htmx(scene: Scene, boss: Client) -> None:
    assert boss.post("/vms/101/do/start").headers["Location"] == "/vms/101"
    assert "Start requested" in read(boss, "/vms/101")
    answer = boss.post("/vms/101/do/start", headers=HX)
    assert answer.status_code in (200, 409)
    assert Task.objects.filter(type="qmstart", status="queued").count() >= 1


def test_a_refusal_is_a_sentence(scene: Scene, boss: Client) -> None:
    answer = boss.post("/vms/101/do/reset", headers=HX)
    assert answer.status_code == 409
    assert "VM 101 is not running." in answer.content.decode()
    boss.post("/vms/101/do/reset")
    assert "VM 101 is not running." in read(boss, "/vms/101")
    assert boss.post("/vms/101/do/explode").status_code == 404


def test_two_people_pressing_start_at_once(scene: Scene, boss: Client) -> None:
    """Nobody gets an error page, and the VM is started by whoever was first."""
    other = signed_in(person("anna", root="Administrator"))
    codes = {client.post("/vms/101/do/start", headers=HX).status_code for client in (boss, other)}
    assert codes <= {200, 409}
    assert 200 in codes


def test_destroy_wants_the_number_typed_and_lists_what_goes(scene: Scene, boss: Client) -> None:
    text = read(boss, "/vms/101/ask/destroy")
    for words in ("local:101/vm-101-disk-0.qcow2", "32 GiB", "These stay", "local:iso/debian.iso"):
        assert words in text, words
    for typed in ("", "102", "101x", "web-01"):
        answer = boss.post("/vms/101/do/destroy", {"confirm": typed}, headers=HX)
        assert answer.status_code == 422
        assert "type 101 to confirm" in answer.content.decode()
    assert not Task.objects.filter(type="qmdestroy").exists()
    answer = boss.post("/vms/101/do/destroy", {"confirm": " 101 ", "purge": "1"}, headers=HX)
    task = Task.objects.get(type="qmdestroy")
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, f"/tasks/{task.pk}")
    assert task.params == {"purge": "1"}


def test_dialogs_are_pages_too(scene: Scene, boss: Client) -> None:
    VM.objects.filter(pk=scene.vm.pk).update(status="running")
    assert "<dialog" in boss.get("/vms/101/ask/stop", headers=HX).content.decode()
    whole = read(boss, "/vms/101/ask/stop")
    assert "<html" in whole
    assert "The power is cut at once." in whole
    assert boss.get("/vms/101/ask/start").status_code == 404


# ---- tasks


def test_a_task_shows_its_log_as_it_grows(scene: Scene, boss: Client) -> None:
    text = read(boss, f"/tasks/{scene.task.pk}")
    assert "undone: remove tap101i0" in text
    last = scene.task.lines.get().pk
    scene.task.lines.create(text="one more line")
    more = read(boss, f"/tasks/{scene.task.pk}?part=lines&after={last}")
    assert "one more line" in more
    assert "undone" not in more
    assert f"after={scene.task.lines.last().pk}" in more


def test_cancel_takes_back_what_waits(scene: Scene, boss: Client) -> None:
    boss.post("/vms/101/do/start")
    task = Task.objects.get(status="queued")
    assert "Cancel requested" in boss.post(f"/tasks/{task.pk}/cancel", headers=HX).content.decode()
    task.refresh_from_db()
    assert task.status == "cancelled"
    assert boss.post(f"/tasks/{task.pk}/cancel", headers=HX).status_code == 409


def test_somebody_elses_task_is_not_ones_own_to_cancel(scene: Scene, boss: Client) -> None:
    boss.post("/vms/101/do/start")
    task = Task.objects.get(status="queued")
    bob = signed_in(person("bob", vms__101="PVEVMUser"))
    assert bob.post(f"/tasks/{task.pk}/cancel", headers=HX).status_code == 403
    task.refresh_from_db()
    assert task.status == "queued"


def test_the_task_list_narrows(scene: Scene, boss: Client) -> None:
    assert "Start 101" in read(boss, "/tasks?status=error&q=101")
    assert "No task matches" in read(boss, "/tasks?status=ok")
    assert "No task matches" in read(boss, "/tasks?q=%F0%9F%A6%86")


# ---- storage


def test_an_iso_in_use_stays(scene: Scene, boss: Client) -> None:
    answer = boss.post("/storage/local/delete", {"volume": scene.iso.pk}, headers=HX)
    assert answer.status_code == 409
    assert "VM 101 (ide2)" in answer.content.decode()
    answer = boss.post("/storage/local/delete", {"volume": scene.free_iso.pk}, headers=HX)
    assert answer.status_code == 200
    assert Task.objects.get(type="imgdel").params == {"volume": "local:iso/memtest.iso"}
    disk = Disk.objects.get(slot="scsi0").volume
    assert disk is not None
    assert boss.post("/storage/local/delete", {"volume": disk.pk}, headers=HX).status_code == 409
    for odd in ("", "x", "99999", "-1", "9" * 40):
        assert boss.post("/storage/local/delete", {"volume": odd}).status_code == 404


def test_the_library_counts_vms_one_may_not_see(scene: Scene) -> None:
    scene.add_vms(1)
    bob = signed_in(person("bob", storage="PVEDatastoreUser", vms__200="PVEVMUser"))
    text = read(bob, "/storage/local")
    assert ">200</a>" in text
    assert ">101</a>" not in text
    assert "and 1 more" in text


def test_rescan_is_a_task(scene: Scene, boss: Client) -> None:
    assert "Rescan requested" in boss.post("/storage/local/rescan", headers=HX).content.decode()
    assert Task.objects.get(type="storagescan").params == {"storage": "local"}
