"""SPICE sessions among the open consoles: counted as one, taken over, ended with their channels."""

from __future__ import annotations

from typing import Any

from console.registry import GOING_AWAY, MAX_CHANNELS, TAKEN_OVER, Console, Registry


def console(kind: str = "spice", **more: Any) -> Console:
    values = {"user_id": 1, "username": "anna", "session_key": "s", "vm_pk": 1, "vmid": 101, "run_id": "r"}
    return Console(**{**values, "kind": kind, "view_only": False, **more})


def test_a_session_counts_as_one_console() -> None:
    registry = Registry(per_vm=2, per_user=2)
    main = console(ticket="t", session=7)
    assert registry.enter(main) == ""
    channels = [console(main=main) for _ in range(MAX_CHANNELS)]
    assert {registry.enter(channel) for channel in channels} == {""}
    assert "channels already" in registry.enter(console(main=main))
    assert registry.enter(console("vnc")) == "", "its channels take no room"
    assert "close one first" in registry.enter(console("vnc"))
    assert registry.main_of("t") is main
    assert registry.main_of("other") is None
    assert registry.of_session(7) == [], "pages' sessions are not for viewer programs"

    registry.leave(main)
    assert {channel.ending for channel in channels} == {(GOING_AWAY, "the session has ended")}
    assert "has ended" in registry.enter(console(main=main))
    assert registry.main_of("t") is None


def test_the_later_viewer_takes_over_on_that_vm_only() -> None:
    registry = Registry()
    page, screen, elsewhere = console(), console("vnc"), console(vm_pk=2)
    for each in (page, screen, elsewhere):
        assert registry.enter(each) == ""
    viewer = console("viewer", username="bob", session=9)
    assert registry.enter(viewer) == ""
    assert page.ending == (TAKEN_OVER, "bob opened this screen and took it over")
    assert screen.ending is elsewhere.ending is viewer.ending is None
    assert registry.of_session(9) == [viewer]
