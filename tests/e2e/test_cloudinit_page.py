"""The Cloud-Init page in a browser: dialogs in place, errors on their field, a text of one's own."""

from __future__ import annotations

import re

from house import House
from machines import SMALL, make
from playwright.sync_api import Page, expect

CLOUDY = {
    **SMALL, "name": "cloudy", "scsi1": "local:cloudinit,media=cdrom", "ciuser": "ada",
    "net0": "virtio=BC:24:11:00:0C:01",
}  # fmt: skip


def test_settings_change_in_their_dialogs(house: House, operator: Page) -> None:
    page = operator
    vmid = make(house, start=False, config=CLOUDY)
    page.goto("/snippets/new")
    page.get_by_role("textbox", name="Name").fill("browser.yaml")
    page.get_by_role("textbox", name="Text").fill("#cloud-config\npackage: [htop]\n")
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_text("did you mean 'packages'?")).to_be_visible()
    page.get_by_role("textbox", name="Text").fill("#cloud-config\npackages: [htop]\n")
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(re.compile("/snippets/local/browser.yaml$"))

    page.goto(f"/vms/{vmid}")
    page.get_by_role("link", name="Cloud-Init").click()
    user = page.locator("#row-user")
    expect(user).to_contain_text("ada")
    dialog = page.get_by_role("dialog")

    card = page.locator("#row-ipconfig0")
    card.get_by_role("button", name="Edit").click()
    expect(dialog.get_by_label("IPv4 address")).to_be_hidden()
    dialog.get_by_role("radio", name="Static").first.check()
    dialog.get_by_label("IPv4 address").fill("192.0.2.10")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_text("is not an IPv4 address/prefix")).to_be_visible()
    dialog.get_by_label("IPv4 address").fill("192.0.2.10/24")
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_have_count(0)
    expect(card).to_contain_text("192.0.2.10/24")
    expect(card).to_contain_text("the image has none")
    expect(page.get_by_text("The image is older than these settings")).to_be_visible()

    page.locator("#row-custom").get_by_role("button", name="Edit").click()
    dialog.get_by_label("User data").select_option("local:snippets/browser.yaml")
    dialog.get_by_role("button", name="OK").click()
    expect(user).to_contain_text("not used")
    page.get_by_role("button", name="Regenerate image").click()
    expect(page.get_by_text("The image is older than these settings")).to_have_count(0, timeout=20_000)
    page.get_by_role("link", name="User data", exact=True).click()
    expect(page.locator("#ci-text")).to_contain_text("packages: [htop]")
