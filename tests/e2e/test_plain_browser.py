"""A draft survives its browser; without JavaScript login, machine page and wizard still work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from hands import Wizard, quiet, until
from house import PASSWORD, USER, House
from machines import SMALL, make
from playwright.sync_api import Browser, Page, expect


@pytest.fixture
def plain(browser: Browser, house: House) -> Iterator[Page]:
    """A browser with JavaScript off."""
    context = browser.new_context(base_url=house.url, java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_a_draft_survives_its_browser(
    browser: Browser, house: House, log_in: Callable[..., None], page: Page
) -> None:
    """Closed in the middle of the wizard, even with a field just changed; found again from the list."""
    first = browser.new_context(base_url=house.url)
    sheet = first.new_page()
    log_in(sheet)
    sheet.goto("/")
    wizard = Wizard(sheet).begin().fill("Name", "half-done")
    number = wizard.vmid
    wizard.next()
    sheet.get_by_label("Do not use any media").check()
    wizard.next().next()
    wizard.fill("Disk size (GiB)", "7").choose("Cache", "Write back")
    first.close()

    log_in(page)
    with quiet(page):
        page.goto("/")
        page.get_by_role("banner").get_by_role("link", name="Create VM").click()
        row = page.get_by_role("row").filter(has_text="half-done")
        expect(row).to_contain_text(str(number))
        row.get_by_role("link", name=f"Resume draft {number}").click()
        again = Wizard(page).on("disks")
        assert again.vmid == number
        expect(page.get_by_label("Disk size (GiB)")).to_have_value("7")
        expect(page.get_by_label("Cache", exact=True)).to_have_value("writeback")
        page.get_by_role("button", name=re.compile("^General")).click()
        again.on("general")
        expect(page.get_by_label("Name", exact=True)).to_have_value("half-done")
        page.get_by_text("Discard draft", exact=True).click()
        page.get_by_role("button", name=f"Discard draft {number}").click()
        expect(page).to_have_url(re.compile("/vms/create$"))
        expect(page.get_by_text("half-done")).to_have_count(0)


def test_without_javascript(house: House, plain: Page) -> None:
    vmid = make(house, start=False, config={**SMALL, "name": "plain"})
    plain.goto(f"/vms/{vmid}")
    plain.get_by_label("User name").fill(USER)
    plain.get_by_label("Password").fill(PASSWORD)
    plain.get_by_role("button", name="Log in").click()
    expect(plain).to_have_url(f"/vms/{vmid}")
    expect(plain.get_by_role("heading", name=f"{vmid} plain")).to_be_visible()

    plain.get_by_role("toolbar", name=f"VM {vmid}").get_by_role("button", name="Start").click()
    expect(plain.get_by_text("Start requested.")).to_be_visible()
    until(lambda: house.guest_pid(vmid), "the machine runs", 20)
    until(lambda: "Running" in text_of(plain, f"/vms/{vmid}"), "the page says so", 20)
    plain.get_by_role("navigation", name="Pages of VM").get_by_role("link", name="Hardware").click()
    expect(plain.get_by_role("main")).to_contain_text("VirtIO SCSI")
    plain.goto(f"/vms/{vmid}/ask/stop")
    plain.get_by_role("main").get_by_role("button", name="Stop").click()
    until(lambda: "Stopped" in text_of(plain, f"/vms/{vmid}"), "it stopped", 20)
    wizard_without_javascript(plain)
    assert house.qm("destroy", str(vmid), "--now").returncode == 0


def wizard_without_javascript(page: Page) -> None:
    """Whole forms, one button at a time; an error stands on its field with what was typed."""
    page.goto("/vms/create")
    page.get_by_role("button", name="Start a new draft").click()
    page.get_by_label("Name", exact=True).fill("web_01")
    page.get_by_role("button", name="Next").click()
    expect(page).to_have_url(re.compile("/general"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("web_01")
    expect(page.locator("#field-name .error")).to_contain_text("use '-'")
    page.get_by_label("Name", exact=True).fill("web-01")
    page.get_by_role("button", name="Next").click()
    expect(page).to_have_url(re.compile("/os"))
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("web-01")


def text_of(page: Page, address: str) -> str:
    page.goto(address)
    return page.get_by_role("main").inner_text()
