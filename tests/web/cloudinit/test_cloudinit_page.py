"""The Cloud-Init tab: what it shows, its dialogs, who may, and what never shows."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from pages_house import Scene, person, signed_in

from vms.models import VM, Disk, Task
from vms.models.configuration import config_of, with_parts
from vms.operations import cloudinit, snippets

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7Wd+t13YZUWLyBjZaUYqEOczLyzCbXH6uJV3lxNh20 anna@desk"
PAGE = "/vms/101/cloudinit"


def config() -> dict[str, str]:
    return config_of(with_parts(VM.objects.filter(vmid=101)).get())


def text(client: Client, path: str = PAGE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def send(client: Client, row: str, **fields: str) -> Any:
    return client.post(f"{PAGE}/edit/{row}", fields)


def row(page: str, name: str) -> str:
    found = re.search(rf'<tr id="row-{name}">.*?</tr>', page, re.DOTALL)
    assert found is not None, name
    return found[0]


def test_every_row_in_proxmox_order(cloudy: Scene, boss: Client) -> None:
    page = text(boss)
    rows = re.findall(r'<tr id="row-([a-z0-9]+)">', page)
    assert rows == ["user", "password", "domain", "servers", "keys", "upgrade", "ipconfig0", "type", "custom"]
    assert "ada" in row(page, "user")
    assert "**********" in row(page, "password")
    assert "$5$" not in page
    assert "DHCP" in row(page, "ipconfig0")
    assert "Default (nocloud)" in row(page, "type")
    for name in rows:
        assert f'href="{PAGE}/edit/{name}"' in row(page, name)


@pytest.mark.parametrize(
    ("name", "fields", "wanted"),
    [
        ("user", {"ciuser": "grace"}, {"ciuser": "grace"}), ("user", {"ciuser": ""}, {"ciuser": None}),
        ("domain", {"searchdomain": "example.org"}, {"searchdomain": "example.org"}),
        ("servers", {"nameserver": "192.0.2.1 2001:db8::1"}, {"nameserver": "192.0.2.1 2001:db8::1"}),
        ("keys", {"sshkeys": f"{KEY}\r\n\r\n"}, {"sshkeys": quote(KEY, safe="")}),
        ("upgrade", {}, {"ciupgrade": "0"}), ("upgrade", {"ciupgrade": "on"}, {"ciupgrade": None}),
        ("type", {"citype": "configdrive2"}, {"citype": "configdrive2"}),
        ("ipconfig0", {"mode4": "static", "ip": "192.0.2.9/24", "gw": "192.0.2.1", "mode6": "auto"},
         {"ipconfig0": "gw=192.0.2.1,ip=192.0.2.9/24,ip6=auto"}),
        ("ipconfig0", {"mode4": "none", "ip": "192.0.2.9/24", "mode6": "none"}, {"ipconfig0": None}),
        ("ipconfig0", {"mode4": "dhcp", "mode6": "static", "ip6": "2001:db8::9/64", "gw6": "2001:db8::1"},
         {"ipconfig0": "gw6=2001:db8::1,ip=dhcp,ip6=2001:db8::9/64"}),
        ("password", {"remove": "on"}, {"cipassword": None}),
        ("password", {"cipassword": ""}, {"cipassword": "$5$salt$hash"}),
    ],
)  # fmt: skip
def test_a_dialog_changes_its_keys_and_no_others(
    cloudy: Scene, boss: Client, name: str, fields: dict[str, str], wanted: dict[str, str | None]
) -> None:
    before = config()
    answer = send(boss, name, **fields)
    assert answer.status_code == 302
    after = config()
    for key, value in wanted.items():
        assert after.get(key) == value
    untouched = before.keys() - wanted.keys()
    assert {key: after.get(key) for key in untouched} == {key: before[key] for key in untouched}


def test_a_password_is_hashed_and_shown_nowhere(cloudy: Scene, boss: Client) -> None:
    assert send(boss, "password", cipassword=" geheim ").status_code == 302
    stored = config()["cipassword"]
    assert stored.startswith("$5$")
    for path in (PAGE, f"{PAGE}/edit/password", f"{PAGE}/show/user", "/vms/101/options", "/tasks"):
        page = text(boss, path)
        assert "geheim" not in page
        assert stored not in page
    rows = "".join(
        f"{task.params}{task.label}{[line.text for line in task.lines.all()]}" for task in Task.objects.all()
    )
    assert "geheim" not in rows
    assert "$5$" not in rows


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("user", {"ciuser": "a b"}, "user name without blanks"),
        ("servers", {"nameserver": "dns.example.org"}, "addresses separated by blanks"),
        ("keys", {"sshkeys": f"{KEY}\nhello"}, "Line 2 is no SSH public key"),
        ("keys", {"sshkeys": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "private key"),
        ("ipconfig0", {"mode4": "static", "ip": "", "mode6": "none"}, "static address is missing"),
        ("ipconfig0", {"mode4": "static", "ip": "nonsense", "mode6": "none"}, "not an IPv4 address/prefix"),
        ("ipconfig0", {"mode4": "static", "ip": "192.0.2.9/24", "gw": "x,y=z", "mode6": "none"}, "comma"),
        ("type", {"citype": "floppy"}, "is not one of"),
        ("custom", {"user": "local:snippets/none.yaml"}, "there is no snippet"),
        ("custom", {"user": "local:snippets/../../etc/passwd"}, "climbs out"),
        ("custom", {"user": "<script>"}, "is not a snippet"),
        ("password", {"cipassword": "a\x01b"}, "control character"),
    ],
)  # fmt: skip
def test_wrong_values_stand_on_their_field(
    cloudy: Scene, boss: Client, name: str, fields: dict[str, str], words: str
) -> None:
    before = config()
    for headers in ({}, HTMX):
        answer = boss.post(f"{PAGE}/edit/{name}", fields, headers=headers)
        page = answer.content.decode()
        assert answer.status_code == 422
        assert words.lower() in page.lower().replace("&#x27;", "'")
        assert "<script>" not in page.replace('<script src="', "").replace("<script defer", "")
        assert ("<html" in page) == (not headers)
    assert config() == before


def test_a_dialog_in_place_and_a_page_without(cloudy: Scene, boss: Client) -> None:
    assert "<dialog" in boss.get(f"{PAGE}/edit/user", headers=HTMX).content.decode()
    assert "<html" in text(boss, f"{PAGE}/edit/user")
    for name in ("ipconfig1", "ipconfig99", "nope"):
        assert boss.get(f"{PAGE}/edit/{name}").status_code == 404
    answer = boss.post(f"{PAGE}/edit/user", {"ciuser": "x"}, headers=HTMX)
    assert 'data-toast="busy"' in answer.content.decode()


def test_somebody_else_s_change_is_not_undone(cloudy: Scene, boss: Client) -> None:
    send(boss, "upgrade")
    page = text(boss, f"{PAGE}/edit/user")
    digest = re.search(r'name="digest" value="([0-9a-f]+)"', page)
    assert digest is not None
    send(boss, "domain", searchdomain="example.org")
    answer = boss.post(f"{PAGE}/edit/user", {"ciuser": "x", "digest": digest[1]})
    assert answer.status_code == 409
    assert "changed by somebody else" in answer.content.decode()
    assert config()["ciuser"] == "ada"


def test_the_image_s_age_is_shown_key_by_key(cloudy: Scene, boss: Client) -> None:
    vm, mapping = cloudinit.read(cloudy.vm)
    cloudinit.remember(vm, cloudinit.made_from(mapping, {}))
    assert "older than these settings" not in text(boss)
    send(boss, "user", ciuser="grace")
    send(boss, "password", cipassword="x")
    send(boss, "keys", sshkeys=KEY)
    page = text(boss)
    assert "It is written again at the next start" in page
    assert "the image has ada" in row(page, "user")
    assert "the image has another password" in row(page, "password")
    assert "the image has none" in row(page, "keys")
    assert "SHA256:mApROZ0a52a8APgXp/qrB+kNMPtsYe5PWgQUlnEIkQE" in row(page, "keys")
    assert "pending" not in row(page, "ipconfig0")
    VM.objects.filter(pk=vm.pk).update(status="running", name="other")
    page = text(boss)
    assert "after Regenerate image, or at its next start" in page
    assert "the host name among them" in page


def test_custom_texts_are_offered_and_say_what_they_overrule(cloudy: Scene, boss: Client) -> None:
    snippets.save(cloudy.storage, "u.yaml", "user", "#cloud-config\n{}\n", None, base=0)
    assert "local:snippets/u.yaml (User data)" in text(boss, f"{PAGE}/edit/custom")
    assert (
        send(boss, "custom", user="local:snippets/u.yaml", network="", vendor="", meta="").status_code == 302
    )
    assert config()["cicustom"] == "user=local:snippets/u.yaml"
    page = text(boss)
    assert "version 1" in row(page, "custom")
    for name in ("user", "password", "keys", "upgrade"):
        assert "not used: user data is a text of your own" in row(page, name)
    assert "#cloud-config\n{}" in text(boss, f"{PAGE}/show/user")


def test_without_a_drive_one_is_added_where_the_guest_sees_it(cloudy: Scene, boss: Client) -> None:
    Disk.objects.filter(vm=cloudy.vm, slot="scsi1").delete()
    page = text(boss)
    assert "No cloud-init drive" in page
    assert boss.get(f"{PAGE}/show/user").status_code == 404
    boss.post(f"{PAGE}/add", {"storage": "local"})
    task = Task.objects.order_by("-pk")[0]
    assert '"scsi1": "local:cloudinit' in task.params["set"]
    answer = boss.post(f"{PAGE}/add", {"storage": "nowhere"}, headers=HTMX)
    assert answer.status_code == 409
    assert "does not exist" in answer.content.decode()


def test_regenerate_is_a_task(cloudy: Scene, boss: Client) -> None:
    assert boss.post(f"{PAGE}/regenerate", headers=HTMX).status_code == 200
    assert Task.objects.order_by("-pk")[0].type == "qmcloudinit"
    Disk.objects.filter(vm=cloudy.vm, slot="scsi1").delete()
    Task.objects.all().delete()
    answer = boss.post(f"{PAGE}/regenerate", headers=HTMX)
    assert answer.status_code == 409
    assert "has no cloud-init drive" in answer.content.decode()


def test_who_may_see_may_not_change(cloudy: Scene) -> None:
    bob = signed_in(person("bob", vms="PVEAuditor", storage="PVEAuditor"))
    page = text(bob)
    assert "VM.Config.Cloudinit or VM.Config.Network on this VM is missing" in page
    assert "$5$" not in page + text(bob, f"{PAGE}/show/user")
    for path, data in (
        (f"{PAGE}/edit/user", {"ciuser": "x"}), (f"{PAGE}/add", {"storage": "local"}),
        (f"{PAGE}/regenerate", {}),
    ):  # fmt: skip
        assert bob.post(path, data, headers=HTMX).status_code in (403, 409)
    assert config()["ciuser"] == "ada"
    assert not Task.objects.filter(type="qmcloudinit").exists()
    user = signed_in(person("eve", vms="PVEVMUser"))
    assert send(user, "user", ciuser="eve").status_code == 302
    assert config()["ciuser"] == "eve"


def test_a_text_one_may_not_read_is_neither_given_nor_shown(cloudy: Scene, boss: Client) -> None:
    snippets.save(cloudy.storage, "u.yaml", "user", "#cloud-config\npassword: topsecret\n", None, base=0)
    eve = signed_in(person("eve", vms="PVEVMUser", storage="PVEAuditor"))
    assert "u.yaml" not in text(eve, f"{PAGE}/edit/custom")
    answer = eve.post(f"{PAGE}/edit/custom", {"user": "local:snippets/u.yaml"})
    assert answer.status_code == 403
    assert "Datastore.AllocateSpace" in answer.content.decode()
    send(boss, "custom", user="local:snippets/u.yaml")
    page = text(eve, f"{PAGE}/show/user")
    assert "topsecret" not in page
    assert "you may not read" in page


def test_no_query_a_card(cloudy: Scene, boss: Client, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(30):
        text(boss, f"{PAGE}?part=rows")
