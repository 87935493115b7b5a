"""Whose clocks schedules and pages go by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvelite.clock import zone_of
from pvelite.conf import Conf, SettingError


def test_this_machines_zone(tmp_path: Path) -> None:
    link, name = tmp_path / "localtime", tmp_path / "timezone"
    assert zone_of({}, link=link, name=name) == "UTC", "nothing says one"
    name.write_text("Europe/Paris\n")
    assert zone_of({}, link=link, name=name) == "Europe/Paris"
    link.symlink_to("/usr/share/zoneinfo/Asia/Kolkata")
    assert zone_of({}, link=link, name=name) == "Asia/Kolkata"
    assert zone_of({"TZ": ":America/New_York"}, link=link, name=name) == "America/New_York"
    assert zone_of({"TZ": "CET-1CEST"}, link=link, name=name) == "Asia/Kolkata", "no name of a zone"
    given = {"TZ": "America/New_York", "PVELITE_TIMEZONE": "Europe/Berlin"}
    assert zone_of(given, link=link, name=name) == "Europe/Berlin"


@pytest.mark.parametrize("text", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe"])
def test_a_zone_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingError, match=r"PVELITE_TIMEZONE is '.*'; write a zone's name such as"):
        Conf.from_environ({"PVELITE_HOME": "/srv/pv", "PVELITE_TIMEZONE": text})
