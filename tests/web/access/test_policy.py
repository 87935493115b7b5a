"""The one policy function: PVE's paths, roles and their inheritance."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group

from vms import access
from vms.errors import AccessError
from vms.models import VM, AclEntry, Node, Pool

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    return get_user_model().objects.create_user("anna", password="x")


@pytest.fixture
def node():
    return Node.objects.create(name="pve1")


def give(user, path, role, *, group=None, propagate=True):
    AclEntry.objects.create(
        user=None if group else user, group=group, path=path, role=role, propagate=propagate
    )
    user.__dict__.pop("_pvelite_acl", None)


def make_vm(node, vmid, **values):
    return VM.everything.create(vmid=vmid, node=node, stage=VM.Stage.DEFINED, **values)


def test_nobody_may_nothing(anna):
    assert not access.may(None, "VM.Audit", "/")
    assert not access.may(AnonymousUser(), "VM.Audit", "/")
    assert not access.may(anna, "VM.Audit", "/vms/101")


def test_an_operator_may_all_but_not_when_inactive(anna):
    anna.is_superuser = True
    assert access.privileges(anna, "/vms/101") == frozenset(access.PRIVILEGES)
    anna.is_active = False
    assert access.privileges(anna, "/vms/101") == frozenset()


def test_a_role_holds_below_its_path(anna):
    give(anna, "/vms", "PVEVMUser")
    assert access.may(anna, "VM.PowerMgmt", "/vms/101")
    assert not access.may(anna, "VM.Allocate", "/vms/101")
    assert not access.may(anna, "VM.PowerMgmt", "/storage/local")


def test_without_propagation_only_the_path_itself(anna):
    give(anna, "/vms", "PVEVMUser", propagate=False)
    assert access.may(anna, "VM.PowerMgmt", "/vms")
    assert not access.may(anna, "VM.PowerMgmt", "/vms/101")


def test_the_nearer_entry_replaces_the_farther(anna):
    give(anna, "/vms", "PVEVMAdmin")
    give(anna, "/vms/101", "NoAccess")
    assert access.may(anna, "VM.Console", "/vms/102")
    assert not access.may(anna, "VM.Console", "/vms/101")


def test_the_user_replaces_the_group_on_one_path(anna):
    group = Group.objects.create(name="team")
    anna.groups.add(group)
    give(anna, "/vms/101", "PVEVMAdmin", group=group)
    assert access.may(anna, "VM.Allocate", "/vms/101")
    give(anna, "/vms/101", "PVEAuditor")
    assert not access.may(anna, "VM.Allocate", "/vms/101")
    assert access.may(anna, "VM.Audit", "/vms/101")


def test_a_path_is_no_prefix_of_text(anna):
    give(anna, "/vms/10", "PVEVMAdmin")
    assert not access.may(anna, "VM.Audit", "/vms/101")


def test_a_pool_grants_its_vms(anna, node):
    pool = Pool.objects.create(name="dev")
    vm = make_vm(node, 101, pool=pool)
    give(anna, "/pool/dev", "PVEVMUser")
    assert access.may_vm(anna, "VM.Console", vm)
    assert not access.may_vm(anna, "VM.Console", make_vm(node, 102))


def test_a_draft_is_its_owners_but_creating_needs_allocate(anna, node):
    draft = VM.everything.create(vmid=103, node=node, stage=VM.Stage.DRAFT, owner=anna)
    assert access.may_vm(anna, "VM.Config.Disk", draft)
    assert not access.may_vm(anna, "VM.Allocate", draft)


def test_the_list_shows_what_may_be_seen(anna, node, django_assert_max_num_queries):
    pool = Pool.objects.create(name="dev")
    for vmid in (101, 102, 103):
        make_vm(node, vmid)
    make_vm(node, 104, pool=pool)
    assert list(access.visible_vms(anna)) == []
    give(anna, "/vms/102", "PVEVMUser")
    give(anna, "/pool/dev", "PVEVMUser")
    with django_assert_max_num_queries(2):
        assert [vm.vmid for vm in access.visible_vms(anna)] == [102, 104]
    give(anna, "/", "PVEAuditor")
    give(anna, "/vms/103", "NoAccess")
    assert [vm.vmid for vm in access.visible_vms(anna)] == [101, 102, 104]


def test_require_names_what_is_missing(anna):
    with pytest.raises(AccessError, match=r"/vms/101, VM\.PowerMgmt"):
        access.require(anna, "VM.PowerMgmt", "/vms/101")


def test_an_unknown_privilege_is_a_mistake_of_ours(anna):
    with pytest.raises(ValueError, match=r"VM\.Fly"):
        access.may(anna, "VM.Fly", "/")


def test_every_role_holds_known_privileges():
    for role, held in access.ROLES.items():
        assert held <= set(access.PRIVILEGES), role
