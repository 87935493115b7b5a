"""The folder of snippets, with everything in it that somebody could have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vms.config.snippets import LIMIT, fingerprint
from vms.errors import ConfigError, StorageError
from vms.storage import snippets

TEXT = "#cloud-config\npackages: [htop]\n"


def test_written_whole_read_back_and_removed(tmp_path: Path) -> None:
    assert snippets.listing(tmp_path) == []
    snippets.write(tmp_path, "user.yaml", TEXT)
    snippets.write(tmp_path, "user.yaml", TEXT + "# again\n")
    path = tmp_path / "snippets" / "user.yaml"
    assert path.read_text() == TEXT + "# again\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert snippets.read(tmp_path, "user.yaml") == TEXT + "# again\n"
    (found,) = snippets.listing(tmp_path)
    assert (found.name, found.size, found.sha256, found.problem) == (
        "user.yaml", len(TEXT) + 8, fingerprint(TEXT + "# again\n"), "",
    )  # fmt: skip
    assert os.listdir(tmp_path / "snippets") == ["user.yaml"]
    snippets.remove(tmp_path, "user.yaml")
    snippets.remove(tmp_path, "user.yaml")
    assert snippets.listing(tmp_path) == []


def test_what_is_no_snippet_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "snippets"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("root:x")
    (folder / "link").symlink_to(secret)
    os.link(secret, folder / "second-name")
    os.mkfifo(folder / "pipe")
    (folder / "dir").mkdir()
    (folder / "huge").write_bytes(b"#" * (LIMIT + 1))
    (folder / "binary").write_bytes(b"\x7fELF\xff")
    (folder / "bad name").write_text("x")
    (folder / ".hidden").write_text("x")
    found = {one.name: one.problem for one in snippets.listing(tmp_path)}
    assert sorted(found) == ["bad name", "binary", "dir", "huge", "link", "pipe", "second-name"]
    assert all(found.values()), found
    for name in ("link", "second-name", "pipe", "dir", "huge", "binary"):
        with pytest.raises((StorageError, ConfigError)):
            snippets.read(tmp_path, name)


def test_a_planted_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "passwd"
    target.write_text("mine")
    (tmp_path / "snippets").mkdir()
    (tmp_path / "snippets" / "user.yaml").symlink_to(target)
    snippets.write(tmp_path, "user.yaml", TEXT)
    assert target.read_text() == "mine"
    assert not (tmp_path / "snippets" / "user.yaml").is_symlink()
    snippets.remove(tmp_path, "user.yaml")
    assert target.read_text() == "mine"


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "snippets").symlink_to(tmp_path / "elsewhere")
    for act in (
        lambda: snippets.write(tmp_path, "a", TEXT), lambda: snippets.read(tmp_path, "a"),
        lambda: snippets.listing(tmp_path), lambda: snippets.remove(tmp_path, "a"),
    ):  # fmt: skip
        with pytest.raises(StorageError):
            act()
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "..", "", ".x", "a\x00b"])
def test_names_that_climb_are_refused_everywhere(tmp_path: Path, name: str) -> None:
    for act in (
        lambda: snippets.write(tmp_path, name, TEXT), lambda: snippets.read(tmp_path, name),
        lambda: snippets.remove(tmp_path, name),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            act()
    assert not (tmp_path / "snippets").exists()


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "snippets" / "user.yaml").mkdir(parents=True)
    with pytest.raises(StorageError, match="is a folder"):
        snippets.write(tmp_path, "user.yaml", TEXT)
    assert os.listdir(tmp_path / "snippets") == ["user.yaml"]
