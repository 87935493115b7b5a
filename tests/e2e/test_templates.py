"""From a machine to a template to its clones, as a person goes that way in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hands import quiet, state, stop, tree_row
from house import House
from machines import SMALL, make, tasks_of
from playwright.sync_api import Browser, Page, expect


def more(page: Page, item: str) -> None:
    """Choose from the More menu of the machine's page."""
    page.get_by_role("toolbar", name=re.compile("^VM ")).get_by_text("More", exact=True).click()
    page.get_by_role("menuitem", name=item).click()


def test_a_template_and_a_clone_from_the_wizards_first_step(
    house: House, operator: Page, screenshot: Callable[..., Path]
) -> None:
    """Converted, cloned from *Create VM*, started: the clone runs, and the template cannot be removed."""
    page, source = operator, make(house, start=False, config={**SMALL, "name": "golden"})
    with quiet(page):
        page.goto(f"/vms/{source}")
        more(page, "Convert to template")
        page.get_by_role("dialog").get_by_role("button", name="Convert to template").click()
        expect(state(page)).to_have_text("Template", timeout=20_000)
        bar = page.get_by_role("toolbar", name=f"VM {source}")
        expect(bar.get_by_role("button", name="Start")).to_have_count(0)
        page.reload()
        expect(page.get_by_role("link", name="Console")).to_have_count(0)

        page.get_by_role("banner").get_by_role("link", name="Create VM").click()
        row = page.get_by_role("row").filter(has_text="golden")
        row.get_by_role("button", name=f"Clone template {source}").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Linked clone")).to_be_checked()
        expect(dialog.get_by_text("Target storage")).to_be_hidden()
        vmid = int(dialog.get_by_label("VM ID").input_value())
        dialog.get_by_label("Name").fill("twin")
        dialog.get_by_label("VM ID").fill(str(source))
        dialog.get_by_role("button", name="Clone").click()
        expect(dialog.get_by_text(f"VM {source} already exists")).to_be_visible()
        dialog.get_by_label("VM ID").fill(str(vmid))
        screenshot("clone-dialog")
        dialog.get_by_role("button", name="Clone").click()
        try:
            expect(page).to_have_url(re.compile(rf"/vms/{vmid}$"), timeout=20_000)
        except AssertionError as error:
            raise AssertionError(tasks_of(house)) from error
        expect(tree_row(page, vmid)).to_contain_text("twin")
        page.get_by_role("toolbar", name=f"VM {vmid}").get_by_role("button", name="Start").click()
        expect(state(page)).to_have_text("Running", timeout=30_000)
    folder = house.home / "local" / "images" / str(vmid)
    assert sum(path.stat().st_blocks * 512 for path in folder.iterdir()) < 1 << 20
    assert "still in use" in house.qm("destroy", str(source)).stderr
    stop(page)


def test_without_javascript_a_clone_is_a_form(
    house: House, browser: Browser, log_in: Callable[..., None]
) -> None:
    """The same questions on a page; an error keeps what was typed; the clone's page is the end."""
    source = make(house, start=False, config={**SMALL, "name": "plain-source"})
    context = browser.new_context(base_url=house.url, java_script_enabled=False)
    page = context.new_page()
    log_in(page)
    page.goto(f"/vms/{source}")
    page.get_by_text("More", exact=True).click()
    page.get_by_role("menuitem", name="Clone").click()
    expect(page).to_have_url(re.compile(rf"/vms/{source}/clone$"))
    expect(page.get_by_label("Linked clone")).to_be_disabled()
    page.get_by_label("Name", exact=True).fill("two words")
    vmid = int(page.get_by_label("VM ID").input_value())
    clone = page.get_by_role("region", name=re.compile("^Clone VM")).get_by_role("button", name="Clone")
    clone.click()
    expect(page.get_by_role("alert")).to_contain_text("two words")
    page.get_by_label("Name", exact=True).fill("copied")
    page.get_by_label("Format", exact=True).select_option("raw")
    clone.click()
    expect(page).to_have_url(re.compile(r"/(clones/\d+|vms/\d+)$"))
    while "/clones/" in page.url:
        page.get_by_role("link", name="Look again").click()
    expect(page).to_have_url(re.compile(rf"/vms/{vmid}$"))
    assert "scsi0: local:" in house.qm("config", str(vmid)).stdout
    assert ".raw," in house.qm("config", str(vmid)).stdout
    context.close()
