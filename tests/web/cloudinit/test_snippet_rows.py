"""Snippets: versions, rights, the file that mirrors them, and whatever else lies beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from pages_house import Scene, person

from vms.config.seeds import Role
from vms.errors import AccessError, ConfigError, StateError, StorageError
from vms.models import VM, AuditEntry, Snapshot, Snippet, SnippetFile, SnippetVersion
from vms.operations import cloudinit, snippets
from vms.worker.snippets import settle

pytestmark = pytest.mark.django_db
ONE, TWO = "#cloud-config\npackages: [htop]\n", "#cloud-config\npackages: [htop, curl]\n"


def keep(
    scene: Scene, text: str = ONE, user: Any = None, base: int = 0, name: str = "u.yaml"
) -> SnippetVersion:
    return snippets.save(scene.storage, name, "user", text, user, base=base)[0]


def there(scene: Scene, name: str = "u.yaml") -> Path:
    return Path(scene.folder) / "snippets" / name


def scan(scene: Scene) -> bool:
    """A worker's look at the storage, its database work in this thread."""

    async def here(work: Callable[..., Any], *args: Any) -> Any:
        return await sync_to_async(work)(*args)

    return async_to_sync(settle)(scene.storage, scene.node, here)  # type: ignore[arg-type]


def test_every_save_is_a_version_and_the_file_follows(cloudy: Scene) -> None:
    anna = person("anna", storage__local="PVEDatastoreAdmin")
    first = keep(cloudy, user=anna)
    assert (first.number, first.username, first.size) == (1, "anna", len(ONE))
    assert there(cloudy).read_text() == ONE
    second = keep(cloudy, TWO, anna, base=1)
    assert second.number == 2
    assert there(cloudy).read_text() == TWO
    assert keep(cloudy, TWO, anna, base=2).number == 2  # no other text, no other version
    with pytest.raises(StateError, match="version 2 by anna meanwhile"):
        keep(cloudy, ONE, anna, base=1)
    third = snippets.restore(first.snippet, 1, anna)
    assert (third.number, third.text, third.comment) == (3, ONE, "Version 1 again")
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == ["snippet-save"] * 3
    assert SnippetFile.objects.get().sha256 == third.sha256


def test_a_name_is_given_once(cloudy: Scene) -> None:
    keep(cloudy)
    with pytest.raises(StateError, match="already"):
        keep(cloudy)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "x\n", "ä" * 3, "a" * 121])
def test_hostile_names(cloudy: Scene, name: str) -> None:
    with pytest.raises(ConfigError):
        keep(cloudy, name=name)
    assert not Snippet.objects.exists()
    assert not there(cloudy).parent.exists()


@pytest.mark.parametrize(
    "text", ["", "packages: []\n", "#cloud-config\na: [\n", "#cloud-config\n\x00", "x" * (1 << 20)]
)
def test_texts_no_reader_could_read_are_not_kept(cloudy: Scene, text: str) -> None:
    with pytest.raises(ConfigError):
        keep(cloudy, text)
    assert not Snippet.objects.exists()


def test_rights_follow_the_storage(cloudy: Scene) -> None:
    version = keep(cloudy)
    for roles, may_read, may_write in (
        ({}, False, False), ({"storage__local": "PVEAuditor"}, False, False),
        ({"storage__local": "PVEDatastoreUser"}, True, False),
        ({"storage__local": "PVEDatastoreAdmin"}, True, True), ({"vms": "PVEVMAdmin"}, False, False),
    ):  # fmt: skip
        user = person(f"u{len(roles)}{may_read}{may_write}{roles}"[:30], **roles)
        assert snippets.may(user, snippets.READ, "local") == may_read
        if not may_write:
            for act in (
                lambda user=user: keep(cloudy, TWO, user, base=1),
                lambda user=user: snippets.restore(version.snippet, 1, user),
                lambda user=user: snippets.remove(version.snippet, user),
                lambda user=user: snippets.adopt(cloudy.storage, "u.yaml", "user", user),
            ):
                with pytest.raises(AccessError, match=r"Datastore\.AllocateTemplate"):
                    act()
        if not may_read:
            with pytest.raises(AccessError):
                snippets.file_text(cloudy.storage, "u.yaml", user)
    assert SnippetVersion.objects.count() == 1


def test_one_in_use_is_not_removed(cloudy: Scene) -> None:
    version = keep(cloudy)
    named = "user=local:snippets/u.yaml"
    draft = VM.everything.create(
        vmid=300, node=cloudy.node, stage=VM.Stage.DRAFT, options={"cicustom": named}
    )
    other = VM.everything.create(
        vmid=301,
        node=cloudy.node,
        stage=VM.Stage.DEFINED,
        pending={"cicustom": f"meta=local:snippets/x,{named}"},
    )
    Snapshot.objects.create(vm=cloudy.vm, name="before", config={"cicustom": named})
    VM.everything.create(
        vmid=302,
        node=cloudy.node,
        stage=VM.Stage.DEFINED,
        options={"cicustom": "user=local:snippets/u.yaml2"},
    )
    with pytest.raises(StateError, match="used by draft 300, VM 301, snapshot before of VM 101"):
        snippets.remove(version.snippet, None)
    for row in (draft, other):
        row.delete()
    Snapshot.objects.all().delete()
    snippets.remove(version.snippet, None)
    assert not Snippet.objects.exists()
    assert not SnippetFile.objects.exists()
    assert not there(cloudy).exists()


def test_a_scan_notes_what_lies_there_and_mends_ours(cloudy: Scene) -> None:
    keep(cloudy)
    there(cloudy).unlink()
    there(cloudy, "by-hand.cfg").write_text(ONE)
    there(cloudy, "link").symlink_to("/etc/passwd")
    assert scan(cloudy)
    assert there(cloudy).read_text() == ONE
    rows = {row.name: row for row in SnippetFile.objects.all()}
    assert sorted(rows) == ["by-hand.cfg", "link", "u.yaml"]
    assert rows["by-hand.cfg"].problem == ""
    assert rows["link"].problem
    assert not scan(cloudy)
    there(cloudy, "link").unlink()
    assert scan(cloudy)
    # An older version of ours is brought up to date, another text is somebody's work.
    keep(cloudy, TWO, base=1)
    there(cloudy).unlink()
    there(cloudy).write_text(ONE)
    scan(cloudy)
    assert there(cloudy).read_text() == TWO
    there(cloudy).unlink()
    there(cloudy).write_text(TWO + "# mine\n")
    scan(cloudy)
    assert there(cloudy).read_text() == TWO + "# mine\n"
    version = snippets.adopt(cloudy.storage, "u.yaml", "user", None)
    assert (version.number, version.text) == (3, TWO + "# mine\n")
    assert snippets.adopt(cloudy.storage, "by-hand.cfg", "vendor", None).number == 1


def test_a_file_put_there_can_be_used_as_on_proxmox(cloudy: Scene) -> None:
    there(cloudy).parent.mkdir()
    there(cloudy).write_text(ONE)
    named: dict[Role, str] = {"user": "local:snippets/u.yaml"}
    assert snippets.texts(named) == {"user": ONE}
    keep(cloudy, TWO)
    assert snippets.texts(named) == {"user": TWO}


@pytest.mark.parametrize(
    ("volid", "words"),
    [
        ("local:snippets/none", "there is no snippet"), ("gone:snippets/u.yaml", "there is no snippet"),
        ("local:iso/debian.iso", "is no snippet"), ("local:snippets/link", "there is no snippet"),
        ("local:snippets/bad", "cannot be the user data"), ("local:snippets/huge", "there is no snippet"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said(cloudy: Scene, volid: str, words: str) -> None:
    there(cloudy).parent.mkdir()
    there(cloudy, "link").symlink_to("/etc/passwd")
    there(cloudy, "bad").write_text("no header\n")
    there(cloudy, "huge").write_text("#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match=words) as caught:
        snippets.texts({"user": volid})
    assert caught.value.key == "cicustom"


def test_a_storage_that_takes_none(cloudy: Scene) -> None:
    cloudy.storage.content = ["images"]
    cloudy.storage.save()
    with pytest.raises(StorageError, match="takes no snippets"):
        keep(cloudy)


def test_another_version_makes_the_image_older(cloudy: Scene) -> None:
    keep(cloudy)
    vm = cloudy.vm
    vm.options["cicustom"] = "vendor=local:snippets/u.yaml"
    vm.save()
    vm, mapping = cloudinit.read(vm)
    assert cloudinit.changes(vm, mapping) == []  # nobody knows what the image was made from
    custom: dict[Role, str] = {"vendor": ONE}
    cloudinit.remember(vm, cloudinit.made_from(mapping, custom))
    assert cloudinit.changes(vm, mapping) == []
    keep(cloudy, TWO, base=1)
    (change,) = cloudinit.changes(vm, mapping)
    assert change.key == "cicustom"
    assert "older" in (change.before or "")
    mapping.pop("ciuser")
    assert [change.key for change in cloudinit.changes(vm, mapping)] == ["ciuser", "cicustom"]


def test_an_imported_configuration_brings_only_texts_its_importer_may_read(cloudy: Scene) -> None:
    from vms.operations.importing import Options, plan

    keep(cloudy)
    text = (
        "name: x\nostype: l26\nmemory: 512\ncicustom: user=tank:snippets/u.yaml,vendor=tank:snippets/none\n"
    )
    options = Options(vmid=400, storages={"tank": "local"}, missing={}, unique=False, name="")

    def notes(user: Any) -> list[tuple[str, str]]:
        found = plan(text, node=cloudy.node, user=user, options=options)
        assert found.mapping["cicustom"] == "user=local:snippets/u.yaml,vendor=local:snippets/none"
        return [(note.severity, note.text) for note in found.notes if note.key == "cicustom"]

    (note,) = notes(None)
    assert note[0] == "warn"
    assert "would not start" in note[1]
    eve = person("eve", vms="PVEVMAdmin", storage="PVEAuditor")
    assert notes(eve) == [("block", "Permission check failed (/storage/local, Datastore.AllocateSpace)")]
