"""SPICE's first words, parsed from bytes nobody vouches for; the certificate; the viewer file."""

from __future__ import annotations

import configparser
import ssl
import stat
import struct
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import certificate, viewerfile
from console.spicelink import (
    HEADER,
    LIMIT,
    MAIN,
    MESSAGE,
    MINI_HEADER,
    REPLY,
    message,
    parse_message,
    parse_reply,
    whole,
)
from console.viewonly import NotUnderstood
from vms.hardware.screens import no_spice


def reply(common: int = 0b1011) -> bytes:
    body = REPLY.pack(0, b"k" * 162, 1, 0, REPLY.size) + struct.pack("<I", common)
    return HEADER.pack(b"REDQ", 2, 2, len(body)) + body


def test_a_link_message_and_its_answer() -> None:
    raw = message(77, MAIN)
    asked = parse_message(raw)
    assert (asked.session, asked.channel, asked.offers(MINI_HEADER), whole(raw)) == (77, MAIN, True, len(raw))
    found = parse_reply(reply())
    assert (found.error, found.key) == (0, b"k" * 162)
    assert parse_reply(found.with_key(b"o" * 162)).key == b"o" * 162
    assert found.head(asked).unpack(struct.pack("<HI", 103, 32)) == (103, 32)
    assert parse_reply(reply(0b11)).head(asked).unpack(struct.pack("<QHII", 1, 103, 32, 0)) == (103, 32)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"RFB 003.008\n",
        HEADER.pack(b"REDQ", 1, 0, 20),
        HEADER.pack(b"REDQ", 2, 2, LIMIT + 1),
        HEADER.pack(b"REDQ", 2, 2, 3) + b"abc",
        HEADER.pack(b"REDQ", 2, 2, MESSAGE.size) + MESSAGE.pack(0, 1, 0, 9, 0, 1 << 31),
    ],
)
def test_nonsense_is_refused(raw: bytes) -> None:
    with pytest.raises(NotUnderstood):
        parse_message(raw[: whole(raw)])


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_refusal_or_a_message(body: bytes) -> None:
    for parse in (parse_message, parse_reply):
        try:
            parse(HEADER.pack(b"REDQ", 2, 2, len(body)) + body)
        except NotUnderstood:
            continue


def test_the_certificate_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = certificate.ensure(tmp_path, "pve1")
    first = {path: path.read_bytes() for path in files.folder.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in first} == {0o600}
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    certificate.ensure(tmp_path, "pve1")
    assert {path: path.read_bytes() for path in files.folder.iterdir()} == first

    certificate.ensure(tmp_path, "pve2")
    assert files.authority.read_bytes() == first[files.authority], "another name needs no other authority"
    assert files.certificate.read_bytes() != first[files.certificate]

    other = files.certificate.read_bytes()
    files.key.write_bytes(first[files.key])  # a key that is not this certificate's
    certificate.ensure(tmp_path, "pve2")
    assert files.certificate.read_bytes() != other

    monkeypatch.setattr(certificate, "RENEW", certificate.LIFE + timedelta(days=1))
    certificate.ensure(tmp_path, "pve2")
    assert files.authority.read_bytes() == first[files.authority]
    monkeypatch.setattr(certificate, "RENEW", certificate.AUTHORITY_LIFE + timedelta(days=1))
    certificate.ensure(tmp_path, "pve2")
    assert files.authority.read_bytes() != first[files.authority]


def test_the_viewer_file(tmp_path: Path) -> None:
    files = certificate.ensure(tmp_path, "pve1")
    text = viewerfile.compose(
        host="192.0.2.7",
        port=61000,
        password="secret",
        title="101 (evil\n[virt-viewer]\nhost=x)",
        files=files,
        node="pve1",
    )
    read = configparser.RawConfigParser(delimiters="=", strict=True)
    read.read_string(text)
    values = dict(read["virt-viewer"])
    assert values["ca"].replace("\\n", "\n") == files.authority.read_text()
    assert values["title"] == "101 (evil\\n[virt-viewer]\\nhost=x)"
    assert values | {"ca": "", "title": ""} == {
        "type": "spice", "host": "192.0.2.7", "tls-port": "61000", "password": "secret", "ca": "",
        "title": "",
        "host-subject": "O=pvelite,CN=pve1", "delete-this-file": "1", "secure-attention": "Ctrl+Alt+Ins",
        "toggle-fullscreen": "Shift+F11", "release-cursor": "Ctrl+Alt+R",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("display", "built", "word"),
    [
        ("qxl", True, ""),
        ("qxl4", True, ""),
        ("virtio", True, ""),
        ("virtio-gl", True, ""),
        ("", True, "Choose SPICE"),
        ("std", True, "Choose SPICE"),
        ("serial0", True, "Choose SPICE"),
        ("qxl", False, "without SPICE"),
    ],
)
def test_why_there_is_no_spice(display: str, built: bool, word: str) -> None:
    found = no_spice(display, built=built)
    assert word in found
    assert bool(found) == bool(word)
