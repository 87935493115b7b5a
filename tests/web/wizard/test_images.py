"""Disks made from images: the Import button, and a cloud image with its settings in one pass."""

from __future__ import annotations

import html

import pytest

from tests.web.wizard.conftest import GIB, Hand
from vms.models import Node, Storage, StorageStatus, Volume
from vms.operations import snippets

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGm0kVkI0cVbXQ2s4sXQnH1Lk1kq9vH6S0PZtq0Hk8s1 anna@desk"
OTHER = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7vbqajDhA bert@home"


@pytest.fixture
def images(storage: Storage, node: Node) -> list[Volume]:
    """Two images on ``local``, one on ``second``."""
    second = Storage.objects.create(name="second", path="/srv/second")
    StorageStatus.objects.create(storage=second, node=node, total=9 * GIB, available=1 * GIB)
    names = ((storage, "debian-12.qcow2"), (storage, "ubuntu.raw"), (second, "alpine.qcow2"))
    return [
        Volume.objects.create(
            storage=place, node=node, name=f"import/{name}", content="import",
            format=name.rpartition(".")[2], size=2 * GIB,
        )
        for place, name in names
    ]  # fmt: skip


def test_import_adds_a_disk_made_from_an_image(hand: Hand, images: list[Volume]) -> None:
    hand.to("disks").press("import")
    assert hand.url.endswith("?slot=scsi1")
    assert hand.config["scsi1"] == "local:0,format=qcow2,import-from=local:import/debian-12.qcow2,iothread=1"
    assert 'name="size"' not in hand.html
    assert "Target storage" in hand.html
    assert "debian-12.qcow2 (qcow2, 2 GiB)" in hand.html
    hand.press("save", image="local:import/ubuntu.raw", bus="virtio")
    assert hand.config["virtio0"].startswith("local:0,")
    assert "import-from=local:import/ubuntu.raw" in hand.config["virtio0"]
    hand.press("save", import_storage="second")
    assert "import-from=second:import/alpine.qcow2" in hand.config["virtio0"]
    hand.next()
    assert hand.tab == "cpu"
    hand.to("confirm")
    assert "alpine.qcow2" in hand.html
    assert "34 GiB promised" in hand.html


def test_import_needs_an_image_that_is_there(hand: Hand) -> None:
    hand.to("disks")
    assert "No storage holds an image to import" in html.unescape(hand.html)
    hand.press("import")
    assert "scsi1" not in hand.config


def test_an_image_that_vanished_or_does_not_fit(hand: Hand, images: list[Volume]) -> None:
    hand.to("disks").press("import")
    hand.next(storage="second")
    assert hand.tab == "disks"
    assert "more than the 1 GiB free on 'second'" in html.unescape(hand.error("image"))
    hand.press("save", storage="local")
    Volume.objects.filter(name="import/debian-12.qcow2").update(present=False)
    hand.open(hand.url)
    assert "'debian-12.qcow2' is not there any more" in html.unescape(hand.error("image"))
    assert "debian-12.qcow2 (no longer there)" in hand.html


def cloud(hand: Hand, **fields: str | None) -> Hand:
    """On the OS tab, choose the cloud image and fill in its fields."""
    hand.to("os").press("save", medium="cloud")
    return hand.press("save", cloud_image="local:import/debian-12.qcow2", **fields)


def test_a_cloud_image_in_one_pass(hand: Hand, images: list[Volume]) -> None:
    hand.to("os").press("save", medium="cloud")
    hand.next()
    assert "Image is missing" in hand.error("cloud_image")
    cloud(
        hand, ciuser="anna", cipassword="s3cret word", sshkeys=f"{KEY}\r\n{OTHER}\r\n",
        ipconfig0__ip="10.0.0.5/24", ipconfig0__gw="10.0.0.1", nameserver="9.9.9.9",
        searchdomain="example.org", ciupgrade=None,
    )  # fmt: skip
    config = hand.config
    assert config["scsi1"].startswith("local:cloudinit,media=cdrom")
    assert config["ide2"] == "none,media=cdrom"
    assert config["scsi0"].startswith("local:0,format=qcow2,import-from=local:import/debian-12.qcow2")
    wanted = {"ciuser": "anna", "nameserver": "9.9.9.9", "searchdomain": "example.org", "ciupgrade": "0"}
    assert {key: config[key] for key in wanted} == wanted
    assert config["ipconfig0"] == "gw=10.0.0.1,ip=10.0.0.5/24"
    assert "%0Assh-rsa%20" in config["sshkeys"]
    hand.press("save", ipconfig0__ip="", ipconfig0__gw="")
    assert "ipconfig0" not in hand.config
    assert hand.value("medium") == "cloud"
    assert f"{KEY}\n{OTHER}</textarea>" in html.unescape(hand.html).replace("\r", "")
    hand.next()
    assert hand.tab == "system"


def test_texts_of_ones_own_instead_of_ours(hand: Hand, images: list[Volume], storage: Storage) -> None:
    """Offered once there are any; which they are stands in the configuration, and goes with the image."""
    cloud(hand, ciuser="anna")
    assert "Custom cloud-init files" not in hand.html
    storage.content = [*storage.content, "snippets"]
    storage.save()
    snippets.save(storage, "u.yaml", "user", "#cloud-config\n{}\n", None, base=0)
    hand.open(hand.url)
    assert "Custom cloud-init files" in hand.html
    assert "local:snippets/u.yaml (User data)" in hand.html
    hand.press("save", cicustom__user="local:snippets/u.yaml")
    assert hand.config["cicustom"] == "user=local:snippets/u.yaml"
    hand.press("save", medium="none")
    assert "cicustom" not in hand.config
    cloud(hand)
    assert hand.config["cicustom"] == "user=local:snippets/u.yaml"


def test_the_password_is_hashed_and_never_shown(hand: Hand, images: list[Volume]) -> None:
    cloud(hand, cipassword="s3cret word")
    stored = hand.config["cipassword"]
    assert stored.startswith("$5$")
    assert "s3cret" not in hand.html
    assert stored not in html.unescape(hand.html)
    assert "s3cret" not in str(hand.vm.draft)
    assert "One is set" in hand.html
    hand.press("save", ciuser="bert")
    assert hand.config["cipassword"] == stored
    hand.to("confirm")
    assert stored not in html.unescape(hand.html)


def test_leaving_the_cloud_image_gives_an_empty_disk_back(hand: Hand, images: list[Volume]) -> None:
    before = hand.to("os").config
    cloud(hand, ciuser="anna", sshkeys=KEY)
    hand.press("save", medium="none")
    assert hand.config == before
    cloud(hand)
    assert hand.config["ciuser"] == "anna"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("hello", "Line 1 is no SSH public key"),
        (f"{KEY}\nhello", "Line 2 is no SSH public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "Line 1 is a private key"),
    ],
)
def test_keys_are_looked_at(hand: Hand, images: list[Volume], typed: str, words: str) -> None:
    cloud(hand, sshkeys=typed)
    assert words in hand.error("sshkeys")
    assert "sshkeys" not in hand.config
    assert typed in html.unescape(hand.html).replace("\r", "")


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("ciuser", "a b", "user name"),
        ("ipconfig0.ip", "10.0.0.5", "prefix"),
        ("ipconfig0.ip", "x,gw=1.2.3.4", ""),
        ("ipconfig0.gw", "10.0.0.1", "needs an address"),
        ("nameserver", "not an address!", "addresses"),
    ],
)
def test_settings_are_checked(hand: Hand, images: list[Volume], field: str, typed: str, words: str) -> None:
    cloud(hand, **{field: typed})
    assert hand.error(field)
    assert words in hand.error(field)
    hand.next()
    assert hand.tab == "os"


def test_the_command_shows_the_disks_that_will_be(hand: Hand, images: list[Volume]) -> None:
    cloud(hand)
    vmid = hand.vm.vmid
    assert f"vm-{vmid}-cloudinit.raw" in hand.html
    assert f"vm-{vmid}-disk-0.qcow2" in hand.html
