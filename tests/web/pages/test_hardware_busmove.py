"""The card *Change bus*: its stage follows from the configuration, every step is a change like any other."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from conftest import GIB, Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.config.busmove import HELPER_SERIAL
from vms.models import VM, Task, Volume
from vms.models.configuration import config_of, save_config
from vms.operations.busmove import move_of, sees_helper

pytestmark = pytest.mark.django_db
CARD, BUS = "/vms/101/hardware", "/vms/101/hardware/bus"
WINDOWS = {
    "name": "win", "ostype": "win10", "machine": "q35", "boot": "order=sata0;ide2", "memory": "2048",
    "sata0": "local:101/vm-101-disk-0.qcow2,size=32G", "ide2": "none,media=cdrom", "agent": "1",
}  # fmt: skip


@pytest.fixture
def windows(scene: Scene) -> Scene:
    """A stopped Windows on SATA, and the driver disc in the library."""
    save_config(scene.vm, WINDOWS)
    Volume.objects.create(
        storage=scene.storage, node=scene.node, name="iso/virtio-win.iso", content="iso", format="iso",
        size=600 << 20,
    )  # fmt: skip
    return scene


def read(client: Client, path: str = CARD) -> str:
    return unescape(client.get(path).content.decode())


def config(scene: Scene) -> dict[str, str]:
    return config_of(VM.objects.get(pk=scene.vm.pk))


def helped(scene: Scene, client: Client) -> str:
    """The first step as the worker leaves it; answers the helper's slot."""
    client.post(
        BUS, {"go": "begin", "target": "scsi", "storage": "local", "disc": "local:iso/virtio-win.iso"}
    )
    task = Task.objects.get(type="qmconfig")
    assert task.params["set"].count(HELPER_SERIAL) == 1
    Task.objects.filter(pk=task.pk).update(status=Task.Status.OK)
    scene.vm.refresh_from_db()
    move = move_of(scene.vm)
    assert move is not None
    Volume.objects.create(
        storage=scene.storage, node=scene.node, name="101/vm-101-disk-1.qcow2", content="images",
        format="qcow2", size=GIB, vmid=101,
    )  # fmt: skip
    text = f"local:101/vm-101-disk-1.qcow2,backup=0,serial={HELPER_SERIAL},size=1G"
    disc = {"ide2": "local:iso/virtio-win.iso,media=cdrom", "scsihw": "virtio-scsi-single"}
    save_config(scene.vm, {**config(scene), move.helper: text, **disc})
    return move.helper


def status(scene: Scene, word: str) -> None:
    VM.objects.filter(pk=scene.vm.pk).update(status=word)


def test_windows_on_a_slow_bus_is_offered_the_way(windows: Scene, boss: Client) -> None:
    page = read(boss)
    assert "Change bus:" in page
    # The driver disc, told by its name, is what is chosen first.
    options = page[page.index('name="disc"') :]
    assert options.index("virtio-win.iso") < options.index("debian.iso")
    Task.objects.all().delete()
    boss.post(BUS, {"go": "begin", "target": "scsi", "storage": "local", "disc": "local:iso/virtio-win.iso"})
    assert "The helper disk is being made." in read(boss)
    asked = Task.objects.get(type="qmconfig").params["set"]
    assert '"ide2": "local:iso/virtio-win.iso,media=cdrom"' in asked
    assert '"scsihw": "virtio-scsi-single"' in asked


def test_all_the_way_there_by_the_persons_word(windows: Scene, boss: Client) -> None:
    helper = helped(windows, boss)
    page = read(boss)
    assert "Start the guest and install the driver" in page
    assert "The driver is installed" in page
    status(windows, "running")
    assert "virtio-win-guest-tools.exe" in read(boss)
    boss.post(BUS, {"go": "seen"})
    page = read(boss)
    assert "You said that the driver is installed." in page
    assert "The guest runs. Shut it down first." in page
    assert boss.post(BUS, {"go": "switch"}, headers={"HX-Request": "true"}).status_code == 409
    status(windows, "stopped")
    boss.post(BUS, {"go": "switch"})
    found = config(windows)
    assert found["scsi0"].startswith("local:101/vm-101-disk-0.qcow2,iothread=1")
    assert found["boot"] == "order=scsi0;ide2"
    assert not {"sata0", helper} & found.keys()
    # The helper's volume is deleted for good by a task of its own.
    assert Task.objects.get(type="qmconfig", status="queued").params["delete"] == "unused0"
    assert "The boot disk is" in read(boss)


def test_back_again_in_one_click(windows: Scene, boss: Client) -> None:
    helped(windows, boss)
    boss.post(BUS, {"go": "seen"})
    boss.post(BUS, {"go": "switch"})
    Task.objects.filter(status="queued").update(status="ok")
    save_config(windows.vm, {key: text for key, text in config(windows).items() if key != "unused0"})
    status(windows, "running")
    assert "The guest runs. Shut it down first." in read(boss)
    assert boss.post(BUS, {"go": "back"}, headers={"HX-Request": "true"}).status_code == 409
    status(windows, "stopped")
    boss.post(BUS, {"go": "back"})
    found = config(windows)
    assert (found["sata0"], found["boot"]) == (WINDOWS["sata0"], WINDOWS["boot"])
    assert "scsi0" not in found
    assert "Add helper disk" in read(boss)


def test_done_ends_it_and_giving_up_takes_the_helper_along(windows: Scene, boss: Client) -> None:
    helper = helped(windows, boss)
    boss.post(BUS, {"go": "finish"})
    windows.vm.refresh_from_db()
    assert move_of(windows.vm) is None
    assert Task.objects.get(type="qmconfig", status="queued").params == {"delete": helper, "force": "1"}


def test_disks_changed_by_hand_end_it(windows: Scene, boss: Client) -> None:
    helper = helped(windows, boss)
    save_config(windows.vm, {key: text for key, text in config(windows).items() if key != helper})
    assert "Add helper disk" in read(boss)


def test_the_helper_that_waits_for_a_cold_start_says_so(windows: Scene, boss: Client) -> None:
    helper = helped(windows, boss)
    VM.objects.filter(pk=windows.vm.pk).update(
        status="running", pending={"scsihw": "virtio-scsi-single"}, launch={"config": WINDOWS}
    )
    page = read(boss)
    assert helper in page
    assert "comes with the next cold start" in page


def test_other_systems_find_it_in_the_disks_menu(scene: Scene, boss: Client) -> None:
    save_config(scene.vm, {**WINDOWS, "ostype": "l26"})
    page = read(boss)
    assert 'id="busmove"' not in page
    assert f'href="{BUS}"' in page
    assert "Add helper disk" in read(boss, BUS)
    save_config(scene.vm, {"name": "fast", "scsi0": WINDOWS["sata0"]})
    assert "There is no bus to change" in read(boss, BUS)


def test_the_agent_can_only_be_asked_while_the_guest_runs(windows: Scene, boss: Client) -> None:
    helped(windows, boss)
    assert boss.post(BUS, {"go": "agent"}, headers={"HX-Request": "true"}).status_code == 409
    status(windows, "running")
    boss.post(BUS, {"go": "agent"})
    task = Task.objects.get(type="qmdriver")
    Task.objects.filter(pk=task.pk).update(status="error", message="The guest does not see the helper disk.")
    assert "The guest does not see the helper disk." in read(boss)


def test_steps_need_the_right_to_change_disks(windows: Scene) -> None:
    bob = signed_in(person("bob", vms="PVEAuditor", storage="PVEDatastoreUser"))
    assert "You may not: VM.Config.Disk on this VM is missing." in read(bob)
    for go in ("begin", "seen", "agent", "switch", "back", "finish"):
        sent = {"go": go, "target": "scsi", "storage": "local"}
        assert bob.post(BUS, sent, headers={"HX-Request": "true"}).status_code in (403, 409), go
    windows.vm.refresh_from_db()
    assert move_of(windows.vm) is None
    assert not Task.objects.filter(type__in=("qmconfig", "qmdriver")).exists()


def test_an_unknown_step_is_none(windows: Scene, boss: Client) -> None:
    assert boss.post(BUS, {"go": "dance"}, headers={"HX-Request": "true"}).status_code == 400


def disk(**address: Any) -> dict[str, Any]:
    return {"name": "/dev/sdb", "partition": False, "address": address}


def test_what_the_agent_tells_of_its_disks(windows: Scene, boss: Client) -> None:
    helped(windows, boss)
    windows.vm.refresh_from_db()
    move = move_of(windows.vm)
    assert move is not None
    assert sees_helper([disk(serial="QM00001"), disk(serial=f"0QEMU {HELPER_SERIAL}")], move)
    assert not sees_helper([disk(serial="QM00001"), disk(**{"bus-type": "scsi", "serial": "other"})], move)
    # A guest that tells of no serial numbers at all is believed by the bus.
    assert sees_helper([disk(**{"bus-type": "sata"}), disk(**{"bus-type": "scsi"})], move)
    assert not sees_helper([disk(**{"bus-type": "sata"}), {"name": "loop0"}, "odd"], move)
