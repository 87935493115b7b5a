"""The password is kept as a hash; a seed's image holds its files and a mark of them."""

from __future__ import annotations

from pathlib import Path

import pycdlib
import pytest

from vms.config import secrets
from vms.errors import StorageError
from vms.host.resolver import read_resolver
from vms.storage import seed


def test_sha256_crypt_as_specified() -> None:
    """The specification's vector with its usual number of rounds; the others have been compared with libc."""
    wanted = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
    assert secrets.hashed("Hello world!", "saltstring") == wanted
    long = "$5$abcdefgh$pq5nVxzQEFRqOTwnsHQRSUuLuj//lbu8ZZM4uRrAvz9"
    assert secrets.hashed("ä" * 70, "abcdefgh") == long


def test_a_password_is_hashed_once() -> None:
    stored = secrets.kept_secret({"cipassword": "geheim"}, {})["cipassword"]
    assert stored.startswith("$5$")
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


def test_a_text_kept_for_windows_is_hashed_once_the_system_is_another() -> None:
    kept = secrets.kept_secret({"cipassword": secrets.MASK, "ostype": "l26"}, {"cipassword": "x"})
    assert kept["cipassword"].startswith("$5$")


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
    with pytest.raises(StorageError, match="sum of snippets too big"):
        seed.build("cidata", {"user-data": bytes(seed.LIMIT + 1)})


def test_a_stub_on_the_loopback_is_no_resolver(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch lan .\n")
    assert read_resolver((tmp_path / "none", path)) == (("192.0.2.1",), ("lan",))
    path.write_text("nameserver 127.0.0.53\n")
    assert read_resolver((path,)) == ((), ())
