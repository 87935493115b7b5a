"""The screen on Summary: who sees it, when there is none, how little is sent; the screenshot's pages."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.core.cache import caches
from django.test import Client

from vms.models import VM, Task
from vms.qemu.picture import Picture
from vms.tasks import parcel, screens

PNG = Picture(4, 2, bytes(24)).png()
RUN = "ab" * 16


@pytest.fixture(autouse=True)
def empty() -> None:
    caches["parcels"].clear()


def run(scene: Scene, **fields: Any) -> VM:
    """Make it look as if it ran."""
    VM.everything.filter(pk=scene.vm.pk).update(status="running", run_id=RUN, **fields)
    return VM.objects.get(pk=scene.vm.pk)


def card(client: Client) -> str:
    return client.get("/vms/101/screen").content.decode()


def test_it_says_why_there_is_none(scene: Scene, boss: Client) -> None:
    assert "There is no screen until it runs." in card(boss)
    run(scene, options={"vga": "none"})
    assert "its display is none" in card(boss)
    run(scene, options={"vga": "serial0", "serial0": "socket"})
    assert "Its display is the serial terminal 0." in card(boss)
    run(scene, options={"vga": "std"}, launch={"config": {"vga": "serial0"}})
    assert "serial terminal 0" in card(boss), "what runs counts, not what is to come"
    assert not screens.looked([RUN])


def test_who_may_see_the_vm_and_not_its_screen_gets_no_picture(scene: Scene) -> None:
    run(scene)
    screens.keep(RUN, screens.Thumbnail(PNG))
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    text = bob.get("/vms/101").content.decode()
    assert "no role of yours has VM.Console" in text
    assert "screen.png" not in text
    assert "no role of yours has VM.Console" in card(bob)
    assert bob.get("/vms/101/screen.png").status_code == 403
    assert bob.post("/vms/101/screenshot").status_code == 403
    assert not screens.looked([RUN]), "and nothing is drawn for them"


def test_a_look_is_drawn_and_sent_once(scene: Scene, boss: Client) -> None:
    run(scene)
    assert "The screen is being drawn." in card(boss)
    assert screens.looked([RUN, "other"]) == {RUN}
    assert boss.get("/vms/101/screen.png").status_code == 204
    screens.keep(RUN, screens.Thumbnail(PNG))
    text = boss.get("/vms/101").content.decode()
    address = re.findall(r'src="(/vms/101/screen\.png\?shows=[0-9a-f]{24})"', text)[0]
    answer = boss.get(address)
    assert answer.content == PNG
    assert answer["Content-Type"] == "image/png"
    assert answer["Cache-Control"] == "private, max-age=300"
    again = boss.get("/vms/101/screen.png", headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again["Cache-Control"] == "private, no-cache"


def test_what_the_worker_could_not_draw_is_said(scene: Scene, boss: Client) -> None:
    run(scene)
    screens.keep(RUN, screens.Thumbnail(b"", "There is no picture of the screen: <none>."))
    assert "There is no picture of the screen: &lt;none&gt;." in card(boss)


def test_a_picture_of_another_run_is_not_shown(scene: Scene, boss: Client) -> None:
    screens.keep(RUN, screens.Thumbnail(PNG))
    VM.everything.filter(pk=scene.vm.pk).update(status="running", run_id="cd" * 16)
    assert boss.get("/vms/101/screen.png").status_code == 204


def test_a_screenshot_waits_shows_and_is_saved(scene: Scene, boss: Client) -> None:
    refused = boss.post("/vms/101/screenshot")
    assert refused.status_code == 409
    assert "VM 101 is not running." in refused.content.decode()
    run(scene)
    answer = boss.post("/vms/101/screenshot")
    task = Task.objects.get(type="screendump")
    assert answer["Location"] == f"/vms/101/screenshots/{task.pk}"
    assert boss.get("/vms/101/screenshot").status_code == 405
    page = boss.get(answer["Location"]).content.decode()
    assert "The screen is being drawn." in page
    assert boss.get(answer["Location"] + "?file=1").status_code == 202
    parcel.answer(task.params["parcel"], {"png": base64.b64encode(PNG).decode()})
    Task.objects.filter(pk=task.pk).update(status="ok")
    assert "Save the picture" in boss.get(answer["Location"] + "?part=picture").content.decode()
    file = boss.get(answer["Location"] + "?file=1")
    assert file.content == PNG
    assert re.search(r'filename="vm-101-[0-9-]{19}\.png"', file["Content-Disposition"])
    bob = signed_in(person("bob", vms__101="PVEAuditor"))
    assert bob.get(answer["Location"]).status_code == 403
    assert bob.get(answer["Location"] + "?file=1").status_code == 403
    caches["parcels"].clear()
    assert "was kept for an hour and is gone" in boss.get(answer["Location"]).content.decode()


def test_templates_have_no_screen(scene: Scene, boss: Client) -> None:
    VM.everything.filter(pk=scene.vm.pk).update(template=True)
    assert "card-screen" not in boss.get("/vms/101").content.decode()
