"""The product comes up as a user starts it, lets the operator in and ends without a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from house import House
from machines import make
from playwright.sync_api import Page, expect


def test_a_stranger_is_sent_to_the_login(page: Page) -> None:
    page.goto("/")
    expect(page).to_have_url("/login?next=/")


def test_the_operator_gets_in(operator: Page, screenshot: Callable[..., Path]) -> None:
    operator.goto("/")
    create = operator.get_by_role("link", name="Create VM").or_(
        operator.get_by_role("button", name="Create VM")
    )
    expect(create.first).to_be_visible()
    expect(operator.get_by_text("live", exact=True)).to_be_visible()
    assert screenshot("dashboard").stat().st_size > 5000


def test_tab_stops_once_in_the_tree(house: House, operator: Page) -> None:
    make(house, start=False, config={"name": "folded", "memory": "64"})
    operator.goto("/storage/local")
    here = operator.locator("#tree a[href='/storage/local']")
    expect(here).to_have_attribute("tabindex", "0")
    expect(operator.locator("#tree .tree-row[tabindex='0']")).to_have_count(1)
    here.press("Home")
    expect(operator.locator("#tree summary").first).to_be_focused()
    expect(operator.locator("#tree .tree-row[tabindex='0']")).to_have_count(1)
    operator.keyboard.press("ArrowLeft")
    expect(operator.locator("#tree details").first).not_to_have_attribute("open", "")
    operator.keyboard.press("ArrowDown")
    expect(here).to_be_focused()
    expect(here).to_have_attribute("tabindex", "0")


def test_the_roles_run_and_end_with_their_supervisor(own_house: House) -> None:
    for role in ("web", "worker", "console", "redis"):
        assert own_house.role_pid(role) in own_house.processes()
    assert own_house.interrupt() == 0
    assert own_house.processes() == []
