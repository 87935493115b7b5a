"""The door ``change()``: what it does itself, what it asks a task for, what waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from vms.errors import AccessError, ConfigError, ConfigErrors, LockedError, StateError
from vms.hardware.context import NodeFacts
from vms.models import VM, Node, Snapshot, StorageStatus, Task, Volume
from vms.models.configuration import config_of, state_digest
from vms.models.waiting import apply_pending, waiting_volumes
from vms.operations.base import submit
from vms.operations.configure import Row, change, effective, pending_rows
from vms.operations.nextstart import pending_difference

MakeVM = Callable[..., VM]
Disk = Callable[..., str]


def fresh(vm: VM) -> VM:
    return VM.everything.get(pk=vm.pk)


def lines(task: Task) -> list[str]:
    return [line.text for line in task.lines.all()]


# ---- stopped


def test_a_stopped_vm_is_changed_at_the_door(make_vm: MakeVM) -> None:
    vm = make_vm({"name": "web", "memory": "512", "onboot": "1"})
    task = change(vm, None, set={"cores": "2", "memory": "1024", "name": "db"}, delete=["onboot"])
    assert config_of(fresh(vm)) == {"name": "db", "memory": "1024", "cores": "2"}
    assert fresh(vm).pending == {}
    assert (task.type, task.status, task.label) == ("qmconfig", "ok", "Configure 100 (web)")
    assert task.upid.split(":")[5:7] == ["qmconfig", "100"]
    assert lines(task)[0] == "update: -cores 2 -memory 1024 -name db -delete onboot"
    assert lines(task)[-1] == "TASK OK"


def test_texts_are_stored_in_their_canonical_form(make_vm: MakeVM) -> None:
    vm = make_vm()
    change(
        vm,
        None,
        set={"onboot": "yes", "tags": "Web, db", "net0": "virtio,bridge=vmbr0", "cpu": "cputype=host"},
    )
    config = config_of(fresh(vm))
    assert (config["onboot"], config["tags"], config["cpu"]) == ("1", "db;web", "host")
    assert config["net0"].startswith("virtio=BC:24:11:")


def test_an_empty_text_deletes(make_vm: MakeVM) -> None:
    vm = make_vm({"name": "web", "description": "old"})
    change(vm, None, set={"description": ""})
    assert "description" not in config_of(fresh(vm))


def test_what_needs_the_node_goes_to_a_task(make_vm: MakeVM, node: Node) -> None:
    vm = make_vm()
    task = change(vm, None, set={"scsi0": "local:8", "name": "db"})
    assert task.status == "queued"
    assert json.loads(task.params["set"]) == {"scsi0": "local:8"}
    assert config_of(fresh(vm)) == {"name": "db", "memory": "512"}


def test_a_change_behind_a_start_waits_its_turn(make_vm: MakeVM) -> None:
    """The start may read the old configuration: what it runs must be what the rows say."""
    vm = make_vm()
    submit("qmstart", vm=vm, user=None)
    assert change(vm, None, set={"cores": "2"}).status == "queued"
    assert change(vm, None, set={"name": "other"}).status == "ok"


# ---- detaching, attaching


def test_a_detached_disk_becomes_unused(make_vm: MakeVM, disk: Disk) -> None:
    first, second = disk(0), disk(1)
    vm = make_vm({"scsi0": first, "scsi1": second, "boot": "order=scsi1;scsi0"})
    change(vm, None, delete=["scsi1"])
    assert config_of(fresh(vm)) == {
        "scsi0": f"{first},size=1G",
        "unused0": second,
        "boot": "order=scsi0",
    }
    change(vm, None, set={"virtio0": second})
    assert config_of(fresh(vm)) == {
        "scsi0": f"{first},size=1G",
        "virtio0": f"{second},size=1G",
        "boot": "order=scsi0",
    }


def test_another_bus_in_one_go(make_vm: MakeVM, disk: Disk) -> None:
    volume = disk()
    vm = make_vm({"scsi0": volume})
    change(vm, None, set={"virtio0": volume, "boot": "order=virtio0"}, delete=["scsi0"])
    assert config_of(fresh(vm)) == {"virtio0": f"{volume},size=1G", "boot": "order=virtio0"}


def test_deleting_a_volume_is_a_task(make_vm: MakeVM, disk: Disk) -> None:
    vm = make_vm({"scsi0": disk(0), "unused0": disk(1)})
    task = change(vm, None, delete=["unused0"])
    assert (task.status, task.params) == ("queued", {"delete": "unused0"})
    task = change(vm, None, delete=["scsi0"], force=True)
    assert task.params == {"delete": "scsi0", "force": "1"}


def test_a_volume_in_need_stays(make_vm: MakeVM, disk: Disk) -> None:
    kept, base = disk(0), disk(1)
    vm = make_vm({"unused0": kept, "unused1": base})
    Snapshot.objects.create(vm=vm, name="before", config={"scsi0": f"{kept},size=1G"})
    root = Volume.objects.get(name__endswith="disk-1.qcow2")
    disk(0, vmid=101, base=root)
    with pytest.raises(ConfigErrors) as caught:
        change(vm, None, delete=["unused0", "unused1"])
    assert "part of snapshot before of VM 100" in caught.value.by_key()["unused0"]
    assert "still in use by linked clones" in caught.value.by_key()["unused1"]


def test_protection_keeps_disks(make_vm: MakeVM, disk: Disk) -> None:
    first, second = disk(0), disk(1)
    vm = make_vm({"scsi0": first, "unused0": second, "protection": "1", "ide2": "none,media=cdrom"})
    for wish in ({"delete": ["scsi0"]}, {"delete": ["unused0"]}, {"set": {"scsi0": second}}):
        with pytest.raises(ConfigErrors, match="protection mode enabled"):
            change(vm, None, **wish)
    change(vm, None, set={"scsi0": f"{first},cache=writeback", "protection": "0"})
    change(vm, None, delete=["scsi0"])


def test_disks_of_a_template_stay(make_vm: MakeVM, disk: Disk) -> None:
    vm = make_vm({"scsi0": disk(0), "template": "1", "ide2": "none,media=cdrom"})
    with pytest.raises(ConfigErrors, match="disk of a template"):
        change(vm, None, delete=["scsi0"])
    with pytest.raises(ConfigErrors, match="disk of a template"):
        change(vm, None, set={"scsi1": "local:1"})
    change(vm, None, set={"cores": "2"}, delete=["ide2"])
    assert config_of(fresh(vm))["cores"] == "2"


def test_a_new_cd_drive_joins_the_boot_order(make_vm: MakeVM, iso: str) -> None:
    vm = make_vm({"boot": "order=net0", "net0": "virtio=BC:24:11:00:00:01"})
    change(vm, None, set={"ide2": f"{iso},media=cdrom"})
    assert config_of(fresh(vm))["boot"] == "order=net0;ide2"
    change(vm, None, set={"net1": "virtio=BC:24:11:00:00:02"})
    change(vm, None, delete=["ide2"])
    assert config_of(fresh(vm))["boot"] == "order=net0"
    bare = make_vm(vmid=101)
    change(bare, None, set={"ide2": f"{iso},media=cdrom"})
    assert "boot" not in config_of(fresh(bare))


def test_windows_pins_its_board(make_vm: MakeVM, node: Node) -> None:
    Node.objects.filter(pk=node.pk).update(facts={"qemu_version": "7.2.22", "machines": ["pc-q35-7.2"]})
    vm = make_vm({"machine": "q35", "ostype": "l26"})
    change(vm, None, set={"ostype": "win10"})
    assert config_of(fresh(vm))["machine"] == "pc-q35-7.2"


# ---- running


def test_a_running_vm_keeps_what_it_has(make_vm: MakeVM) -> None:
    vm = make_vm({"name": "web", "memory": "512", "acpi": "0"}, status="running")
    task = change(vm, None, set={"cores": "2", "name": "db"}, delete=["acpi"])
    assert task.status == "ok"
    assert "cores: pending, it takes effect at the next start" in lines(task)
    assert config_of(fresh(vm)) == {"name": "db", "memory": "512", "acpi": "0"}
    assert fresh(vm).pending == {"cores": "2", "acpi": None}
    assert effective(fresh(vm)) == {"name": "db", "memory": "512", "cores": "2"}
    rows = {row.key: row for row in pending_rows(fresh(vm))}
    assert rows["acpi"] == Row("acpi", "0", None, 1)
    assert rows["cores"] == Row("cores", None, "2", 0)
    assert [key for key, row in rows.items() if row.waits] == ["acpi", "cores"]


def test_what_waits_as_a_difference_of_commands(make_vm: MakeVM) -> None:
    """Each word with the key that caused it; a name has none, a reverted change neither."""
    vm = make_vm({"name": "web", "memory": "512", "ostype": "l26"}, status="running")
    vm.launch = {"config": config_of(vm)}
    vm.save(update_fields=["launch"])
    change(vm, None, set={"memory": "1024", "serial0": "socket", "onboot": "1"})
    gone, come = pending_difference(fresh(vm), NodeFacts())
    assert [(one.key, one.text) for one in gone] == [("memory", "-m 512")]
    assert ("memory", "-m 1024") in [(one.key, one.text) for one in come]
    assert {one.key for one in come} == {"memory", "serial0"}
    change(vm, None, revert=["memory", "serial0"])
    assert pending_difference(fresh(vm), NodeFacts()) == ([], [])


def test_a_pending_value_equal_to_the_current_one_is_dropped(make_vm: MakeVM) -> None:
    vm = make_vm({"memory": "512", "cores": "1"}, status="running")
    change(vm, None, set={"cores": "4"}, delete=["acpi"])
    assert fresh(vm).pending == {"cores": "4"}
    change(vm, None, set={"cores": "1"})
    assert fresh(vm).pending == {}


def test_revert_drops_one(make_vm: MakeVM) -> None:
    vm = make_vm(status="running")
    change(vm, None, set={"cores": "2", "sockets": "2"})
    change(vm, None, revert=["cores"])
    assert fresh(vm).pending == {"sockets": "2"}


def test_a_reverted_new_disk_is_not_lost(make_vm: MakeVM, disk: Disk) -> None:
    volume = disk(0)
    vm = make_vm({"unused0": volume}, status="running")
    change(vm, None, set={"sata0": volume})
    assert config_of(fresh(vm)) == {}
    assert [row.volid for row in waiting_volumes(fresh(vm))] == [volume]
    change(vm, None, revert=["sata0"])
    assert config_of(fresh(vm)) == {"unused0": volume}


def test_pending_removal_of_a_disk(make_vm: MakeVM, disk: Disk) -> None:
    volume = disk(0)
    vm = make_vm({"sata0": volume, "boot": "order=sata0"}, status="running")
    change(vm, None, delete=["sata0"], force=True)
    assert fresh(vm).pending == {"!sata0": None}
    assert pending_rows(fresh(vm))[1].delete == 2
    change(vm, None, delete=["sata0"])
    assert fresh(vm).pending == {"sata0": None}
    assert effective(fresh(vm)) == {"unused0": volume, "boot": "order="}
    apply_pending(fresh(vm))
    assert config_of(fresh(vm)) == {"unused0": volume, "boot": "order="}


@pytest.mark.parametrize(
    "wish",
    [
        {"set": {"scsi1": "local:8"}},
        {"set": {"net0": "virtio"}},
        {"set": {"cpulimit": "1"}},
        {"set": {"ide2": "local:iso/a.iso,media=cdrom"}},
        {"delete": ["scsi0"]},
    ],
)
def test_what_can_be_plugged_is_a_task(make_vm: MakeVM, disk: Disk, iso: str, wish: Any) -> None:
    vm = make_vm({"scsi0": disk(0), "ide2": "none,media=cdrom"}, status="running")
    task = change(vm, None, **wish)
    assert task.status == "queued"
    assert fresh(vm).pending == {}


# ---- refusals


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("nonsense", "1", "no option"),
        ("memory", "many", "not a whole number"),
        ("net0", "virtio,tag=5000", "above the largest"),
        ("balloon", "1024", "more than the memory"),
        ("boot", "order=scsi9", "not in the machine"),
        ("scsi0", "nowhere:8", "does not exist"),
        ("scsi0", "/etc/passwd", "path of the host"),
        ("scsi0", "local:100/vm-100-disk-7.qcow2", "no volume"),
        ("scsi0", "local:-5", "cannot be made"),
        ("unused0", "local:100/vm-100-disk-0.qcow2", "when a disk is detached"),
        ("template", "1", "written by operations"),
        ("lock", "backup", "written by operations"),
    ],
)
def test_errors_come_by_key_and_change_nothing(make_vm: MakeVM, key: str, text: str, words: str) -> None:
    vm = make_vm()
    before = config_of(vm)
    with pytest.raises(ConfigErrors) as caught:
        change(vm, None, set={key: text, "name": "db"})
    assert words in caught.value.by_key()[key]
    assert config_of(fresh(vm)) == before
    assert not Task.objects.exists()


def test_conflicts_of_a_wish(make_vm: MakeVM) -> None:
    with pytest.raises(ConfigErrors, match="set and deleted"):
        change(make_vm(), None, set={"cores": "2"}, delete=["cores"])


def test_a_disk_that_does_not_fit(make_vm: MakeVM, storage: Any, node: Node) -> None:
    StorageStatus.objects.create(storage=storage, node=node, total=10 << 30, available=4 << 30)
    with pytest.raises(ConfigErrors, match="make them smaller"):
        change(make_vm(), None, set={"scsi0": "local:8"})


def test_rules_refuse_what_this_change_breaks(make_vm: MakeVM, node: Node) -> None:
    """What was wrong before hinders nobody."""
    Node.objects.filter(pk=node.pk).update(facts={"threads": 2, "memory": 8 << 30})
    vm = make_vm({"memory": "512", "cores": "8"})
    change(vm, None, set={"name": "db"})
    with pytest.raises(ConfigErrors) as caught:
        change(vm, None, set={"memory": "999999"})
    assert "memory" in caught.value.by_key()


def test_a_digest_protects_from_overwriting(make_vm: MakeVM) -> None:
    vm = make_vm(status="running")
    seen = state_digest(vm)
    change(vm, None, set={"cores": "2"}, digest=seen)
    with pytest.raises(StateError, match="checksum mismatch"):
        change(vm, None, set={"cores": "4"}, digest=seen)
    change(vm, None, set={"cores": "4"}, digest=state_digest(fresh(vm)))


def test_locks_and_drafts(make_vm: MakeVM) -> None:
    with pytest.raises(LockedError):
        change(make_vm(lock="backup"), None, set={"name": "db"})
    with pytest.raises(StateError, match="finish its wizard"):
        change(make_vm(vmid=101, stage="draft"), None, set={"name": "db"})


# ---- secrets


def test_a_password_reaches_no_task(make_vm: MakeVM) -> None:
    vm = make_vm({"ostype": "l26"})
    task = change(vm, None, set={"cipassword": "geheim", "scsi0": "local:1"})
    assert task.status == "queued"
    assert "cipassword" not in str(task.params)
    assert fresh(vm).options["cipassword"].startswith("$5$")
    done = change(vm, None, set={"cipassword": "**********", "ciuser": "anna"})
    assert "geheim" not in str(done.params) + "".join(lines(done))
    assert fresh(vm).options["cipassword"].startswith("$5$")
    assert {row.key: row.current for row in pending_rows(fresh(vm))}["cipassword"] == "**********"


def test_a_windows_password_reaches_no_task(make_vm: MakeVM) -> None:
    vm = make_vm({"ostype": "win10"})
    task = change(vm, None, set={"cipassword": "geheim"})
    assert fresh(vm).options["cipassword"] == "geheim"
    assert "geheim" not in str(task.params) + "".join(lines(task))
    with pytest.raises(ConfigError, match="no task carries a secret"):
        submit("qmconfig", vm=vm, user=None, params={"set": '{"cipassword": "geheim"}'})


# ---- rights


@pytest.mark.parametrize(
    ("role", "wish", "allowed"),
    [
        ("PVEVMUser", {"set": {"ide2": "none,media=cdrom"}}, True),
        ("PVEVMUser", {"set": {"ciuser": "anna"}}, True),
        ("PVEVMUser", {"set": {"name": "db"}}, False),
        ("PVEVMUser", {"set": {"cores": "2"}}, False),
        ("PVEVMUser", {"delete": ["scsi0"]}, False),
        ("PVEVMUser", {"set": {"freeze": "1"}}, True),
        ("PVEVMAdmin", {"set": {"cores": "2", "memory": "1024", "name": "db", "vga": "none"}}, True),
        ("PVEVMAdmin", {"delete": ["scsi0"]}, True),
        ("PVEVMAdmin", {"set": {"scsi1": "local:1"}}, False),
        ("PVEVMAdmin", {"set": {"net0": "virtio,bridge=vmbr0"}}, False),
        ("PVEVMAdmin", {"set": {"net0": "virtio"}}, True),
        ("PVEVMAdmin", {"set": {"startup": "order=1"}}, False),
        ("PVEVMAdmin", {"set": {"args": "-S"}}, False),
        ("PVEVMAdmin", {"set": {"hookscript": "local:snippets/x"}}, False),
        ("PVEVMAdmin", {"set": {"usb0": "host=1-1"}}, False),
        ("PVEVMAdmin", {"set": {"usb0": "spice"}}, True),
        ("PVEVMAdmin", {"set": {"serial0": "socket"}}, True),
        ("PVEVMAdmin", {"set": {"serial0": "/dev/ttyS0"}}, False),
        ("PVEVMAdmin", {"set": {"hostpci0": "mapping=gpu"}}, False),
        ("PVEVMAdmin", {"set": {"ide2": "local:iso/a.iso,media=cdrom"}}, False),
        ("PVEVMAdmin", {"set": {"ide2": "cdrom,media=cdrom"}}, False),
        ("PVEAuditor", {"set": {"description": "x"}}, False),
    ],
)
def test_each_option_has_its_privilege(
    make_vm: MakeVM, disk: Disk, iso: str, anna: Any, grant: Any, role: str, wish: Any, allowed: bool
) -> None:
    vm = make_vm({"scsi0": disk(0), "boot": "order=scsi0"})
    user = grant(anna, "/vms/100", role)
    if allowed:
        assert change(vm, user, **wish).username == "anna"
        return
    with pytest.raises(AccessError):
        change(vm, user, **wish)
    assert not Task.objects.exists()


def test_rights_on_storage_and_bridge(make_vm: MakeVM, anna: Any, grant: Any, iso: str) -> None:
    vm = make_vm()
    grant(anna, "/vms/100", "PVEVMAdmin")
    grant(anna, "/storage/local", "PVEDatastoreUser")
    user = grant(anna, "/sdn/zones/localnetwork/vmbr0", "PVESDNUser")
    wish = {"scsi1": "local:1", "ide2": f"{iso},media=cdrom", "net0": "virtio,bridge=vmbr0"}
    assert change(vm, user, set=wish).status == "queued"
    with pytest.raises(AccessError, match="vmbr1"):
        change(vm, user, set={"net0": "virtio,bridge=vmbr1"})


def test_an_operator_may_all(make_vm: MakeVM, operator: Any) -> None:
    vm = make_vm()
    change(vm, operator, set={"args": "-S", "affinity": "0"})
    assert config_of(fresh(vm))["args"] == "-S"
