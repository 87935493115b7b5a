"""What is said of a text before it is kept, and what hostile ones cannot do."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vms.config import snippets
from vms.config.snippets import Remark, check
from vms.config.yamltext import document
from vms.errors import ConfigError

GOOD = "#cloud-config\npackages:\n  - htop\nruncmd:\n  - [touch, /etc/here]\n"


def blocked(role: snippets.Role, text: str) -> Remark:
    found = [remark for remark in check(role, text) if remark.severity == "block"]
    assert found, text[:200]
    return found[0]


def warned(text: str) -> list[tuple[int, str]]:
    return [(remark.line, remark.text) for remark in check("user", text) if remark.severity == "warn"]


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("user", GOOD), ("vendor", GOOD), ("user", "#!/bin/sh\necho hello\n"),
        ("user", "#include\nhttps://example.org/x\n"), ("user", "#cloud-config\n{}\n"),
        ("user", "## template: jinja\n#cloud-config\nhostname: {{ ds.x }}\n"),
        ("user", "#cloud-config-archive\n- type: text/cloud-boothook\n  content: x\n"),
        ("user", 'Content-Type: multipart/mixed; boundary="x"\n\n--x--\n'),
        ("network", "version: 2\nethernets:\n  eth0: {dhcp4: true}\n"),
        ("network", "network:\n  version: 1\n  config: [{type: physical, name: eth0}]\n"),
        ("network", "auto lo\niface lo inet loopback\n"),
        ("meta", "instance-id: web-1\n"), ("meta", '{"uuid": "1"}\n'),
    ],
)  # fmt: skip
def test_good_ones(role: snippets.Role, text: str) -> None:
    assert [remark for remark in check(role, text) if remark.severity != "info"] == []


@pytest.mark.parametrize(
    ("role", "text", "line", "words"),
    [
        ("user", "", 0, "empty"), ("user", "packages: [a]\n", 1, "Begin with"),
        ("user", "# cloud-config\npackages: [a]\n", 1, "Begin with"),
        ("user", "## template: jinja\nhello\n", 2, "after"),
        ("user", "#cloud-config\npackages:\n\t- a\n", 3, "no YAML"),
        ("user", "#cloud-config\n- a\n", 2, "mapping"), ("user", "#cloud-config\na: [1\n", 3, "no YAML"),
        ("user", "#cloud-config\na: 1\n---\nb: 2\n", 3, "second document"),
        ("user", "#cloud-config\na: !!python/object/apply:os.system [id]\n", 2, "no YAML"),
        ("user", "#cloud-config\nd: 2026-99-99\n", 0, "no YAML"),
        ("user", f"#cloud-config\na: {'9' * 5000}\n", 0, "no YAML"),
        ("user", "#cloud-config\na: \x00\n", 2, "control"),
        ("user", "#cloud-config\na: \ud800\n", 2, "control"),
        ("user", "#cloud-config\n" + "# x\n" * (1 << 18), 0, "at most"),
        ("user", "#cloud-config-archive\na: 1\n", 1, "list of parts"),
        ("network", "version: 3\n", 1, "must be 1 or 2"), ("network", "- a\n", 1, "mapping"),
        ("network", "version: 1\n", 1, "config"), ("meta", "just words\n", 1, "mapping"),
    ],
)  # fmt: skip
def test_bad_ones(role: snippets.Role, text: str, line: int, words: str) -> None:
    found = blocked(role, text)
    assert words in found.text
    assert found.line == line


def test_hints() -> None:
    text = (
        "#cloud-config\npackage:\n  - a\npackages: htop\nca-certs: {}\nnonsense: 1\npassword: geheim\n"
        "write_files:\n  - content: x\npackages: [a]\n"
    )
    assert warned(text) == [
        (2, "no module of cloud-init reads 'package'; did you mean 'packages'?"),
        (5, "'ca-certs' is called 'ca_certs' in newer versions"),
        (6, "no module of cloud-init reads 'nonsense'"),
        (7, "a password in the open; write its hash (mkpasswd -m sha-256)"),
        (8, "an entry of 'write_files' has no 'path'"),
        (10, "'packages' is given twice; the last one counts"),
    ]
    assert warned("#cloud-config\nruncmd: ls\n") == [(2, "'runcmd' should be a list")]
    assert "instance-id" in check("meta", "local-hostname: x\n")[0].text


BOMB = "#cloud-config\n" + "".join(
    f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10 if n else ['x'] * 10)}]\n" for n in range(9)
)
HOSTILE = {
    "laughs": (BOMB, "expand"),
    "itself": ("#cloud-config\na: &a [*a]\n", "expand"),
    "deep": ("#cloud-config\na: " + "[" * 100_000, "nest"),
    "deep blocks": ("#cloud-config\n" + "- " * 50_000, "levels deep"),
    "wide": ("#cloud-config\na: [" + "x," * 200_000 + "]", "nodes"),
    "merges": (
        "#cloud-config\na0: &a0 {k: v}\n"
        + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)),
        "expand",
    ),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_ones_cost_nothing(name: str) -> None:
    text, words = HOSTILE[name]
    began = time.process_time()
    assert words in blocked("user", text).text
    assert time.process_time() - began < 5


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str) -> None:
    for role in ("user", "network", "meta"):
        for words in (text, f"#cloud-config\n{text}"):
            assert all(remark.text and remark.line >= 0 for remark in check(role, words))


PLAIN = st.recursive(
    st.text(max_size=20) | st.booleans() | st.integers(-(10**6), 10**6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_we_write_is_read_back(mapping: dict[str, object]) -> None:
    text = document(mapping) if mapping else "{}\n"
    assert yaml.safe_load(text) == mapping
    assert text.isascii()


@pytest.mark.parametrize(
    "word", ["yes", "Off", "~", "1:30", "0x1f", "1e3", "null", "=", "", "a: b", "a #b", "-"]
)
def test_words_that_mean_something_else_are_quoted(word: str) -> None:
    assert yaml.safe_load(document({"a": word})) == {"a": word}


def test_names_and_ids() -> None:
    assert snippets.split("local:snippets/user.yaml") == ("local", "user.yaml")
    for volid in (
        "local:iso/a",
        "local:snippets/../x",
        "local:snippets/a/b",
        "snippets/a",
        "local:snippets/.a",
    ):
        with pytest.raises(ConfigError):
            snippets.split(volid)
    for name in ("", ".x", "a b", "ä", "a/b", "-x", "a" * 121, "a\n"):
        with pytest.raises(ConfigError):
            snippets.check_name(name)


def test_bytes_become_a_text() -> None:
    assert snippets.decode(b"\xef\xbb\xbfa\r\nb\rc") == "a\nb\nc"
    with pytest.raises(ConfigError, match="line 2 is no UTF-8"):
        snippets.decode(b"a\n\xff\n")
    with pytest.raises(ConfigError, match="at most"):
        snippets.decode(bytes(snippets.LIMIT + 1))
