"""Run folders: owners, modes, planted symlinks, and who can get where."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vms.errors import VMError
from vms.hardware.context import RuntimePaths
from vms.host.paths import RunPaths, qemu_user, remove_tree, traversable

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_folders_are_made_with_their_modes(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run", tmp_path / "log").prepare(101)
    assert mode(tmp_path / "run") == 0o711
    assert mode(tmp_path / "run" / "vm") == 0o711
    for folder in (paths.folder, paths.qmp.parent, paths.vnc.parent, paths.agent.parent, paths.tpm.parent):
        assert mode(folder) == 0o700
    assert paths.qmp.parent != paths.vnc.parent


def test_names_are_those_of_the_command_line(tmp_path: Path) -> None:
    ours = RunPaths(tmp_path / "run", tmp_path / "log").vm(101)
    theirs = RuntimePaths.of(str(tmp_path / "run"), str(tmp_path / "log"), 101)
    for name in ("folder", "qmp", "qmp_ops", "vnc", "agent", "tpm", "pidfile"):
        assert str(getattr(ours, name)) == getattr(theirs, name)
    assert str(ours.serial) == theirs.serial(0)


def test_modes_are_put_right_again(tmp_path: Path) -> None:
    runs = RunPaths(tmp_path / "run", tmp_path / "log")
    runs.prepare(101).qmp.parent.chmod(0o777)
    assert mode(runs.prepare(101).qmp.parent) == 0o700


def test_a_planted_symlink_is_refused(tmp_path: Path) -> None:
    runs = RunPaths(tmp_path / "run", tmp_path / "log")
    folder = runs.prepare(101).qmp.parent
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    folder.rmdir()
    folder.symlink_to(victim)
    with pytest.raises(VMError, match="no folder of ours"):
        runs.prepare(101)
    assert mode(victim) == 0o755


def test_folders_belong_to_qemus_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        with pytest.raises(VMError, match="belongs to user"):
            RunPaths(tmp_path / "run", tmp_path / "log", "nobody").prepare(101)
        return
    paths = RunPaths(tmp_path / "run", tmp_path / "log", "nobody").prepare(101)
    assert {path.stat().st_uid for path in (paths.folder, paths.qmp.parent)} == {NOBODY}
    assert paths.folder.parent.stat().st_uid == 0


def test_clearing_keeps_the_log_and_follows_nothing(tmp_path: Path) -> None:
    runs = RunPaths(tmp_path / "run", tmp_path / "log")
    paths = runs.prepare(101)
    paths.log.write_text("words")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    (paths.folder / "planted").symlink_to(victim)
    runs.clear(101)
    runs.clear(101)
    assert not paths.folder.exists()
    assert paths.log.read_text() == "words"
    assert (victim / "kept").exists()


def test_removing_a_tree_that_is_gone(tmp_path: Path) -> None:
    remove_tree(tmp_path / "never")


def test_traversable_names_the_component_that_is_closed(tmp_path: Path) -> None:
    for parent in [tmp_path, *tmp_path.parents[:-2]]:
        if parent.stat().st_uid == os.geteuid() and str(parent) != "/tmp":
            parent.chmod(0o711)
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    closed.chmod(0o700)
    inside.chmod(0o755)
    assert traversable(inside, NOBODY) == closed
    closed.chmod(0o711)
    assert traversable(inside, NOBODY) is None
    assert traversable(inside / "missing", NOBODY) == inside / "missing"
    closed.chmod(0o700)
    assert traversable(inside, 0) is None


def test_qemus_user_and_the_reason_it_is_not_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert qemu_user("nobody", tmp_path) == (None, "")
        return
    user, reason = qemu_user("no-such-user-here", tmp_path)
    assert user is None
    assert "no user 'no-such-user-here'" in reason
    tmp_path.chmod(0o700)
    user, reason = qemu_user("nobody", tmp_path)
    assert user is None
    assert "may not enter" in reason
    assert qemu_user("nobody", Path("/usr")) == ("nobody", "")
