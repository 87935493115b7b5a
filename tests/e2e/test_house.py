"""The product comes up as a user starts it, lets the operator in and ends without a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from house import House
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


def test_the_roles_run_and_end_with_their_supervisor(own_house: House) -> None:
    for role in ("web", "worker", "console", "redis"):
        assert own_house.role_pid(role) in own_house.processes()
    assert own_house.interrupt() == 0
    assert own_house.processes() == []
