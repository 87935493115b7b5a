"""Public keys, and what only looks like one."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vms.config import sshkeys
from vms.errors import ConfigError


def made(kind: str = "ssh-ed25519", body: bytes = bytes(36), named: str = "") -> str:
    blob = len(kind).to_bytes(4, "big") + kind.encode() + body
    return f"{named or kind} {base64.b64encode(blob).decode()} ada@desk"


def test_a_key_is_told_by_kind_comment_and_fingerprint() -> None:
    key = sshkeys.parse(f'from="10.0.0.*",no-pty {made()}')
    assert (key.kind, key.comment, key.options) == ("ssh-ed25519", "ada@desk", 'from="10.0.0.*",no-pty')
    assert key.fingerprint.startswith("SHA256:")
    assert sshkeys.parse(made("sk-ssh-ed25519@openssh.com")).kind == "sk-ssh-ed25519@openssh.com"


@pytest.mark.parametrize(
    ("line", "fingerprint"),
    [  # as ssh-keygen -l told them
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7Wd+t13YZUWLyBjZaUYqEOczLyzCbXH6uJV3lxNh20 a b",
            "SHA256:mApROZ0a52a8APgXp/qrB+kNMPtsYe5PWgQUlnEIkQE",
        ),
        (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHumdEDB"
            "jYZRW9xDkroxiZx0Qhzl0BrUodZ1z4p/9wE0/xyccCGCPauyP7GNFJ8L5oTkdh1R0IeHcpVHy06UpHo= a b",
            "SHA256:gNNSrz1imZO8NWasPIOa0+HsosnYzmm/bI4OVjY+woE",
        ),
    ],
)
def test_the_fingerprint_is_openssh_s(line: str, fingerprint: str) -> None:
    key = sshkeys.parse(line)
    assert (key.fingerprint, key.comment) == (fingerprint, "a b")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"), ("PuTTY-User-Key-File-3: x", "private key"),
        ("hello", "no SSH public key"), ("ssh-ed25519", "no SSH public key"),
        (made(named="ssh-rsa"), "says it is ssh-rsa but holds ssh-ed25519"),
        (f"ssh-rsa {'A' * 41} x", "cut off"), ("ssh-rsa <script>alert(1)</script>", "no SSH public key"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_said_with_its_line(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match="line 2") as caught:
        sshkeys.check(sshkeys.encode(f"{made()}\n\n{line}\n"))
    assert words in caught.value.text


@given(st.text(max_size=200))
def test_nothing_raises_anything_else(text: str) -> None:
    assert len(sshkeys.known(sshkeys.encode(text))) == len(sshkeys.lines_of(sshkeys.encode(text)))


@given(st.lists(st.sampled_from([made(), made("ssh-rsa"), made() + " ä %41 +"]), max_size=4))
def test_encoding_round_trips(lines: list[str]) -> None:
    assert sshkeys.lines_of(sshkeys.encode("\r\n\n".join(lines))) == lines
    assert [key.text for key in sshkeys.check(quote("\n".join(lines)))] == lines
