"""What each format tells the guest, letter by letter."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from urllib.parse import quote

import pycdlib
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vms.config import seeds
from vms.config.nocloud import Resolver
from vms.config.vmconfig import VMConfig
from vms.errors import ConfigError
from vms.storage import seed as iso

HOST = Resolver(("192.0.2.53",), ("lan",))
BASE = {
    "name": "web", "net0": "virtio=BC:24:11:00:00:01", "net1": "e1000=BC:24:11:00:00:02",
    "scsi1": "local:101/vm-101-cloudinit.raw,media=cdrom,size=4M", "ostype": "l26",
}  # fmt: skip
KEYS = quote('ssh-ed25519 AAAA ada@desk\n\nssh-rsa BBBB== bob: "the" #1 \U0001f600\n', safe="")
FULL = {
    "ciuser": "ada", "cipassword": "$5$salt$hash", "sshkeys": KEYS, "searchdomain": "example.org",
    "nameserver": "192.0.2.1 2001:db8::53", "ipconfig1": "ip=dhcp,ip6=auto",
    "ipconfig0": "ip=192.0.2.10/24,gw=192.0.2.1,ip6=2001:db8::10/64,gw6=2001:db8::1",
}  # fmt: skip


def files(custom: dict[str, str] | None = None, **more: str) -> dict[str, str]:
    return dict(seeds.seed_of(101, VMConfig.parse(BASE | more), HOST, custom).files)


USER_DATA = """#cloud-config
hostname: web
manage_etc_hosts: true
fqdn: web.example.org
user:
  name: ada
password: "$5$salt$hash"
ssh_authorized_keys:
  - ssh-ed25519 AAAA ada@desk
  - "ssh-rsa BBBB== bob: \\"the\\" #1 \\U0001F600"
chpasswd:
  expire: false
users:
  - default
package_upgrade: true
"""

NETWORK = """version: 1
config:
  - type: physical
    name: eth0
    mac_address: "bc:24:11:00:00:01"
    subnets:
      - type: static
        address: "192.0.2.10"
        netmask: "255.255.255.0"
        gateway: "192.0.2.1"
      - type: static6
        address: "2001:db8::10/64"
        gateway: "2001:db8::1"
  - type: physical
    name: eth1
    mac_address: "bc:24:11:00:00:02"
    subnets:
      - type: dhcp4
      - type: ipv6_slaac
  - type: nameserver
    address:
      - "192.0.2.1"
      - "2001:db8::53"
    search:
      - example.org
"""


def test_nocloud() -> None:
    found = files(**FULL)
    assert found == {
        "user-data": USER_DATA, "network-config": NETWORK, "vendor-data": "",
        "meta-data": f"instance-id: {seeds.nocloud.digest(USER_DATA, NETWORK)}\n",
    }  # fmt: skip
    assert seeds.seed_of(101, VMConfig.parse(BASE), HOST).label == "cidata"


def test_little_was_said() -> None:
    text = files(ciupgrade="0")["user-data"]
    assert text == (
        "#cloud-config\nhostname: web\nmanage_etc_hosts: true\nfqdn: web\nchpasswd:\n  expire: false\n"
        "users:\n  - default\n"
    )
    root = files(ciuser="root", ciupgrade="0")["user-data"]
    assert "user:\n  name: root\ndisable_root: false\n" in root
    assert "users:" not in root
    assert "network-config" not in files()


@pytest.mark.parametrize(
    ("name", "domain", "wanted"),
    [
        ("", "", ("VM101", "VM101")), ("web", "", ("web", "web")),
        ("web", "example.org lan", ("web", "web.example.org")),
        ("web.example.net", "example.org", ("web", "web.example.net")),
    ],
)  # fmt: skip
def test_names(name: str, domain: str, wanted: tuple[str, str]) -> None:
    mapping = BASE | {"name": name, "searchdomain": domain}
    config = VMConfig.parse({key: text for key, text in mapping.items() if text})
    assert seeds.nocloud.host_name(101, config) == wanted


def test_the_node_names_its_servers_when_nobody_else_does() -> None:
    text = files(ipconfig0="ip=dhcp")["network-config"]
    assert text.endswith('- type: nameserver\n    address:\n      - "192.0.2.53"\n    search:\n      - lan\n')


def test_another_content_is_another_instance() -> None:
    first = files()["meta-data"]
    assert first == files()["meta-data"]
    assert first != files(ciuser="ada")["meta-data"]
    assert first != files(ipconfig0="ip=dhcp")["meta-data"]


INTERFACES = """auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
        hwaddress ether bc:24:11:00:00:01
        address 192.0.2.10
        netmask 255.255.255.0
        gateway 192.0.2.1
iface eth0 inet6 static
        hwaddress ether bc:24:11:00:00:01
        address 2001:db8::10/64
        gateway 2001:db8::1
        dns-nameservers 192.0.2.1 2001:db8::53
        dns-search example.org

auto eth1
iface eth1 inet dhcp
        hwaddress ether bc:24:11:00:00:02
iface eth1 inet6 auto
        hwaddress ether bc:24:11:00:00:02
"""


def test_configdrive2() -> None:
    found = files(**FULL, citype="configdrive2")
    assert sorted(found) == [
        "openstack/content/0000", "openstack/latest/meta_data.json", "openstack/latest/user_data",
        "openstack/latest/vendor_data.json",
    ]  # fmt: skip
    assert found["openstack/latest/user_data"] == USER_DATA
    assert found["openstack/content/0000"] == INTERFACES
    assert found["openstack/latest/vendor_data.json"] == "{}\n"
    assert json.loads(found["openstack/latest/meta_data.json"]) == {
        "uuid": seeds.nocloud.digest(USER_DATA, INTERFACES), "hostname": "web",
        "network_config": {"content_path": "/content/0000"},
    }  # fmt: skip


def test_windows_reads_a_config_drive() -> None:
    config = VMConfig.parse(BASE | FULL | {"ostype": "win11", "cipassword": "geheim"})
    made = seeds.seed_of(101, config, HOST)
    assert made.label == "config-2"
    meta = json.loads(made.files["openstack/latest/meta_data.json"])
    assert meta["admin_pass"] == "geheim"
    assert meta["public_keys"]["key-0"] == "ssh-ed25519 AAAA ada@desk"
    assert sorted(meta["public_keys"]) == ["key-0", "key-1"]


def test_opennebula_is_a_script_a_shell_reads_back() -> None:
    found = files(**FULL | {"ciuser": "o'hara"}, citype="opennebula")
    assert list(found) == ["context.sh"]
    script = found["context.sh"] + '\nprintf \'%s|\' "$SET_HOSTNAME" "$USERNAME" "$SSH_PUBLIC_KEY" '
    script += '"$ETH0_MAC" "$ETH0_NETWORK" "$ETH0_IP6_PREFIX_LENGTH" "$ETH1_METHOD" "$USER_DATA"'
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split("|")
    assert told[:2] == ["web", "o'hara"]
    assert told[2].startswith("ssh-ed25519 AAAA ada@desk\nssh-rsa")
    assert told[3:7] == ["bc:24:11:00:00:01", "192.0.2.0", "64", "dhcp"]
    assert base64.b64decode(told[7]).decode().startswith("#cloud-config\nhostname: web\n")


OWN = "user=local:snippets/u.yaml,network=local:snippets/n.yaml,vendor=local:snippets/v.yaml"


def test_texts_of_ones_own_stand_for_ours() -> None:
    custom = {"user": "#cloud-config\n{}\n", "network": "version: 2\n", "vendor": "#cloud-config\na: 1\n"}
    found = files(custom, cicustom=OWN)
    assert found["user-data"] == custom["user"]
    assert found["network-config"] == custom["network"]
    assert found["vendor-data"] == custom["vendor"]
    assert found["meta-data"] == f"instance-id: {seeds.nocloud.digest(custom['user'], custom['network'])}\n"
    drive = files(custom, cicustom=OWN, citype="configdrive2")
    assert json.loads(drive["openstack/latest/vendor_data.json"]) == {"cloud-init": custom["vendor"]}
    told = files({"meta": "instance-id: mine\n"}, cicustom="meta=local:snippets/m")
    assert told["meta-data"] == "instance-id: mine\n"


def test_a_text_that_is_not_here_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        files({"network": "x", "vendor": "x"}, cicustom=OWN)
    assert (caught.value.key, caught.value.part) == ("cicustom", "user")


def test_a_card_without_an_address_cannot_be_told_apart() -> None:
    with pytest.raises(ConfigError) as caught:
        files(net0="virtio", ipconfig0="ip=dhcp")
    assert caught.value.key == "net0"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"scsihw": "virtio-scsi-single"}, "scsi1"),
        ({"scsihw": "virtio-scsi-single", "scsi1": "local:8"}, "scsi2"),
        ({"scsihw": "virtio-scsi-pci", "ostype": "win11"}, "ide2"),
        ({"ide2": "none,media=cdrom"}, "ide2"),
        ({"ide2": "local:iso/a.iso,media=cdrom"}, "ide3"),
        ({"ide2": "local:iso/a.iso,media=cdrom", "machine": "q35"}, "ide0"),
        ({"ide2": "local:iso/a.iso,media=cdrom", "ide0": "local:8", "machine": "q35"}, "sata0"),
    ],
)
def test_the_drive_hangs_where_the_guest_sees_it(more: dict[str, str], wanted: str) -> None:
    assert seeds.seed_slot({"scsi0": "local:8", "ostype": "l26", **more}) == wanted


def test_what_an_image_does_not_know() -> None:
    before = seeds.sources(BASE | FULL | {"net1": "e1000=BC:24:11:00:00:02,bridge=vmbr0", "memory": "512"})
    assert "memory" not in before
    now = BASE | FULL | {"ciuser": "bob", "cipassword": "$5$other$hash", "ciupgrade": "0"}
    del now["nameserver"]
    assert list(seeds.difference(before, now)) == [
        seeds.Change("cipassword", "", ""), seeds.Change("ciupgrade", None, "0"),
        seeds.Change("ciuser", "ada", "bob"), seeds.Change("nameserver", FULL["nameserver"], None),
    ]  # fmt: skip
    assert list(seeds.difference(before, BASE | FULL)) == []
    other = BASE | FULL | {"net1": "virtio=BC:24:11:00:00:99"}
    assert [change.key for change in seeds.difference(before, other)] == ["net1"]


@pytest.mark.parametrize("kind", ["nocloud", "configdrive2", "opennebula"])
@pytest.mark.parametrize("ostype", ["l26", "win11"])
def test_no_document_that_is_shown_holds_the_password(kind: str, ostype: str) -> None:
    secret = "geheim" if ostype == "win11" else "$5$salt$hash"
    config = VMConfig.parse(BASE | FULL | {"citype": kind, "ostype": ostype, "cipassword": secret})
    for role in seeds.ROLES:
        real, text = (ask(role, 101, config, HOST) for ask in (seeds.document, seeds.shown))
        spelled = (secret, base64.b64encode(secret.encode()).decode().rstrip("="))
        decoded = "".join(
            base64.b64decode(word.strip("'")).decode(errors="replace")
            for word in text.split("USER_DATA=")[1:]
        )
        assert not any(word in text + decoded for word in spelled)
        if role in ("network", "vendor") and kind != "opennebula":
            assert text == real
        if role == "meta" and kind == "nocloud":
            assert text == real


# ---- whatever is asked for comes out of the seed again

LINES = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=40).map(
    str.strip
)
USERS = st.from_regex(r"[^,:\s/]{1,12}", fullmatch=True).filter(
    lambda name: name.isprintable() and name != "root"
)


@given(user=USERS, password=LINES.filter(bool), keys=st.lists(LINES.filter(bool), max_size=3))
@settings(max_examples=150, deadline=None)
def test_who_may_log_in_is_read_as_it_was_written(user: str, password: str, keys: list[str]) -> None:
    mapping = {"ciuser": user, "cipassword": password, "sshkeys": quote("\n".join(keys), safe="")}
    for kind, name in (("nocloud", "user-data"), ("configdrive2", "openstack/latest/user_data")):
        found = yaml.safe_load(files(**mapping, citype=kind)[name])
        assert (found["user"], found["password"]) == ({"name": user}, password)
        assert found.get("ssh_authorized_keys", []) == keys
    script = files(**mapping, citype="opennebula")["context.sh"] + '\nprintf %s "$SSH_PUBLIC_KEY"'
    told = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode()
    assert told == "\n".join(keys)


ADDRESSES = st.sampled_from(["", "ip=dhcp", "ip=192.0.2.7/25", "ip=10.1.2.3/8,gw=10.0.0.1"])
SIX = st.sampled_from(
    ["", "ip6=auto", "ip6=dhcp", "ip6=2001:db8::7/64", "ip6=2001:db8::7/48,gw6=2001:db8::1"]
)


@given(st.lists(st.tuples(ADDRESSES, SIX), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_every_format_tells_the_same_addresses(cards: list[tuple[str, str]]) -> None:
    texts = {f"ipconfig{n}": ",".join(filter(None, pair)) for n, pair in enumerate(cards)}
    texts = {key: text for key, text in texts.items() if text}
    version1 = files(**texts).get("network-config", "")
    config = yaml.safe_load(version1)["config"] if version1 else []
    physical = [entry for entry in config if entry["type"] == "physical"]
    assert [entry["name"] for entry in physical] == [f"eth{key[8:]}" for key in texts]
    debian = files(**texts, citype="configdrive2").get("openstack/content/0000", "")
    for entry in physical:
        for subnet in entry["subnets"]:
            assert (f"address {subnet['address']}" in debian) if "address" in subnet else True
        assert f"auto {entry['name']}\n" in debian


NAMES = st.sampled_from(["user-data", "meta-data", "openstack/latest/user_data", "openstack/content/0000"])


@given(st.dictionaries(NAMES, st.binary(max_size=5000), min_size=1))
@settings(max_examples=25, deadline=None)
def test_the_image_gives_back_its_files(contents: dict[str, bytes]) -> None:
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(iso.build("cidata", contents)))
    for name, content in contents.items():
        target = io.BytesIO()
        image.get_file_from_iso_fp(target, joliet_path=f"/{name}")
        assert target.getvalue() == content
    image.close()
