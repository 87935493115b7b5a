"""The Options page by mouse and by keyboard: boot order, protection, tags, notes."""

from __future__ import annotations

import re

from hands import quiet
from house import House
from machines import SMALL, make
from playwright.sync_api import Locator, Page, expect

CONFIG = {
    **SMALL, "name": "chosen", "ide2": "none,media=cdrom", "net0": "virtio", "boot": "order=scsi0;ide2;net0",
}  # fmt: skip


def row(page: Page, key: str) -> Locator:
    return page.locator(f"#row-{key}")


def listed(page: Page) -> list[str]:
    """The boot order as it stands in the dialog."""
    return [
        str(key)
        for key in page.locator("[data-boot-order] [data-key]").evaluate_all(
            "(all) => all.map((each) => each.dataset.key)"
        )
    ]


def handle(page: Page, key: str) -> Locator:
    return page.get_by_role("button", name=f"Move {key}", exact=True)


def settled(page: Page) -> None:
    """Wait until htmx has done with what it put in: it sets the focus a moment later."""
    expect(page.locator(".htmx-added, .htmx-settling, .htmx-swapping, .htmx-request")).to_have_count(0)


def looked_at(answer: object) -> bool:
    return "part=fields" in str(getattr(answer, "url", ""))


def test_boot_order_by_keyboard_and_by_drag(house: House, operator: Page) -> None:
    vmid, page = make(house, start=False, config=CONFIG), operator
    with quiet(page):
        page.goto(f"/vms/{vmid}/options")
        row(page, "boot").focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Edit: Boot order")
        says = dialog.locator("[data-boot-says]")
        settled(page)

        handle(page, "net0").focus()
        page.keyboard.press("Space")
        expect(says).to_have_text("Picked up net0, place 3 of 3.")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        expect(says).to_have_text("net0, place 1 of 3")
        expect(handle(page, "net0")).to_be_focused()
        with page.expect_response(looked_at):
            page.keyboard.press("Space")
        settled(page)
        assert listed(page) == ["net0", "scsi0", "ide2"]
        expect(handle(page, "net0")).to_be_focused()
        expect(dialog.get_by_text("What it does to the command")).to_be_visible()

        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
        assert listed(page) == ["scsi0", "net0", "ide2"]
        page.keyboard.press("Escape")  # puts it back and leaves the dialog open
        expect(dialog).to_be_visible()
        assert listed(page) == ["net0", "scsi0", "ide2"]

        start, end = handle(page, "ide2").bounding_box(), handle(page, "net0").bounding_box()
        assert start is not None
        assert end is not None
        page.mouse.move(start["x"] + 5, start["y"] + 5)
        page.mouse.down()
        page.mouse.move(end["x"] + 5, end["y"] + 20, steps=5)
        page.mouse.move(end["x"] + 5, end["y"] + 2, steps=5)
        with page.expect_response(looked_at):
            page.mouse.up()
        settled(page)
        assert listed(page) == ["ide2", "net0", "scsi0"]
        with page.expect_response(looked_at):
            dialog.get_by_role("checkbox", name="scsi0").uncheck()
        settled(page)
        with page.expect_response(looked_at):
            dialog.get_by_role("button", name="Move net0 up").click()
        settled(page)
        assert listed(page) == ["net0", "ide2", "scsi0"]
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_have_count(0)
        expect(row(page, "boot")).to_contain_text("net0, ide2")
        expect(row(page, "boot")).not_to_contain_text("scsi0")
    assert "boot: order=net0;ide2\n" in house.qm("config", str(vmid)).stdout


def test_protection_needs_a_reason_and_stands_in_the_way(house: House, operator: Page) -> None:
    vmid, page = make(house, start=False, config=CONFIG), operator
    with quiet(page):
        page.goto(f"/vms/{vmid}/options")
        page.get_by_role("link", name="Edit Protection").click()
        dialog = page.get_by_role("dialog")
        with page.expect_response(looked_at):
            dialog.get_by_label("Protection", exact=True).check()
        dialog.get_by_role("button", name="Save").click()
        expect(dialog.locator("#f-reason_error")).to_have_text(
            "A reason is missing; say why nobody may remove it."
        )
        expect(dialog.get_by_label("Protection", exact=True)).to_be_checked()
        with page.expect_response(looked_at):
            dialog.get_by_label("Reason", exact=True).fill("holds the ledger")
            page.keyboard.press("Tab")
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_have_count(0)
        expect(row(page, "protection")).to_contain_text(
            re.compile(r"Protected by admin since .*: holds the ledger\.")
        )

        page.locator("#menu-more").click()
        remove = page.get_by_role("menuitem", name=re.compile("^Remove"))
        expect(remove).to_have_attribute("aria-disabled", "true")
        expect(remove).to_have_attribute("title", re.compile("holds the ledger"))
        page.goto(f"/vms/{vmid}/ask/destroy")
        expect(page.locator(".ask .notice")).to_contain_text("holds the ledger")
    refused = house.qm("destroy", str(vmid))
    assert refused.returncode == 1
    assert "protection mode enabled" in refused.stderr


def test_tags_and_notes(house: House, operator: Page) -> None:
    vmid, page = make(house, start=False, config=CONFIG), operator
    with quiet(page):
        page.goto(f"/vms/{vmid}")
        page.get_by_label("Add a tag").click()
        page.get_by_label("New tag").fill("Prod")
        page.keyboard.press("Enter")
        tags = page.locator("#vm-head .tags")
        expect(tags).to_have_text("prod")
        page.get_by_label("Edit tags").click()
        page.get_by_role("button", name="Remove tag prod").click()
        expect(tags).to_have_text("")

        page.get_by_role("link", name="Edit notes").click()
        page.get_by_label("Markdown").fill("# Shop\n\n<script>alert(1)</script> **front**")
        preview = page.get_by_role("region", name="Preview")
        expect(preview.get_by_role("heading", name="Shop")).to_be_visible()
        expect(preview).to_contain_text("<script>alert(1)</script> front")
        page.get_by_role("button", name="Save").click()
        expect(page).to_have_url(re.compile(rf"/vms/{vmid}$"))
        expect(page.locator(".notes strong")).to_have_text("front")
