"""The admin writes a VM through the same door as everything else, and submits the same operations."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from vms.models import VM, Nic, Node, Storage, StorageStatus, Task, Volume
from vms.models.configuration import config_of, save_config
from vms.models.usage import facts_in_use

pytestmark = pytest.mark.django_db

MAC = "BC:24:11:00:00:01"


@pytest.fixture
def node():
    return Node.objects.create(name="pve1")


@pytest.fixture
def local():
    return Storage.objects.create(name="local", path="/srv/pvelite-test")


@pytest.fixture
def vm(node, local):
    Volume.objects.create(
        storage=local,
        node=node,
        name="101/vm-101-disk-0.qcow2",
        content="images",
        format="qcow2",
        size=4 << 30,
        vmid=101,
    )
    vm = VM.everything.create(vmid=101, node=node, stage=VM.Stage.DEFINED)
    mapping = {
        "name": "web-01", "ostype": "l26", "cores": "2", "memory": "1024", "scsihw": "virtio-scsi-single",
        "scsi0": "local:101/vm-101-disk-0.qcow2,discard=on,size=4G", "net0": f"virtio={MAC}",
        "boot": "order=scsi0;net0",
    }  # fmt: skip
    save_config(vm, mapping)
    return vm


@pytest.fixture
def admin(client):
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    return client


def page_data(client, vm):
    """What a browser would post back unchanged."""
    response = client.get(reverse("admin:vms_vm_change", args=[vm.pk]))
    assert response.status_code == 200
    data = {}
    form = response.context["adminform"].form
    for name in form.fields:
        value = form[name].value()
        data[name] = "" if value is None else value
    for inline in response.context["inline_admin_formsets"]:
        formset = inline.formset
        for bound in (formset.management_form, *formset.forms):
            for name in bound.fields:
                value = bound[name].value()
                data[bound.add_prefix(name)] = "" if value is None else value
    return {name: value for name, value in data.items() if value is not False}


def post(client, vm, data):
    return client.post(reverse("admin:vms_vm_change", args=[vm.pk]), data)


def test_saving_an_unchanged_page_changes_nothing(admin, vm):
    before = config_of(vm)
    assert post(admin, vm, page_data(admin, vm)).status_code == 302
    assert config_of(VM.everything.get(pk=vm.pk)) == before


def test_a_change_of_key_drive_and_card_is_saved_together(admin, vm):
    data = page_data(admin, vm)
    data["configuration"] = data["configuration"].replace("memory: 1024", "memory: 2048")
    data["disks-0-value"] = data["disks-0-value"].replace("discard=on", "cache=writeback,discard=on")
    data["nics-0-value"] = "e1000=BC:24:11:00:00:02"
    assert post(admin, vm, data).status_code == 302
    config = config_of(VM.everything.get(pk=vm.pk))
    assert config["memory"] == "2048"
    assert config["scsi0"] == "local:101/vm-101-disk-0.qcow2,cache=writeback,discard=on,size=4G"
    assert config["net0"] == "e1000=BC:24:11:00:00:02"


def test_a_new_row_is_a_new_drive_and_a_removed_one_goes(admin, vm):
    data = page_data(admin, vm)
    data["disks-1-slot"], data["disks-1-value"] = "ide2", "none,media=cdrom"
    data["nics-0-DELETE"] = "on"
    data["configuration"] = data["configuration"].replace("boot: order=scsi0;net0", "boot: order=scsi0")
    assert post(admin, vm, data).status_code == 302
    config = config_of(VM.everything.get(pk=vm.pk))
    assert config["ide2"] == "none,media=cdrom"
    assert "net0" not in config


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("nics-0-value", f"virtio={MAC},tag=5000", "tag"),
        ("disks-0-value", "nowhere:101/vm-101-disk-0.qcow2", "storage"),
        ("disks-0-value", "local:101/vm-101-disk-7.qcow2", "no volume"),
        ("disks-0-slot", "scsi99", "slot"),
        ("configuration", "cores: 0", "cores"),
        ("configuration", "flying: 1", "flying"),
        ("configuration", "just words", "Line 1"),
        ("configuration", "net0: virtio", "own row"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_saved(admin, vm, field, value, words):
    before = config_of(vm)
    data = page_data(admin, vm)
    data[field] = value
    response = post(admin, vm, data)
    assert response.status_code == 200, "the page comes back"
    text = response.content.decode()
    assert words in text
    assert value in text, "what was typed is kept"
    assert config_of(VM.everything.get(pk=vm.pk)) == before


def test_a_running_vm_is_changed_as_at_every_door(admin, vm):
    """Its name at once, its cores at the next start, a new disk by a task; the page says so."""
    VM.everything.filter(pk=vm.pk).update(status="running")
    data = page_data(admin, vm)
    data["configuration"] = data["configuration"].replace("name: web-01", "name: db-01") + "\nnuma: 1"
    assert post(admin, vm, data).status_code == 302
    fresh = VM.everything.get(pk=vm.pk)
    assert (fresh.name, fresh.pending) == ("db-01", {"numa": "1"})
    page = admin.get(reverse("admin:vms_vm_change", args=[vm.pk])).content.decode()
    assert "Pending: numa, it takes effect at the next start" in page
    data = page_data(admin, vm)
    data["disks-2-slot"], data["disks-2-value"] = "scsi5", "local:4"
    data["disks-TOTAL_FORMS"] = "3"
    assert post(admin, vm, data).status_code == 302
    task = Task.objects.get(type="qmconfig", status="queued")
    assert (task.params, task.username) == ({"set": '{"scsi5": "local:4"}'}, "root")


def test_a_locked_vm_is_not_changed(admin, vm):
    data = page_data(admin, vm)
    VM.everything.filter(pk=vm.pk).update(lock="backup")
    data["configuration"] += "\nnuma: 1"
    response = post(admin, vm, data)
    assert "is locked (backup)" in response.content.decode()


def test_a_mac_of_another_vm_is_refused(admin, vm, node):
    other = VM.everything.create(vmid=102, node=node, stage=VM.Stage.DEFINED)
    Nic.objects.create(vm=other, slot="net0", mac="BC:24:11:00:00:99")
    data = page_data(admin, vm)
    data["nics-0-value"] = "virtio=BC:24:11:00:00:99"
    response = post(admin, vm, data)
    assert response.status_code == 200
    assert "already used by net0 of VM 102" in response.content.decode()


FACTS = {"threads": 4, "memory": 8 << 30, "kvm": True, "bridges": [{"name": "vmbr0", "mtu": 1500}]}


def measured(node, **more):
    node.facts = {**FACTS, "storages": {"local": {"type": "dir", "path": "/srv/pvelite-test"}}, **more}
    node.save()


def test_a_rule_that_blocks_is_an_error_where_it_belongs(admin, vm, node):
    measured(node)
    data = page_data(admin, vm)
    data["configuration"] = data["configuration"].replace("cores: 2", "cores: 5")
    card = next(name for name, value in data.items() if str(value).startswith("virtio="))
    data[card] = f"virtio={MAC},bridge=vmbr7"
    page = admin.post(reverse("admin:vms_vm_change", args=[vm.pk]), data)
    assert page.status_code == 200
    text = page.content.decode()
    assert "5 CPUs are more than this node&#x27;s 4 threads" in text
    assert "there is no bridge &#x27;vmbr7&#x27; on this node" in text
    vm.refresh_from_db()
    assert config_of(vm)["cores"] == "2"


def test_a_rule_that_warns_is_told_and_the_change_is_saved(admin, vm, node):
    measured(node)
    other = VM.everything.create(
        vmid=102, node=node, stage=VM.Stage.DEFINED, cores=6, status=VM.Status.RUNNING
    )
    VM.everything.filter(pk=other.pk).update(options={"sockets": "2"})
    data = page_data(admin, vm)
    data["configuration"] = data["configuration"].replace("cores: 2", "cores: 3")
    page = admin.post(reverse("admin:vms_vm_change", args=[vm.pk]), data, follow=True)
    told = [str(message) for message in page.context["messages"]]
    assert any("15 virtual CPUs share 4 threads" in text for text in told)
    vm.refresh_from_db()
    assert config_of(vm)["cores"] == "3"


def test_what_others_use_is_known_and_its_own_is_free(vm, node, local):
    measured(node)
    StorageStatus.objects.create(storage=local, node=node, total=10 << 30, available=1 << 30)
    assert facts_in_use(node).used_macs == {MAC: "VM 101"}
    facts = facts_in_use(node, besides=vm)
    assert (facts.used_macs, facts.used_ids, facts.vcpus_used) == ({}, (), 0)
    assert facts.storages["local"]["free"] == 1 << 30


def test_raw_arguments_are_a_superusers(client, vm):
    staff = get_user_model().objects.create_user("staff", password="x", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="vms"))
    client.force_login(staff)
    data = page_data(client, vm)
    data["configuration"] += "\nargs: -drive file=/etc/shadow"
    response = post(client, vm, data)
    assert response.status_code == 200
    assert "Only a superuser may change args" in response.content.decode()


def test_an_action_submits_the_same_operation(admin, vm):
    data = {"action": "qmstart", "_selected_action": [vm.pk]}
    assert admin.post(reverse("admin:vms_vm_changelist"), data).status_code == 302
    task = Task.objects.get()
    assert (task.type, task.vmid, task.username, task.status) == ("qmstart", 101, "root", "queued")


def test_an_action_is_refused_without_the_privilege(client, vm):
    staff = get_user_model().objects.create_user("staff", password="x", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="vms"))
    client.force_login(staff)
    data = {"action": "qmstart", "_selected_action": [vm.pk]}
    response = client.post(reverse("admin:vms_vm_changelist"), data, follow=True)
    assert "VM.PowerMgmt" in response.content.decode()
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "name", ["node", "storage", "volume", "pool", "vm", "task", "aclentry", "auditentry", "backupjob"]
)
def test_every_list_opens_for_operators_only(admin, client, vm, name):
    url = reverse(f"admin:vms_{name}_changelist")
    assert admin.get(url).status_code == 200
    admin.logout()
    assert admin.get(url).status_code == 302


def test_vms_are_neither_added_nor_deleted_here(admin, vm):
    assert admin.get(reverse("admin:vms_vm_add")).status_code == 302
    assert admin.post(reverse("admin:vms_vm_delete", args=[vm.pk]), {"post": "yes"}).status_code == 403
    assert VM.everything.filter(pk=vm.pk).exists()


def test_every_power_verb_is_an_action(admin, vm):
    text = admin.get(reverse("admin:vms_vm_changelist")).content.decode()
    for label in ("Start", "Shutdown", "Reboot", "Stop", "Reset", "Pause", "Resume", "Hibernate"):
        assert f">{label}</option>" in text, label
