"""A node's page: the order of start and shutdown, and the buttons that make it happen."""

from __future__ import annotations

import re

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.models import VM, Task

pytestmark = pytest.mark.django_db


@pytest.fixture
def guests(scene: Scene) -> Scene:
    """101 starts last; 200 first with a delay; 201 second; 202 only by hand."""
    scene.add_vms(3)
    for vmid, options in (
        (101, {"onboot": "1"}), (200, {"onboot": "1", "startup": "order=1,up=30,down=60"}),
        (201, {"onboot": "1", "startup": "order=2"}), (202, {}),
    ):  # fmt: skip
        VM.objects.filter(vmid=vmid).update(options=options)
    return scene


def rows(client: Client, path: str) -> list[list[str]]:
    """The text of each cell of the tables' bodies."""
    answer = client.get(path)
    assert answer.status_code == 200
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", answer.content.decode(), re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in found]
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in row] for row in cells if len(row) > 4]


def ticked(client: Client, path: str) -> list[str]:
    text = client.get(path).content.decode()
    return re.findall(r'name="vm" value="(\d+)"[^>]* checked', text)


def test_what_a_boot_starts_in_time(guests: Scene, boss: Client) -> None:
    assert rows(boss, "/nodes/pve1") == [
        ["1", "200", "app-200", "0 s", "30 s", "60 s"],
        ["2", "201", "app-201", "30 s", "3 s", "180 s"],
        ["any", "101", "web-01", "33 s", "3 s", "180 s"],
    ]


def test_bulk_start_lists_who_is_off_and_ticks_who_starts_at_boot(guests: Scene, boss: Client) -> None:
    VM.objects.filter(vmid=200).update(status="running")
    assert [row[1] for row in rows(boss, "/nodes/pve1/bulk/start")] == ["201", "101", "202"]
    assert ticked(boss, "/nodes/pve1/bulk/start") == ["201", "101"]
    answer = boss.post("/nodes/pve1/bulk/start", {"vm": ["202", "101"]})
    task = Task.objects.get(type="startall")
    assert answer.headers["Location"] == f"/tasks/{task.pk}"
    assert task.params == {"vms": "202,101", "force": "1"}
    assert task.label == "Bulk start of 2 VMs"


def test_bulk_shutdown_lists_who_runs_backwards(guests: Scene, boss: Client) -> None:
    VM.objects.exclude(vmid=202).update(status="running")
    VM.objects.filter(vmid=201).update(status="paused")
    found = rows(boss, "/nodes/pve1/bulk/shutdown")
    assert [(row[1], row[5]) for row in found] == [
        ("101", "Gets 180 s to shut down."), ("201", "Paused: its power is cut."),
        ("200", "Gets 60 s to shut down."),
    ]  # fmt: skip
    boss.post("/nodes/pve1/bulk/shutdown", {"vm": "200", "timeout": " 20 "})
    assert Task.objects.get(type="stopall").params == {"vms": "200", "force-stop": "0", "timeout": "20"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "Nothing was asked for: no VM is ticked."),
        ({"vm": "x"}, "&#x27;x&#x27; is no VM ID"),
        ({"vm": "200", "timeout": "soon"}, "Timeout: &#x27;soon&#x27; is not a whole number"),
    ],
)
def test_what_cannot_stand_is_said(guests: Scene, boss: Client, data: dict[str, str], words: str) -> None:
    answer = boss.post("/nodes/pve1/bulk/shutdown", data, follow=True)
    assert words.lower() in answer.content.decode().lower()
    assert not Task.objects.filter(type="stopall").exists()


def test_only_what_one_may(guests: Scene) -> None:
    anna = signed_in(person("anna", nodes="PVEAuditor", vms__200="PVEVMUser", vms__201="PVEAuditor"))
    found = rows(anna, "/nodes/pve1/bulk/start")
    assert [row[1] for row in found] == ["200", "201"]
    assert found[1][5] == "Nothing: You may not: VM.PowerMgmt on this VM is missing."
    assert ticked(anna, "/nodes/pve1/bulk/start") == ["200"]
    answer = anna.post("/nodes/pve1/bulk/start", {"vm": ["200", "201"]}, follow=True)
    assert "Permission check failed (/vms/201, VM.PowerMgmt)" in answer.content.decode()
    assert not Task.objects.filter(type="startall").exists()


def test_there_is_no_other_verb(guests: Scene, boss: Client) -> None:
    assert boss.get("/nodes/pve1/bulk/destroy").status_code == 404
