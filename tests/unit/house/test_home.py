"""The folders of an installation: modes, owners, and one supervisor per role."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pvelite import home
from pvelite.conf import Conf
from vms.errors import StateError


@pytest.fixture
def conf(tmp_path: Path) -> Conf:
    return Conf.from_environ({"PVELITE_HOME": str(tmp_path / "pv")})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_modes_are_made_and_mended(conf: Conf) -> None:
    home.prepare(conf)
    (conf.home / "pvelite.sqlite3").chmod(0o644)
    conf.log_dir.chmod(0o755)
    conf.run_dir.chmod(0o777)
    home.prepare(conf)
    assert mode(conf.home) == mode(conf.run_dir) == mode(conf.storage_dir) == 0o711
    assert mode(conf.log_dir) == 0o700
    assert mode(conf.home / "pvelite.sqlite3") == 0o600


def test_a_link_in_the_place_of_the_run_directory_is_refused(conf: Conf, tmp_path: Path) -> None:
    home.prepare(conf)
    conf.run_dir.rmdir()
    conf.run_dir.symlink_to(tmp_path)
    before = mode(tmp_path)
    with pytest.raises(StateError, match=str(conf.run_dir)):
        home.prepare(conf)
    assert mode(tmp_path) == before


def test_somebody_elses_folder_is_refused(conf: Conf, monkeypatch: pytest.MonkeyPatch) -> None:
    home.prepare(conf)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(StateError, match="belongs to user"):
        home.prepare(conf)


def test_a_home_that_is_a_file_is_named(conf: Conf) -> None:
    conf.home.write_text("")
    with pytest.raises(StateError, match="cannot be used") as caught:
        home.prepare(conf)
    assert "PVELITE_HOME" in caught.value.hint


def test_a_database_elsewhere_leaves_no_file(conf: Conf) -> None:
    home.prepare(replace(conf, database_url="postgres://db/pvelite"))
    assert not (conf.home / "pvelite.sqlite3").exists()


def test_a_role_runs_once(conf: Conf) -> None:
    home.prepare(conf)
    held = home.lock_roles(conf, ["web", "redis"])
    with pytest.raises(StateError, match=rf"\(redis\) already runs here as process {os.getpid()}"):
        home.lock_roles(conf, ["worker", "redis"])
    for handle in held:
        os.close(handle)
    for handle in home.lock_roles(conf, ["redis"]):
        os.close(handle)
