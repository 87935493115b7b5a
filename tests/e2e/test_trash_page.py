"""Removed by mistake: out of the trash and back in the tree, then gone for good."""

from __future__ import annotations

from hands import quiet, state, tree_row
from house import House
from machines import SMALL, make
from playwright.sync_api import Page, expect


def remove(page: Page, vmid: int) -> None:
    """Into the trash, by the machine's own menu."""
    page.goto(f"/vms/{vmid}")
    page.get_by_role("toolbar", name=f"VM {vmid}").get_by_text("More", exact=True).click()
    page.get_by_role("menuitem", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("goes to the trash with everything that is its own")
    expect(dialog).to_contain_text(f"local:{vmid}/vm-{vmid}-disk-0.qcow2")
    dialog.get_by_label(f"Type the VM ID {vmid}").fill(str(vmid))
    dialog.get_by_role("button", name="Remove").click()
    page.wait_for_url("**/tasks/*")
    expect(tree_row(page, vmid)).to_have_count(0, timeout=20_000)


def test_there_and_back_and_gone(house: House, operator: Page) -> None:
    vmid, page = make(house, start=False, config={**SMALL, "name": "mislaid"}), operator
    disk = house.home / "local" / "images" / str(vmid) / f"vm-{vmid}-disk-0.qcow2"
    with quiet(page):
        remove(page, vmid)
        assert disk.exists()
        page.goto("/trash")
        row = page.get_by_role("main").get_by_role("row").filter(has_text="mislaid")
        row.get_by_role("button", name="Restore").click()
        expect(tree_row(page, vmid)).to_be_visible(timeout=20_000)
        page.goto(f"/vms/{vmid}")
        expect(state(page)).to_have_text("Stopped")
        remove(page, vmid)
        page.goto("/trash")
        row.get_by_role("button", name="Remove for good").click()
        dialog = page.get_by_role("dialog")
        button = dialog.get_by_role("button", name="Remove for good")
        expect(button).to_have_attribute("aria-disabled", "true")
        dialog.get_by_label(f"Type the VM ID {vmid}").fill(str(vmid))
        button.click()
        expect(row).to_have_count(0, timeout=20_000)
    assert not disk.exists()
