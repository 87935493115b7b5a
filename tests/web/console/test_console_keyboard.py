"""The keyboard's doors: texts to type, combinations of one's own, and what is said of the clipboard."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client

from console.clipboard import ASKING, DEAF, OFF, READY, STOPPED, WAITS
from console.models import KeyCombination
from vms.models import VM, AclEntry, Node, Task
from vms.tasks import parcel, screens
from vms.tasks.queue import request_cancel

pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"
RUN = "ab" * 16
JSON = {"Accept": "application/json"}


@pytest.fixture
def vm() -> VM:
    caches["parcels"].clear()
    return VM.everything.create(
        vmid=101, node=Node.objects.create(name="pve1"), stage=VM.Stage.DEFINED, name="web-01",
        status=VM.Status.RUNNING, run_id=RUN, options={"keyboard": "de"},
    )  # fmt: skip


def browser(role: str = "", *, superuser: bool = False) -> Client:
    user = User.objects.create_user(uuid.uuid4().hex, is_superuser=superuser)
    if role:
        AclEntry.objects.create(path="/vms/101", user=user, role=role)
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


def ask(client: Client, **form: Any) -> Any:
    return client.post("/vms/101/console/type", form, headers=JSON)


def test_a_text_is_asked_for_and_stands_in_no_row(vm: VM) -> None:
    client = browser("PVEVMUser")
    assert '<option value="de" selected>' in client.get("/vms/101/console/type").content.decode()
    told = ask(client, text="geheim\r\nzwei", layout="de", rate="50").json()
    task = Task.objects.get()
    assert (task.type, task.label) == ("typetext", "Type 11 characters into 101 (web-01)")
    assert "geheim" not in str(task.params)
    assert parcel.fetch(task.params["parcel"]) == {"text": "geheim\nzwei"}
    assert told["finished"] is False
    Task.objects.filter(pk=task.pk).update(status="running", progress=0.5, message="5 of 11 characters")
    state = client.get(told["state"]).json()
    assert (state["words"], state["progress"]) == ("5 of 11 characters", 0.5)
    assert client.post(told["cancel"]).status_code == 302
    Task.objects.filter(pk=task.pk).update(status="cancelled")
    assert client.get(told["state"]).json()["words"] == "Cancelled; a part was typed"


def test_without_javascript_it_is_a_page(vm: VM) -> None:
    client = browser("PVEVMUser")
    answer = client.post("/vms/101/console/type", {"text": "日", "layout": "fr"})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "has no key for &#x27;日&#x27; (line 1)" in page
    assert ">日</textarea>" in page
    assert '<option value="fr" selected>' in page
    answer = client.post("/vms/101/console/type", {"text": "a"})
    assert answer["Location"] == f"/tasks/{Task.objects.get().pk}"
    assert Task.objects.get().params["layout"] == "de", "the VM's own keyboard"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"text": ""}, "say what to type"),
        ({"text": "a" * 8193}, "more than 8192"),
        ({"text": "a", "layout": "xx"}, "no layout 'xx'"),
        ({"text": "a", "rate": "0"}, "Rate"),
        ({"text": "a", "rate": "1000"}, "Rate"),
        ({"text": "a", "rate": "x"}, "is no number"),
        ({"text": "a\x00b"}, "U+0000"),
    ],
)
def test_what_is_not_typed(vm: VM, form: dict[str, str], said: str) -> None:
    answer = ask(browser("PVEVMUser"), **form)
    assert answer.status_code == 422
    assert said.lower() in answer.json()["error"].lower()
    assert not Task.objects.exists()


def test_who_may_type_and_when(vm: VM) -> None:
    assert ask(browser(), text="a").status_code == 404
    assert ask(browser("PVEAuditor"), text="a").status_code == 403
    assert browser("PVEAuditor").get("/vms/101/console/clipboard").status_code == 403
    VM.everything.update(status="paused")
    answer = ask(browser("PVEVMUser"), text="a")
    assert answer.status_code == 409
    assert "it hears no keys" in answer.json()["error"]
    VM.everything.update(status="stopped", run_id="")
    assert ask(browser("PVEVMUser"), text="a").status_code == 409
    assert not Task.objects.exists()


def test_anothers_task_is_not_told(vm: VM) -> None:
    first, second = browser("PVEVMUser"), browser("PVEVMUser")
    state = ask(first, text="a").json()["state"]
    assert second.get(state).status_code == 200, "of a VM they may type into themselves"
    assert browser("PVEAuditor").get(state).status_code == 403
    other = Task.objects.create(type="qmstart", node=vm.node, vm=vm, vmid=101)
    assert first.get(f"/vms/101/console/type/{other.pk}").status_code == 403
    assert request_cancel(Task.objects.get(type="typetext"))


def test_own_combinations_come_and_go(vm: VM) -> None:
    client, other = browser("PVEVMUser"), browser("PVEVMUser")
    assert "None yet." in client.get("/console/keys").content.decode()
    assert client.post("/console/keys", {"keys": "Win-R", "label": " Run  <it> "}).status_code == 302
    page = client.get("/vms/101/console").content.decode()
    assert 'data-keys="MetaLeft KeyR"' in page
    assert "Run &lt;it&gt;" in page
    assert "Change them" in page
    assert "MetaLeft KeyR" not in other.get("/vms/101/console").content.decode()
    for form, said in (
        ({"keys": "meta_l-r"}, "in your list already"), ({"keys": "ctrl-hyper"}, "no key"),
        ({"keys": ""}, "write key names"), ({"keys": "f1", "label": "x" * 41}, "at most 40"),
    ):  # fmt: skip
        answer = client.post("/console/keys", form)
        assert answer.status_code == 422
        assert said in answer.content.decode()
    pk = KeyCombination.objects.get().pk
    other.post("/console/keys", {"remove": str(pk)})
    assert KeyCombination.objects.exists(), "nobody removes another's"
    for remove in ("", "x", "9" * 30, str(pk)):
        client.post("/console/keys", {"remove": remove})
    assert not KeyCombination.objects.exists()
    for number in range(1, 25):
        client.post("/console/keys", {"keys": f"ctrl-f{number}"})
    answer = client.post("/console/keys", {"keys": "shift-f1"})
    assert "24 combinations are the most" in answer.content.decode()


def test_which_half_of_the_clipboard_is_missing(vm: VM) -> None:
    client = browser("PVEVMUser")

    def words() -> str:
        return str(client.get("/vms/101/console/clipboard").json()["words"])

    def shared(launched: str, now: str) -> None:
        VM.everything.update(options={"vga": now}, launch={"config": {"vga": launched}})

    shared("std", "std")
    assert words() == OFF
    shared("std", "std,clipboard=vnc")
    assert words() == WAITS
    assert not screens.looked([RUN]), "nothing is drawn for nothing"
    shared("std,clipboard=vnc", "std")
    assert words() == ASKING
    assert screens.looked([RUN])
    screens.keep(RUN, screens.Thumbnail(b"", clipboard=False))
    assert words() == DEAF
    screens.keep(RUN, screens.Thumbnail(b"", clipboard=True))
    assert words() == READY
    VM.everything.update(status="stopped", run_id="")
    assert words() == STOPPED


def test_its_own_window_says_which_and_how(vm: VM) -> None:
    page = browser("PVEVMUser").get("/vms/101/console/window").content.decode()
    assert "<title>101 (web-01) · Running</title>" in page
    assert 'data-title="101 (web-01)"' in page
