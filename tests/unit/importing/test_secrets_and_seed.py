"""The password is kept as a hash; the seed says what the configuration says."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pycdlib
import pytest

from vms.config import nocloud, secrets
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError, StorageError
from vms.host.resolver import read_resolver
from vms.storage import seed

HOST = nocloud.Resolver(("192.0.2.53",), ("lan",))


@pytest.mark.parametrize(
    ("password", "salt", "wanted"),
    [  # the vectors of the specification that have its usual number of rounds
        ("Hello world!", "saltstring",
         "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
    ],
)  # fmt: skip
def test_sha512_crypt_as_specified(password: str, salt: str, wanted: str) -> None:
    assert secrets.hashed(password, salt) == f"$6${salt}${wanted}"


def test_a_password_is_hashed_once() -> None:
    stored = secrets.kept_secret({"cipassword": "geheim"}, {})["cipassword"]
    assert stored.startswith("$6$")
    assert secrets.kept_secret({"cipassword": stored}, {})["cipassword"] == stored
    assert secrets.kept_secret({"cipassword": "geheim"}, {})["cipassword"] != stored


def test_asterisks_mean_as_before() -> None:
    assert secrets.kept_secret({"cipassword": secrets.MASK}, {"cipassword": "$6$a$b"}) == {
        "cipassword": "$6$a$b"
    }
    assert secrets.kept_secret({"cipassword": secrets.MASK}, {}) == {}
    assert secrets.masked({"cipassword": "$6$a$b", "name": "x"}) == {"cipassword": secrets.MASK, "name": "x"}


def test_windows_gets_its_password_as_text() -> None:
    assert secrets.kept_secret({"cipassword": "x", "ostype": "win11"}, {})["cipassword"] == "x"


BASE = {
    "name": "web", "net0": "virtio=BC:24:11:00:00:01", "net1": "e1000=BC:24:11:00:00:02",
    "scsi1": "local:101/vm-101-cloudinit.raw,media=cdrom,size=4M", "ostype": "l26",
}  # fmt: skip


def files(**more: str) -> dict[str, str]:
    return dict(nocloud.seed_of(101, VMConfig.parse(BASE | more), HOST).files)


def cloud(text: str) -> dict[str, object]:
    head, *lines = text.splitlines()
    assert head == "#cloud-config"
    return {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in lines}


def test_user_data() -> None:
    keys = quote("ssh-ed25519 AAAA ada\n\nssh-rsa BBBB bob\n", safe="")
    told = cloud(
        files(ciuser="ada", cipassword="$6$a$b", sshkeys=keys, searchdomain="example.org")["user-data"]
    )
    assert told == {
        "hostname": "web", "manage_etc_hosts": True, "fqdn": "web.example.org", "user": {"name": "ada"},
        "password": "$6$a$b", "ssh_authorized_keys": ["ssh-ed25519 AAAA ada", "ssh-rsa BBBB bob"],
        "chpasswd": {"expire": False}, "users": ["default"], "package_upgrade": True,
    }  # fmt: skip
    assert "package_upgrade" not in files(ciupgrade="0")["user-data"]
    root = cloud(files(ciuser="root")["user-data"])
    assert root["disable_root"] is False
    assert "users" not in root


def test_a_machine_without_a_name_has_one() -> None:
    mapping = {key: text for key, text in BASE.items() if key != "name"}
    told = cloud(nocloud.seed_of(101, VMConfig.parse(mapping), HOST).files["user-data"])
    assert (told["hostname"], told["fqdn"]) == ("VM101", "VM101")


def test_network_by_address() -> None:
    text = files(ipconfig0="ip=192.0.2.10/24,gw=192.0.2.1,ip6=2001:db8::10/64", ipconfig1="ip=dhcp,ip6=auto")[
        "network-config"
    ]
    head, second, *lines = text.splitlines()
    assert (head, second) == ("version: 1", "config:")
    first, other, names = (json.loads(line.removeprefix("  - ")) for line in lines)
    assert first["mac_address"] == "bc:24:11:00:00:01"
    assert first["subnets"] == [
        {"type": "static", "address": "192.0.2.10", "netmask": "255.255.255.0", "gateway": "192.0.2.1"},
        {"type": "static6", "address": "2001:db8::10/64"},
    ]
    assert other["subnets"] == [{"type": "dhcp4"}, {"type": "ipv6_slaac"}]
    assert names == {"type": "nameserver", "address": ["192.0.2.53"], "search": ["lan"]}


def test_without_cards_the_image_asks_dhcp() -> None:
    assert "network-config" not in files()


def test_another_content_is_another_instance() -> None:
    first = files()["meta-data"]
    assert first == files()["meta-data"]
    assert first != files(ciuser="ada")["meta-data"]
    assert first != files(ipconfig0="ip=dhcp")["meta-data"]


def test_windows_reads_a_config_drive() -> None:
    made = nocloud.seed_of(101, VMConfig.parse(BASE | {"ostype": "win11", "cipassword": "geheim"}), HOST)
    assert made.label == "config-2"
    meta = json.loads(made.files["openstack/latest/meta_data.json"])
    assert meta["admin_pass"] == "geheim"


@pytest.mark.parametrize("more", [{"citype": "opennebula"}, {"cicustom": "user=local:snippets/u"}])
def test_what_cannot_be_written_is_said(more: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        files(**more)
    assert caught.value.key in more


def test_the_image_holds_the_files(tmp_path: Path) -> None:
    contents = {"user-data": b"#cloud-config\n", "meta-data": b"x", "openstack/latest/user_data": b"y" * 5000}
    data = seed.build("cidata", contents)
    assert len(data) == seed.SIZE
    path = tmp_path / "seed.raw"
    path.write_bytes(data)
    image = pycdlib.PyCdlib()
    image.open(str(path))
    assert image.pvd.volume_identifier.decode().strip() == "cidata"
    for name, content in contents.items():
        target = tmp_path / "out"
        for kind in ("rr_path", "joliet_path"):
            image.get_file_from_iso(str(target), **{kind: f"/{name}"})
            assert target.read_bytes() == content
    image.close()
    assert seed.read_mark(path) == seed.fingerprint("cidata", contents)
    assert seed.read_mark(path) != seed.fingerprint("cidata", contents | {"meta-data": b"z"})
    assert seed.read_mark(tmp_path / "none") == ""


def test_too_much_is_refused() -> None:
    with pytest.raises(StorageError, match="possible"):
        seed.build("cidata", {"user-data": bytes(seed.LIMIT + 1)})


def test_a_stub_on_the_loopback_is_no_resolver(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch lan .\n")
    assert read_resolver((tmp_path / "none", path)) == (("192.0.2.1",), ("lan",))
    path.write_text("nameserver 127.0.0.53\n")
    assert read_resolver((path,)) == ((), ())
