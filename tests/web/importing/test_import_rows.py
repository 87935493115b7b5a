"""Import on real rows: volumes found, missing ones chosen about, rights kept, the mirror file written."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vms.config import conffile
from vms.config.vmconfig import VMConfig
from vms.errors import AccessError, ConfigError, ConfigErrors
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.models import VM, Node, Storage, Task, Volume
from vms.models.configuration import config_of, save_config
from vms.operations import importing, mirror
from vms.operations.importing import Options, Plan
from vms.operations.protection import said_of
from vms.qemu.cmdline import command

pytestmark = pytest.mark.django_db

FACTS = NodeFacts(storages={"local": {"type": "dir", "path": "/srv"}})
CONTEXT = LaunchContext(vmid=101, facts=FACTS, paths=RuntimePaths.of("/run/x", "/var/log/x", 101))

FILE = """\
# notes of the old days
boot: order=scsi0;ide2
cores: 2
ide2: none,media=cdrom
memory: 1024
name: shop
net0: virtio=BC:24:11:AA:BB:01
scsi0: tank:vm-101-disk-0,discard=on,size=1G
scsihw: virtio-scsi-single
smbios1: uuid=6ba7b810-9dad-11d1-80b4-00c04fd430c8

[PENDING]
memory: 2048
"""


@pytest.fixture
def place(db: None, tmp_path: Path, settings: Any) -> Any:
    """Node pve1 with storage local; the mirror files go to a folder of this test."""
    import dataclasses

    settings.CONF = dataclasses.replace(settings.CONF, node="pve1", home=tmp_path / "home")
    node = Node.objects.create(name="pve1")
    Storage.objects.create(name="local", path=str(tmp_path / "local"))
    return node


def disk(name: str = "101/vm-101-disk-0.raw", vmid: int | None = 101) -> Volume:
    """A disk on the storage that no VM uses."""
    storage = Storage.objects.get(name="local")
    path = Path(storage.path) / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1 << 20))
    return Volume(storage=storage, name=name, vmid=vmid, content="images", format="raw")


def plan(place: Node, text: str = FILE, user: Any = None, **options: Any) -> Plan:
    options.setdefault("storages", {"tank": "local"})
    return importing.plan(text, node=place, user=user, options=Options(**options))


def blocks(found: Plan) -> list[str]:
    return [note.text for note in found.notes if note.severity == "block"]


def test_what_is_all_there_is_defined_at_once(place: Node) -> None:
    disk()
    found = plan(place)
    assert (found.ready, found.vmid, found.creates) == (True, 101, ())
    assert Volume.objects.get().volid == "local:101/vm-101-disk-0.raw"
    assert not VM.everything.exists()
    vm, task = importing.carry_out(found, None)
    assert task is None
    assert (vm.stage, vm.name, vm.cores) == ("defined", "shop", 2)
    assert VM.objects.get().pending == {"memory": "2048"}
    assert config_of(vm)["scsi0"] == "local:101/vm-101-disk-0.raw,discard=on,size=1G"
    assert config_of(vm)["smbios1"].endswith("00c04fd430c8")


def test_protection_that_came_with_it(place: Node, admin_user: Any) -> None:
    disk()
    vm, _ = importing.carry_out(plan(place, FILE.replace("cores: 2", "protection: 1")), admin_user)
    words = said_of(VM.objects.get(pk=vm.pk))
    assert words.startswith("Protected by admin since ")
    assert words.endswith(", as its imported configuration says; no reason was given.")


def test_a_storage_nobody_mapped(place: Node) -> None:
    found = plan(place, storages={})
    assert found.storages == {"tank": ""}
    assert "there is no storage 'tank' here; say which one to use instead (local)" in blocks(found)
    with pytest.raises(ConfigErrors):
        importing.carry_out(found, None)
    assert not VM.everything.exists()


def test_a_missing_disk_is_a_question(place: Node) -> None:
    found = plan(place)
    assert any("scsi0: there is no volume" in text for text in blocks(found))
    assert found.drives[0].choices == ("refuse", "leave-out", "empty")
    left = plan(place, missing={"scsi0": "leave-out"})
    assert left.ready
    assert "scsi0" not in left.mapping
    assert left.mapping["boot"] == "order=ide2"
    empty = plan(place, missing={"scsi0": "empty"})
    assert empty.creates == ("scsi0",)
    assert empty.mapping["scsi0"].startswith("local:1,")
    vm, task = importing.carry_out(empty, None)
    assert task is not None
    assert (task.type, vm.stage) == ("qmcreate", "draft")


def test_somebody_elses_disk(place: Node) -> None:
    disk()
    found = plan(place, vmid=200)
    assert any("belongs to number 101, not 200" in text for text in blocks(found))


def test_a_disk_another_vm_uses(place: Node) -> None:
    disk()
    importing.carry_out(plan(place), None)
    VM.everything.filter(vmid=101).update(vmid=300)
    assert any("is used by VM 300" in text for text in blocks(plan(place)))


def test_the_number_is_taken(place: Node) -> None:
    disk()
    importing.carry_out(plan(place), None)
    assert any("VM 101 exists already; the next free number is 100" in text for text in blocks(plan(place)))


def test_an_address_twice_and_a_new_identity(place: Node) -> None:
    disk()
    importing.carry_out(plan(place), None)
    text = "\n".join(line for line in FILE.splitlines() if not line.startswith(("scsi0", "boot")))
    found = plan(place, text, vmid=105)
    assert any("already used by net0 of VM 101" in text for text in blocks(found))
    again = plan(place, text, vmid=105, unique=True)
    assert blocks(again) == []
    vm, _ = importing.carry_out(again, None)
    made = config_of(vm)
    assert made["net0"].startswith("virtio=BC:24:11:")
    assert "AA:BB:01" not in made["net0"]
    assert not made["smbios1"].endswith("00c04fd430c8")


def test_an_iso_that_is_not_here_leaves_an_empty_drive(place: Node) -> None:
    text = "name: x\nide2: local:iso/debian.iso,media=cdrom,size=600M\n"
    assert not plan(place, text).ready
    found = plan(place, text, otherwise="leave-out")
    assert found.mapping["ide2"] == "none,media=cdrom"
    assert found.ready


def test_a_seed_is_written_anew(place: Node) -> None:
    found = plan(place, "name: x\nscsi1: tank:vm-101-cloudinit,media=cdrom\nciuser: ada\n")
    assert found.ready
    assert found.mapping["scsi1"] == "local:cloudinit,media=cdrom"


def test_paths_of_the_host_stay_out(place: Node) -> None:
    for value in ("/dev/sda", "/etc/shadow", "local:../../etc/shadow"):
        assert (
            not plan(place, f"name: x\nscsi0: {value}\n", storages={})
            .mapping.get("scsi0", "")
            .startswith("x")
        )
    assert any("path of the host" in text for text in blocks(plan(place, "scsi0: /dev/sda\nname: x\n")))


def test_rights(place: Node, django_user_model: Any) -> None:
    from vms.models import AclEntry

    anna = django_user_model.objects.create_user("anna", "", "x")
    with pytest.raises(AccessError):
        plan(place, user=anna)
    AclEntry.objects.create(path="/vms/101", user=anna, role="PVEVMAdmin")
    anna = django_user_model.objects.get(pk=anna.pk)
    disk()
    found = plan(place, FILE + "", user=anna)
    assert any("there is no storage 'local' here" in text for text in blocks(found))
    AclEntry.objects.create(path="/storage/local", user=anna, role="PVEDatastoreUser")
    anna = django_user_model.objects.get(pk=anna.pk)
    bridged = FILE.replace("BB:01", "BB:01,bridge=vmbr0")
    assert any(
        "SDN.Use on /sdn/zones/localnetwork/vmbr0" in text for text in blocks(plan(place, bridged, anna))
    )
    hostile = FILE.replace("cores: 2", "cores: 2\nargs: -S\nhookscript: local:snippets/x")
    found = plan(place, hostile, user=anna)
    assert {"args", "hookscript"}.isdisjoint(found.mapping)
    assert blocks(found) == []
    vm, _ = importing.carry_out(found, anna)
    assert vm.owner == anna
    assert any("VM.Allocate on /vms/105" in text for text in blocks(plan(place, user=anna, vmid=105)))


def test_the_mirror_follows(
    place: Node, django_capture_on_commit_callbacks: Callable[..., Any], tmp_path: Path
) -> None:
    disk()
    path = tmp_path / "home" / "nodes" / "pve1" / "qemu-server" / "101.conf"
    with django_capture_on_commit_callbacks(execute=True):
        vm, _ = importing.carry_out(plan(place), None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    written = conffile.parse(path.read_text())
    assert written.warnings == []
    assert (written.description, written.pending) == (" notes of the old days", {"memory": "2048"})
    assert {**written.main, "description": written.description} == config_of(vm)
    with django_capture_on_commit_callbacks(execute=True):
        save_config(vm, {**config_of(vm), "cores": "4"})
    assert "cores: 4\n" in path.read_text()
    with django_capture_on_commit_callbacks(execute=True):
        vm.delete()
    assert not path.exists()


def test_a_key_nobody_knows_stays_with_the_vm(
    place: Node, django_capture_on_commit_callbacks: Callable[..., Any], capsys: Any, client: Any,
    django_user_model: Any,
) -> None:  # fmt: skip
    disk()
    text = FILE.replace("cores: 2", "hyper-drive: warp, 9: on\ncores: 2")
    found = plan(place, text)
    assert "hyper-drive: warp, 9: on\nide2" in found.text
    note = next(note for note in found.notes if note.key == "hyper-drive")
    assert (note.severity, note.line) == ("warn", 3)
    with django_capture_on_commit_callbacks(execute=True):
        vm, _ = importing.carry_out(found, None)
    with django_capture_on_commit_callbacks(execute=True):
        save_config(VM.objects.get(), {**config_of(vm), "cores": "4"})
    assert "cores: 4\nhyper-drive: warp, 9: on\nide2" in mirror.place("pve1", 101).read_text()
    assert "hyper-drive" not in config_of(VM.objects.get())
    argv = command(VMConfig.parse(config_of(vm)), CONTEXT)
    assert not any("hyper" in word or "warp" in word for word in argv)
    from vms.cli import show

    words = {"command": "config", "vmid": 101, "json": False, "current": True, "snapshot": None}
    assert show.run(argparse.Namespace(**words)) == 0
    assert "hyper-drive: warp, 9: on\nide2" in capsys.readouterr().out
    client.force_login(django_user_model.objects.create_superuser("root", "", "x"))
    page = client.get("/vms/101/options").content.decode()
    assert "Kept, not understood" in page
    assert "warp, 9: on" in page
    assert client.post("/vms/create/from/101").status_code == 303
    assert VM.everything.get(stage="draft").foreign == {"hyper-drive": "warp, 9: on"}


def test_a_key_nobody_knows_stays_while_volumes_are_made(place: Node) -> None:
    text = FILE.replace("cores: 2", "hyper-drive: 9\ncores: 2")
    vm, task = importing.carry_out(plan(place, text, missing={"scsi0": "empty"}), None)
    assert task is not None
    assert VM.everything.get(pk=vm.pk).foreign == {"hyper-drive": "9"}


def test_the_rules_look_at_the_other_machines(place: Node) -> None:
    place.facts = {"threads": 2, "memory": 8 << 30, "qemu_binary": "/usr/bin/q", "qemu_version": "7.2.22"}
    place.save()
    other = VM.everything.create(vmid=300, node=place, stage="defined", status="running", cores=5)
    save_config(other, {"cores": "5", "net0": "virtio=BC:24:11:AA:BB:01"})
    VM.everything.filter(pk=other.pk).update(status="running")
    disk()
    found = plan(place)
    assert any("already used by net0 of VM 300" in text for text in blocks(found))
    assert any("7 virtual CPUs share 2 threads" in note.text for note in found.notes)
    assert not any("virtual CPUs" in note.text for note in plan(place, FILE.replace("cores: 2", "")).notes)


def test_a_mirror_is_imported_again(
    place: Node, django_capture_on_commit_callbacks: Callable[..., Any], tmp_path: Path
) -> None:
    disk()
    with django_capture_on_commit_callbacks(execute=True):
        vm, _ = importing.carry_out(plan(place), None)
    before, text = config_of(vm), mirror.place("pve1", 101).read_text()
    vm.delete()
    again, _ = importing.carry_out(plan(place, text, storages={}), None)
    assert config_of(again) == before
    assert again.pk != vm.pk


def test_the_worker_repairs_what_differs(place: Node) -> None:
    disk()
    importing.carry_out(plan(place), None)
    path = mirror.place("pve1", 101)
    assert mirror.repair(place) == 1
    assert mirror.repair(place) == 0
    path.write_text("nonsense")
    (path.parent / "999.conf").write_text("memory: 1\n")
    (path.parent / "notes.txt").write_text("mine")
    assert mirror.repair(place) == 2
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["101.conf", "notes.txt"]
    assert "name: shop" in path.read_text()


def test_a_file_that_cannot_be_written_is_in_nobodys_way(
    place: Node, django_capture_on_commit_callbacks: Callable[..., Any], tmp_path: Path, caplog: Any
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    disk()
    with django_capture_on_commit_callbacks(execute=True):
        importing.carry_out(plan(place), None)
    assert VM.objects.filter(vmid=101).exists()
    assert "was not written" in caplog.text


def test_the_password_is_never_read_back(place: Node) -> None:
    found = plan(place, "name: x\ncipassword: geheim\nciuser: ada\n", vmid=120)
    assert "geheim" not in found.text
    vm, _ = importing.carry_out(found, None)
    stored = config_of(vm)["cipassword"]
    assert stored.startswith("$5$")
    save_config(vm, {**config_of(vm), "cipassword": "**********", "cores": "2"})
    assert config_of(vm)["cipassword"] == stored


def test_the_command(place: Node, tmp_path: Path, capsys: Any) -> None:
    from vms.cli import qm

    disk()
    path = tmp_path / "101.conf"
    path.write_text(FILE + "bogus\n")
    words = ["importconf", str(path), "--storage-map", "tank=local"]
    assert qm_run(words[:2]) == 1
    assert "there is no storage 'tank' here" in capsys.readouterr().err
    assert qm_run([*words, "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "scsi0: local:101/vm-101-disk-0.raw" in told.out
    assert f"{path}:14: warning: [PENDING]" in told.err
    assert not VM.everything.exists()
    assert qm_run([*words, "--json"]) == 0
    assert '"created": true' in capsys.readouterr().out
    assert VM.objects.get().vmid == 101
    assert qm.main(["importconf", "/nowhere.conf"]) == 1


def qm_run(words: list[str]) -> int:
    """The subcommand on this test's rows."""
    import argparse

    from vms.cli import importconf

    parser = argparse.ArgumentParser()
    importconf.add_arguments(parser)
    return importconf.run(parser.parse_args(words[1:]))


def test_a_drive_cannot_hold_an_image_to_import(place: Node) -> None:
    storage = Storage.objects.get()
    Volume.objects.create(
        storage=storage, node=place, name="import/x.qcow2", content="import", format="qcow2"
    )
    vm = VM.everything.create(vmid=130, node=place)
    with pytest.raises(ConfigError, match="image to import"):
        save_config(vm, {"scsi0": "local:import/x.qcow2"})
    with pytest.raises(ConfigError, match="add media=cdrom"):
        save_config(vm, {"scsi0": "local:cloudinit"})
    save_config(
        vm, {"scsi0": "local:0,import-from=local:import/x.qcow2", "scsi1": "local:cloudinit,media=cdrom"}
    )
    assert config_of(vm)["scsi0"] == "local:0,import-from=local:import/x.qcow2"
    assert config_of(vm)["scsi1"] == "local:cloudinit,media=cdrom,size=4M"
    assert not Task.objects.exists()


def test_a_pending_password_is_hashed_too(place: Node) -> None:
    text = "name: x\n\n[PENDING]\ncipassword: geheim\n"
    vm, _ = importing.carry_out(plan(place, text, vmid=140), None)
    assert VM.objects.get(pk=vm.pk).pending["cipassword"].startswith("$5$")
    text = text.replace("geheim", "**********")
    vm, _ = importing.carry_out(plan(place, text, vmid=141), None)
    assert VM.objects.get(pk=vm.pk).pending == {}
