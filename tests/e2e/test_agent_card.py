"""The guest agent's card where nobody answers: what it says, what it offers, what asking comes to."""

from __future__ import annotations

from hands import quiet
from house import House
from machines import SMALL, make
from playwright.sync_api import Page, expect


def test_a_guest_without_an_agent(house: House, operator: Page) -> None:
    vmid, page = make(house, start=True, config={**SMALL, "ostype": "l26", "agent": "1"}), operator
    with quiet(page):
        page.goto(f"/vms/{vmid}")
        card = page.locator("section", has=page.locator("#card-agent")).last
        expect(card).to_contain_text("QEMU guest agent is not running")
        card.get_by_text("How to install it").click()
        expect(card).to_contain_text("dnf install qemu-guest-agent")
        card.get_by_text("How to install it").click()
        card.get_by_text("Ask", exact=True).click()
        expect(card.get_by_role("menuitem", name="Run a command")).to_have_attribute("aria-disabled", "true")
        card.get_by_role("menuitem", name="Ask whether it answers").click()
        page.wait_for_url("**/agent/answers/*")
        expect(page.get_by_role("alert")).to_contain_text("QEMU guest agent is not running", timeout=30_000)

        page.goto(f"/vms/{vmid}/agent/exec")
        page.get_by_role("textbox", name="Command").fill("echo 'x")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("cannot be split into words")
        expect(page.get_by_role("textbox", name="Command")).to_have_value("echo 'x")
        house.qm("stop", str(vmid))
