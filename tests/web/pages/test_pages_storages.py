"""Storages defined in the pages: tried at once, each refusal on its field, nothing lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import GIB, Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client

from vms.cli import pvesm
from vms.models import AuditEntry, Disk, Storage, StorageStatus, Task, Volume
from vms.operations.prune import rules_of
from vms.storage.kinds import KINDS

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(scene: Scene) -> Client:
    return signed_in(person("anna", root="Administrator"))


def form(**more: object) -> dict[str, object]:
    return {"storage": "second", "content": ["images", "iso"], "enabled": "on", **more}


def test_a_directory_is_added_and_looked_at(operator: Client, scene: Scene, tmp_path: Path) -> None:
    data = form(**{"opt.path": str(tmp_path / "second")})
    answer = operator.post("/storages/add?kind=dir", data)
    assert (answer.status_code, answer.headers.get("Location")) == (302, "/storage/second"), answer.content
    row = Storage.objects.get(name="second")
    assert (row.kind, row.path, row.content, row.options) == (
        "dir", str(tmp_path / "second"), ["images", "iso"], {},
    )  # fmt: skip
    assert (tmp_path / "second" / "images").is_dir()
    assert Task.objects.filter(type="storagescan", params={"storage": "second"}).exists()
    assert AuditEntry.objects.filter(action="storage-add", username="anna").exists()


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("dir", {"opt.path": "srv"}, "absolute path"),
        ("dir", {"opt.path": "/nowhere/at/all"}, "there is no folder"),
        ("dir", {}, "is missing"),
        ("nfs", {"opt.path": "/proc/sys"}, "is no mount point"),
        ("lvmthin", {"opt.vgname": "no-such-group", "opt.thinpool": "data", "content": "images"}, "lvs"),
        ("lvmthin", {"opt.vgname": "-evil", "opt.thinpool": "data", "content": "images"}, "a name LVM takes"),
        ("zfspool", {"opt.pool": "../x", "content": "images"}, "a pool or data set"),
        (
            "lvmthin",
            {"opt.vgname": "pve", "opt.thinpool": "d", "content": ["iso"]},
            "not one of the available",
        ),
        ("dir", {"opt.path": "/srv/x", "content": []}, "required"),
        ("dir", {"opt.path": "/srv/x", "storage": "-a"}, "starts with a letter"),
        ("dir", {"opt.path": "/srv/x", "storage": "local"}, "already defined"),
    ],
)
def test_a_refusal_stands_on_its_field(
    operator: Client, kind: str, data: dict[str, object], words: str
) -> None:
    answer = operator.post(f"/storages/add?kind={kind}", form(**data))
    text = answer.content.decode()
    assert answer.status_code == 422
    assert words.lower() in re.sub(r"&#x27;|&#39;", "'", text).lower()
    assert 'class="error"' in text
    assert not Storage.objects.filter(name="second").exists()


def test_the_same_place_is_no_second_storage(operator: Client, scene: Scene) -> None:
    data = form(**{"opt.path": str(scene.folder)}, force="on")
    assert "lies there already" in operator.post("/storages/add", data).content.decode()


def test_a_storage_that_cannot_be_used_now_is_kept_on_demand(operator: Client) -> None:
    data = form(**{"opt.path": "/mnt/nas-that-is-off"}, force="on", shared="on")
    assert operator.post("/storages/add?kind=nfs", data).status_code == 302
    row = Storage.objects.get(name="second")
    assert (row.shared, row.facts()["type"]) == (True, "nfs")


def test_switched_off_it_is_offered_nowhere(operator: Client, scene: Scene) -> None:
    data = {"opt.path": str(scene.folder), "content": ["images", "iso", "import", "snippets", "backup"]}
    assert operator.post("/storage/local/edit", data).status_code == 302
    assert not Storage.objects.get(name="local").enabled
    assert operator.get("/storage/local").status_code == 404
    page = operator.get("/storages").content.decode()
    assert "local" in page
    assert "off" in page
    assert operator.get("/storage/local/edit").status_code == 200
    wizard = operator.get("/vms/101/clone").content.decode()
    assert 'value="local"' not in wizard


def test_what_is_in_use_stays_where_it_is(operator: Client, scene: Scene, tmp_path: Path) -> None:
    every = ["images", "iso", "import", "snippets", "backup"]
    moved = {"opt.path": str(tmp_path / "other"), "content": every, "enabled": "on"}
    assert "in use" in operator.post("/storage/local/edit", moved).content.decode()
    fewer = {"opt.path": str(scene.folder), "content": ["iso"], "enabled": "on"}
    assert "isk images of VM 101" in operator.post("/storage/local/edit", fewer).content.decode()
    answer = operator.post("/storage/local/remove")
    assert answer.status_code == 409
    assert "in use by VM 101" in answer.content.decode()
    assert Storage.objects.filter(name="local").exists()


def test_taking_one_away_leaves_its_files(operator: Client, scene: Scene) -> None:
    scene.folder.mkdir(exist_ok=True)
    (scene.folder / "kept").write_text("x")
    Disk.objects.all().delete()
    Volume.objects.filter(content="images").delete()
    assert operator.post("/storage/local/remove").status_code == 302
    assert not Storage.objects.exists()
    assert (scene.folder / "kept").exists()


def test_what_is_promised_is_said_in_words_and_a_bar(operator: Client, scene: Scene) -> None:
    Volume.objects.filter(name="101/vm-101-disk-0.qcow2").update(size=150 * GIB)
    for address in ("/storages", "/storage/local"):
        page = operator.get(address).content.decode()
        assert "150 GiB promised to disks, 150 % of all there is" in page
        assert '<progress max="107374182400" value="161061273600"' in page
    assert "150 GiB promised" in operator.get("/vms/101/hardware/add/disk").content.decode()
    StorageStatus.objects.update(used=95 * GIB, available=5 * GIB)
    assert "95 % full" in operator.get("/storages").content.decode()


def test_a_block_storage_leaves_no_choice_of_format(operator: Client, scene: Scene) -> None:
    thin = Storage.objects.create(
        name="thin", kind="lvmthin", options={"vgname": "pve", "thinpool": "data"}, content=["images"]
    )
    StorageStatus.objects.create(storage=thin, node=scene.node, total=GIB, available=GIB)
    Storage.objects.filter(name="local").update(content=["iso"])
    page = operator.get("/vms/101/hardware/add/disk").content.decode()
    assert "holds raw disks only" in page


def test_a_storage_has_rules_of_retention_of_its_own(operator: Client, scene: Scene) -> None:
    data = form(**{"opt.path": str(scene.folder), "opt.prune-backups": "keep-daily=7, keep-last=3"})
    data["content"] = ["images", "iso", "import", "snippets", "backup"]
    assert operator.post("/storage/local/edit", data).status_code == 302
    row = Storage.objects.get(name="local")
    assert (row.options, rules_of(row, "")) == (
        {"prune-backups": "keep-daily=7,keep-last=3"}, "keep-daily=7,keep-last=3"
    )  # fmt: skip
    assert rules_of(row, "keep-all=1") == "keep-all=1"
    assert 'value="keep-daily=7,keep-last=3"' in operator.get("/storage/local/edit").content.decode()
    refused = operator.post("/storage/local/edit", data | {"opt.prune-backups": "keep-sometimes=1"})
    assert refused.status_code == 422
    assert "keep-sometimes" in refused.content.decode()


def test_disk_images_are_told_and_those_in_no_drive_removed(operator: Client, scene: Scene) -> None:
    orphan = Volume.objects.create(
        storage=scene.storage, node=scene.node, name="400/vm-400-disk-0.raw", content="images", format="raw",
        size=GIB, vmid=400,
    )  # fmt: skip
    page = operator.get("/storage/local").content.decode()
    mine, other = page.index("vm-101-disk-0.qcow2"), page.index("vm-400-disk-0.raw")
    row = page[mine:other]
    assert "web-01" in row
    assert "scsi0" in row
    assert "32 GiB" in row
    assert "Remove" not in row
    assert "no such VM" in page[other:]
    assert f'name="volume" value="{orphan.pk}"' in page[other:]
    assert operator.post("/storage/local/delete", {"volume": orphan.pk}).status_code == 302
    assert Task.objects.get(type="imgdel").params == {"volume": "local:400/vm-400-disk-0.raw"}
    bob = signed_in(person("bob", storage="PVEDatastoreUser", vms__999="PVEVMUser"))
    text = bob.get("/storage/local").content.decode()
    assert "vm-101-disk-0" not in text
    assert "vm-400-disk-0" not in text
    assert "2 more of VMs that you may not see" in text
    refused = bob.post("/storage/local/delete", {"volume": orphan.pk}, headers={"HX-Request": "true"})
    assert refused.status_code == 403


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_its_form(operator: Client, kind: str) -> None:
    page = operator.get(f"/storages/add?kind={kind}")
    assert page.status_code == 200
    assert operator.get("/storages/add?kind=floppy").status_code == 404


# ---- pvesm


def test_pvesm_adds_changes_lists_and_forgets(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vms.cli.qm.open_installation", lambda: None)
    path = str(tmp_path / "second")
    assert pvesm.main(["add", "dir", "second", "--path", path, "--content", "images,iso"]) == 0
    assert pvesm.main(["set", "second", "--content", "images", "--disable", "1"]) == 0
    row = Storage.objects.get(name="second")
    assert (row.content, row.enabled, row.path) == (["images"], False, path)
    assert pvesm.main(["status"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"local +dir +active +104857600 +41943040 +62914560 +40\.00%", said)
    assert re.search(r"second +dir +disabled", said)
    assert pvesm.main(["list", "local", "--content", "iso"]) == 0
    assert "local:iso/debian.iso" in capsys.readouterr().out
    assert pvesm.main(["path", "local:iso/debian.iso"]) == 0
    assert capsys.readouterr().out.strip() == str(scene.folder / "template/iso/debian.iso")
    assert pvesm.main(["remove", "second"]) == 0
    for words, text in (
        (["add", "nfs", "nas", "--path", "/proc/sys"], "is no mount point"),
        (["add", "floppy", "a1"], "is no kind of storage"),
        (["add", "lvmthin", "thin", "--path", "/srv"], "is no option of a storage of kind 'lvmthin'"),
        (["remove", "local"], "in use by VM 101"),
        (["set", "other"], "does not exist"),
    ):
        assert pvesm.main(words) == 1
        assert text in capsys.readouterr().err
