"""Verbs asked for with parameters that cannot stand: every door says which one, and nothing is queued."""

from __future__ import annotations

import html

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from vms.errors import ConfigErrors
from vms.models import VM, Node, Task
from vms.models.configuration import config_of, save_config
from vms.operations.base import submit

pytestmark = pytest.mark.django_db

TABLE = [
    ("stop", "qmstop", "timeout", "abc", "not a whole number"),
    ("stop", "qmstop", "timeout", "-1", "below the smallest"),
    ("stop", "qmstop", "timeout", "9" * 4096, "not a whole number"),
    ("stop", "qmstop", "timeout", "1,file=/etc/shadow", "not a whole number"),
    ("shutdown", "qmshutdown", "forceStop", "perhaps", "write 1 or 0"),
    ("shutdown", "qmshutdown", "timeout", "1\n2", "line break"),
    ("destroy", "qmdestroy", "purge", "ünïcodé" * 600, "write 1 or 0"),
]


@pytest.fixture
def vm(db: None) -> VM:
    from django.utils import timezone

    node = Node.objects.create(name="pve1", heartbeat=timezone.now())
    made = VM.everything.create(vmid=101, node=node, stage=VM.Stage.DEFINED, status=VM.Status.RUNNING)
    save_config(made, {"name": "web-01", "memory": "512"})
    return made


def nothing_happened(vm: VM) -> None:
    assert not Task.objects.exists()
    fresh = VM.everything.get(pk=vm.pk)
    assert (fresh.lock, config_of(fresh)) == ("", {"name": "web-01", "memory": "512"})


@pytest.mark.parametrize(("verb", "type_", "name", "text", "words"), TABLE, ids=range(len(TABLE)))
def test_submitting(vm: VM, verb: str, type_: str, name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        submit(type_, vm=vm, user=None, params={name: text})
    assert list(caught.value.by_key()) == [name]
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    nothing_happened(vm)


@pytest.mark.parametrize(("verb", "type_", "name", "text", "words"), TABLE, ids=range(len(TABLE)))
def test_the_pages(
    vm: VM, admin_client: Client, verb: str, type_: str, name: str, text: str, words: str
) -> None:
    """A toast with htmx, a message without."""
    form = {name: text, "confirm": "101"}
    answer = admin_client.post(f"/vms/101/do/{verb}", form, headers={"HX-Request": "true"})
    assert answer.status_code == 409
    said = html.unescape(answer.content.decode())
    assert name.lower() in said.lower()
    assert words in said
    answer = admin_client.post(f"/vms/101/do/{verb}", form)
    assert answer.status_code == 302
    [message] = [str(message) for message in get_messages(answer.wsgi_request)]
    assert name.lower() in message.lower()
    assert words in message
    nothing_happened(vm)


@pytest.mark.parametrize("typed", ["", "102", "1010", "١٠١", "101 or 1=1", "101\n", "ünïcodé" * 600])
def test_a_removal_that_is_not_confirmed(vm: VM, admin_client: Client, typed: str) -> None:
    if typed.strip() == "101":
        VM.everything.filter(pk=vm.pk).update(status=VM.Status.RUNNING)
    answer = admin_client.post("/vms/101/do/destroy", {"confirm": typed}, headers={"HX-Request": "true"})
    said = answer.content.decode()
    if typed.strip() == "101":  # white space is no reason to refuse; that it runs is
        assert (answer.status_code, "is running" in said) == (409, True)
    else:
        assert (answer.status_code, "type 101 to confirm" in said) == (422, True)
    nothing_happened(vm)


@pytest.mark.parametrize("verb", ["fly", "start;stop", "..", "%2e%2e", "qmstart"])
def test_verbs_nobody_knows(vm: VM, admin_client: Client, verb: str) -> None:
    assert admin_client.post(f"/vms/101/do/{verb}").status_code == 404
    nothing_happened(vm)


@pytest.mark.parametrize("number", ["99", "0", "1000000000", "9" * 30])
def test_machines_that_cannot_be(vm: VM, admin_client: Client, number: str) -> None:
    """No page, no verb, no draft of such a number; the same answer as for one that is not there."""
    for address in (f"/vms/{number}", f"/vms/{number}/hardware", f"/vms/create/{number}/general"):
        assert admin_client.get(address).status_code == 404, address
    assert admin_client.post(f"/vms/{number}/do/start").status_code == 404
    nothing_happened(vm)
