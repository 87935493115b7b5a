"""Every address × {anonymous, without rights, with rights}. A new address that is not in the table fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import serializers
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from vms.models import VM, BackupJob, Disk, Snapshot, Snippet, SnippetVersion, Task, Volume

pytestmark = pytest.mark.django_db

LOGIN = 302
DRAFT = 555
TRASHED = 556


@dataclass(frozen=True)
class Case:
    """What an address answers. ``args`` and ``data`` may be functions of the scene."""

    anonymous: int
    without: int
    allowed: int
    args: Any = ()
    method: str = "GET"
    data: Any = field(default_factory=dict)
    also_get: bool = False
    """It is asked by GET too: a POST-only address answers 405."""


def page(args: Any = (), without: int = 404, allowed: int = 200) -> Case:
    return Case(LOGIN, without, allowed, args)


def change(args: Any = (), data: Any = None, without: int = 404, allowed: int = 302, **more: Any) -> Case:
    return Case(LOGIN, without, allowed, args, "POST", data or {}, **more)


def backup_of(scene: Scene) -> int:
    return Volume.objects.get(content="backup").pk


def job_of(scene: Scene) -> int:
    return BackupJob.objects.get().pk


VMID = (101,)
SNIPPET = ("local", "u.yaml")
MATRIX: dict[str, Case] = {
    "login": Case(200, 302, 302),
    "logout": change(without=302),
    "vms:dashboard": page(without=200),
    "vms:bulk": change(data={"verb": "start", "vm": "101"}, without=302, also_get=True),
    "vms:tree": page(without=200),
    "vms:vm_summary": page(VMID),
    "vms:vm_hardware": page(VMID),
    "vms:hardware_add": change((101, "rng"), also_get=True),
    "vms:hardware_edit": change((101, "memory"), {"memory.current": "1024"}, also_get=True),
    "vms:hardware_remove": change((101, "ide2"), also_get=True),
    "vms:disk_import": change(VMID, allowed=422, also_get=True),
    "vms:disk_resize": change((101, "scsi0"), {"increment": "1"}, also_get=True),
    "vms:disk_move": change((101, "scsi0"), {"storage": "local", "format": "raw"}, also_get=True),
    "vms:disk_reassign": change((101, "scsi0"), allowed=422, also_get=True),
    "vms:hardware_revert": change((101, "all")),
    "vms:hardware_bus": change(VMID, {"go": "finish"}, also_get=True),
    "vms:hardware_fix": change(VMID, {"rule": "R28:name"}),
    "vms:vm_cloudinit": page(VMID),
    "vms:cloudinit_edit": change((101, "user"), {"ciuser": "ada"}, also_get=True),
    "vms:cloudinit_add": change(VMID, {"storage": "local"}),
    "vms:cloudinit_regenerate": change(VMID),
    "vms:cloudinit_dump": page((101, "user")),
    "vms:snippets": page(without=200),
    "vms:snippet_new": change(data={"go": "check"}, without=403, allowed=422, also_get=True),
    "vms:snippet": page(SNIPPET),
    "vms:snippet_edit": change(SNIPPET, {"go": "check"}, allowed=422, also_get=True),
    "vms:snippet_file": change(SNIPPET, {"go": "write"}),
    "vms:snippet_remove": change(SNIPPET, also_get=True),
    "vms:snippet_restore": change(SNIPPET, {"version": "1"}),
    "vms:snippet_version": page((*SNIPPET, 1)),
    "vms:vm_options": page(VMID),
    "vms:vm_backup": page(VMID),
    "vms:backup_now": change(VMID, also_get=True),
    "vms:backup_ask": change(lambda scene: (backup_of(scene), "notes"), {"notes": "x"}, also_get=True),
    "vms:backup_do": change(lambda scene: (backup_of(scene), "protect")),
    "vms:backup_config": page(lambda scene: (backup_of(scene),)),
    "vms:backup_restore": change(lambda scene: (backup_of(scene),), also_get=True),
    "vms:storage_prune": change(("local",), {"keep_last": "1"}, also_get=True),
    "vms:backup_jobs": page(),
    "vms:backup_job_new": change(allowed=422, also_get=True),
    "vms:backup_job_preview": page(),
    "vms:backup_job_edit": change(lambda scene: (job_of(scene),), allowed=422, also_get=True),
    "vms:backup_job_remove": change(lambda scene: (job_of(scene),), also_get=True),
    "vms:backup_job_do": change(lambda scene: (job_of(scene), "disable")),
    "vms:agent_ask": change((101, "exec"), {"line": "id"}, allowed=409, also_get=True),
    "vms:agent_answer": page(lambda scene: (101, scene.task.pk), allowed=404),
    "vms:vm_screen": page(VMID),
    "vms:vm_thumbnail": page(VMID, allowed=204),
    "vms:screenshot": change(VMID, allowed=409),
    "vms:screenshot_taken": page(lambda scene: (101, scene.task.pk), allowed=404),
    "vms:vm_menu": page(VMID),
    "vms:vm_snapshots": page(VMID),
    "vms:snapshot_take": change(VMID, {"snapname": "one"}, also_get=True),
    "vms:snapshot_ask": change((101, "before", "edit"), {"description": "x"}, also_get=True),
    "vms:prometheus": Case(401, 401, 200),
    "vms:vm_series": page(VMID),
    "vms:vm_usage": page(VMID),
    "vms:node_series": page(("pve1",)),
    "vms:option_edit": change((101, "name"), {"name": "other"}, also_get=True),
    "vms:option_revert": change((101, "acpi")),
    "vms:vm_notes": change(VMID, {"notes": "x"}, also_get=True),
    "vms:vm_tags": change(VMID, {"add": "x"}),
    "vms:vm_tasks": page(VMID),
    "vms:vm_ask": page((101, "destroy")),
    "vms:vm_action": change((101, "start")),
    "vms:vm_clone": change(VMID, {"mode": "full"}, also_get=True),
    "vms:cloning": page(lambda scene: (scene.task.pk,), allowed=302),
    "vms:trash": page(without=200),
    "vms:trash_ask": page((TRASHED,)),
    "vms:trash_action": change((TRASHED, "restore")),
    "vms:tasks": page(without=200),
    "vms:task_log": page(without=200),
    "vms:task": page(lambda scene: (scene.task.pk,)),
    "vms:task_cancel": change(lambda scene: (scene.task.pk,)),
    "vms:node": page(("pve1",)),
    "vms:node_bulk": change(("pve1", "start"), {"vm": "101"}, also_get=True),
    "vms:storages": page(without=200),
    "vms:storage_add": change(without=403, allowed=422, also_get=True),
    "vms:storage_edit": change(("local",), without=403, allowed=422, also_get=True),
    "vms:storage_remove": change(("local",), without=403, allowed=409, also_get=True),
    "vms:storage": page(("local",)),
    "vms:upload": change(("local",)),
    "vms:storage_rescan": change(("local",)),
    "vms:volume_delete": change(("local",), lambda scene: {"volume": scene.free_iso.pk}),
    "vms:importconf": change(data={"text": "name: x\n"}, without=403, allowed=200, also_get=True),
    "vms:create": change(without=403, also_get=True),
    "vms:wizard_duplicate": change(VMID, allowed=303),
    "vms:wizard_resume": page((DRAFT,), allowed=302),
    "vms:wizard_tab": page((DRAFT, "general")),
    "console:vm_console": page(VMID),
    "console:window": page(VMID),
    "console:terminal": page((101, 0)),
    "console:terminal_window": page((101, 0)),
    "console:spice": page(VMID),
    "console:spice_window": page(VMID),
    "console:viewer_file": change(VMID, allowed=409),
    "console:state": page(VMID),
    "console:ticket": change(VMID, allowed=409),
    "console:type": change(VMID, {"text": "x"}, allowed=409, also_get=True),
    "console:type_state": page(lambda scene: (101, scene.task.pk), allowed=403),
    "console:clipboard": page(VMID),
    "console:keys": change(data={"keys": "ctrl-a"}, without=302, also_get=True),
    "console:socket": Case(426, 426, 426, VMID),
}


def routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    """Every named address of the product, Django's admin aside (its own table is below)."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "admin":
                inside = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
                yield from routes(pattern.url_patterns, inside)
        elif isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}"


def test_no_address_is_missing_from_the_table() -> None:
    assert set(routes(get_resolver().url_patterns)) == set(MATRIX)


def path_of(name: str, scene: Scene) -> str:
    args = MATRIX[name].args
    return reverse(name, args=args(scene) if callable(args) else args)


def ask(client: Client, name: str, scene: Scene) -> int:
    case = MATRIX[name]
    data = case.data(scene) if callable(case.data) else case.data
    method = client.post if case.method == "POST" else client.get
    return method(path_of(name, scene), data).status_code


@pytest.fixture
def draft(scene: Scene) -> VM:
    seed = Volume.objects.create(
        storage=scene.storage, node=scene.node, name="101/vm-101-cloudinit.raw", content="images",
        format="raw", size=4 << 20, vmid=101,
    )  # fmt: skip
    Disk.objects.create(vm=scene.vm, slot="scsi1", volume=seed, media="cdrom", size=4 << 20)
    text = Snippet.objects.create(storage=scene.storage, name="u.yaml")
    SnippetVersion.objects.create(snippet=text, number=1, text="#cloud-config\n{}\n", sha256="x", size=1)
    Snapshot.objects.create(vm=scene.vm, name="before")
    Volume.objects.create(
        storage=scene.storage, node=scene.node, name="backup/vzdump-qemu-101-2026_11_27-02_00_00.tar.zst",
        content="backup", format="tar.zst", vmid=101, made=timezone.now(),
    )  # fmt: skip
    owner = get_user_model().objects.create_user("keeper")
    BackupJob.objects.create(
        name="nightly", schedule="02:00", storage=scene.storage, all_vms=True, owner=owner
    )
    VM.everything.create(vmid=TRASHED, node=scene.node, stage=VM.Stage.TRASH, name="thrown-away")
    return VM.everything.create(vmid=DRAFT, node=scene.node, stage=VM.Stage.DRAFT, name="half-made")


@pytest.fixture
def allowed(scene: Scene, draft: VM) -> Any:
    """Every right by role, none by being a superuser."""
    user = person("anna", root="Administrator")
    VM.everything.filter(pk=draft.pk).update(owner=user)
    return user


@pytest.mark.parametrize("name", sorted(MATRIX))
def test_a_stranger_is_sent_to_the_login(name: str, scene: Scene, draft: VM) -> None:
    client = Client()
    assert ask(client, name, scene) == MATRIX[name].anonymous
    if MATRIX[name].anonymous == LOGIN and name != "logout":
        answer = client.get(path_of(name, scene))
        assert answer.status_code in (302, 405)
        if answer.status_code == 302:
            assert answer.headers["Location"].startswith(reverse("login"))


@pytest.mark.parametrize("name", sorted(MATRIX))
def test_without_a_right_nothing_is_there(name: str, scene: Scene, draft: VM) -> None:
    assert ask(signed_in(person("bob")), name, scene) == MATRIX[name].without


@pytest.mark.parametrize("name", sorted(MATRIX))
def test_with_the_right_it_answers(name: str, scene: Scene, allowed: Any) -> None:
    assert ask(signed_in(allowed), name, scene) == MATRIX[name].allowed


@pytest.mark.parametrize("name", sorted(name for name, case in MATRIX.items() if case.method == "POST"))
def test_get_is_no_way_to_change(name: str, scene: Scene, allowed: Any) -> None:
    answer = signed_in(allowed).get(path_of(name, scene))
    assert answer.status_code == (200 if MATRIX[name].also_get else 405)


@pytest.mark.parametrize("name", sorted(name for name, case in MATRIX.items() if case.method == "POST"))
def test_csrf_is_enforced(name: str, scene: Scene, allowed: Any) -> None:
    client = signed_in(allowed, enforce_csrf_checks=True)
    before = everything()
    assert ask(client, name, scene) == 403
    assert everything() == before


def everything() -> str:
    """All rows of all tables, the sessions aside."""
    rows: dict[str, Any] = {}
    for model in apps.get_models():
        if model._meta.label_lower not in ("sessions.session", "auth.permission", "contenttypes.contenttype"):
            rows[model._meta.label] = json.loads(
                serializers.serialize("json", model._base_manager.order_by("pk"))
            )
    return json.dumps(rows, sort_keys=True)


def test_get_changes_nothing(scene: Scene, allowed: Any) -> None:
    """Every address, every part and a few odd queries."""
    client = signed_in(allowed)
    before = everything()
    for name in MATRIX:
        for query in ("", "?part=rows", "?part=head", "?part=lines&after=x", "?page=zz&sort=-nope&q=%00%22'"):
            assert client.get(path_of(name, scene) + query).status_code < 500, name
    assert everything() == before


def test_fragments_of_an_expired_session_send_the_page_to_the_login(scene: Scene) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/vms/101?x=1"}
    answer = Client().get(reverse("vms:tree"), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == f"{reverse('login')}?next=/vms/101%3Fx%3D1"


def test_a_form_of_another_session_is_answered_where_it_was_sent(scene: Scene, allowed: Any) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/vms/101"}
    stranger = Client(enforce_csrf_checks=True).post("/vms/101/do/start", headers=headers)
    assert (stranger.status_code, stranger.headers["HX-Redirect"]) == (401, "/login?next=/vms/101")
    client = signed_in(allowed, enforce_csrf_checks=True)
    answer = client.post("/vms/101/do/start", headers=headers)
    assert answer.status_code == 403
    assert answer.content.decode().startswith('<div class="toast is-error"')
    assert "Not sent: this page is from an older session." in answer.content.decode()
    assert "<h1>Not sent</h1>" in client.post("/vms/101/do/start").content.decode()


def test_missing_and_forbidden_look_the_same(scene: Scene) -> None:
    client = signed_in(person("bob"))
    for there, nowhere in (
        ("/vms/101", "/vms/102"), ("/vms/101/hardware", "/vms/102/hardware"), ("/nodes/pve1", "/nodes/pve9"),
        ("/storage/local", "/storage/other"), (f"/tasks/{scene.task.pk}", "/tasks/999999"),
    ):  # fmt: skip
        first, second = client.get(there), client.get(nowhere)
        assert first.status_code == second.status_code == 404
        assert first.content == second.content


def test_lists_show_only_what_one_may_see(scene: Scene) -> None:
    scene.add_vms(2)
    bob = signed_in(person("bob", vms__200="PVEVMUser"))
    for address in ("/", "/tree", "/tasks", "/tasks/log"):
        text = bob.get(address).content.decode()
        assert "web-01" not in text
        assert "app-201" not in text
    assert "app-200" in bob.get("/").content.decode()
    assert "app-200" in bob.get("/tree").content.decode()


def test_a_right_to_see_is_no_right_to_do(scene: Scene) -> None:
    bob = signed_in(person("bob", vms="PVEAuditor", storage="PVEAuditor"))
    answer = bob.post("/vms/101/do/start", headers={"HX-Request": "true"})
    assert answer.status_code == 403
    assert "VM.PowerMgmt" in answer.content.decode()
    answer = bob.post("/storage/local/delete", {"volume": scene.free_iso.pk}, headers={"HX-Request": "true"})
    assert answer.status_code == 403
    assert not Task.objects.exclude(pk=scene.task.pk).exists()
    text = bob.get("/vms/101").content.decode()
    assert "You may not: VM.PowerMgmt on this VM is missing." in text


def test_admin_is_for_operators(scene: Scene, boss: Client) -> None:
    resolver = next(p for p in get_resolver().url_patterns if getattr(p, "namespace", "") == "admin")
    names = {name for name in resolver.reverse_dict if isinstance(name, str)}
    bare = [
        f"admin:{name}"
        for name in names
        if resolver.reverse_dict[name] and not _needs_arguments(resolver, name)
    ]
    assert "admin:index" in bare
    bob = signed_in(person("bob", root="Administrator"))
    for name in bare:
        path = reverse(name)
        for client in (Client(), bob):
            answer = client.get(path)
            if name in ("admin:login", "admin:logout", "admin:jsi18n"):
                assert answer.status_code in (200, 302)
            else:
                assert answer.status_code in (302, 405), name
                if answer.status_code == 302:
                    assert "login" in answer.headers["Location"], name
        assert boss.get(path).status_code < 500, name


def _needs_arguments(resolver: URLResolver, name: str) -> bool:
    return all(
        parameters for possibility in resolver.reverse_dict.getlist(name) for _, parameters in possibility[0]
    )
