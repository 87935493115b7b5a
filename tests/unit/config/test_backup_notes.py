"""Notes of a backup from their template."""

from __future__ import annotations

import pytest

from vms.config.backupnotes import checked, filled

VALUES = {"guestname": "web {{node}}", "vmid": "101", "node": "pve1", "cluster": "home"}


def test_places_are_filled_once() -> None:
    assert filled("{{guestname}} ({{ vmid }})\\non {{node}}", VALUES) == "web {{node}} (101)\non pve1"
    assert filled(r"a\\nb \x {{cluster}}", VALUES) == "a\\nb \\x home"
    assert filled("{vmid} {% now %} ${node}", VALUES) == "{vmid} {% now %} ${node}"


@pytest.mark.parametrize("text", ["{{gueststate}}", "{{}}", "{{vmid|upper}}", "{{ settings.SECRET_KEY }}"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="stands for nothing; there are"):
        checked(text)
    assert checked("plain {{vmid}}") == "plain {{vmid}}"
