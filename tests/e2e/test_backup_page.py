"""Backups by hand: made on a VM's page, looked at, restored under another number, started; and by a job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hands import state
from house import PASSWORD, USER, House
from playwright.sync_api import Browser, Locator, Page, expect

SLOW = 60_000
"""Milliseconds a task may take on a busy machine."""


@pytest.fixture(scope="module")
def machine(house: House) -> Iterator[int]:
    """A machine with a disk that is off; once started its processor stands still and costs nothing."""
    words = ["--memory", "32", "--vga", "none", "--freeze", "1", "--scsi0", "local:0.0625"]
    done = house.qm("create", "940", "--name", "precious", *words)
    assert done.returncode == 0, done.stderr
    yield 940
    for vmid in ("940", "941"):
        house.qm("stop", vmid)
        house.qm("destroy", vmid, "--now")


def rows(page: Page) -> Locator:
    """The backups in the list."""
    return page.locator("#backups .bk")


def more(page: Page, what: str) -> None:
    """A line of the first backup's menu."""
    rows(page).first.locator("summary").click()
    rows(page).first.get_by_role("menuitem", name=what).click()


def test_backed_up_restored_and_started(operator: Page, machine: int) -> None:
    page, dialog = operator, operator.get_by_role("dialog")
    page.goto(f"/vms/{machine}/backup")
    expect(page.get_by_text("No backups yet")).to_be_visible()
    page.get_by_role("button", name="Backup now").click()
    expect(dialog).to_contain_text("scsi0", timeout=SLOW)
    dialog.get_by_label("Notes").fill("by hand: {{guestname}}")
    dialog.get_by_role("button", name="Backup now").click()
    expect(dialog).to_have_count(0, timeout=SLOW)
    expect(rows(page)).to_contain_text("by hand: precious", timeout=SLOW)
    more(page, "Show configuration")
    expect(dialog.locator("pre")).to_contain_text("name: precious", timeout=SLOW)
    dialog.get_by_text("Close").click()
    more(page, "Verify")
    expect(rows(page).get_by_text("verified", exact=True)).to_be_visible(timeout=SLOW)
    more(page, "Protect")
    expect(rows(page).get_by_text("protected", exact=True)).to_be_visible(timeout=SLOW)
    rows(page).get_by_role("button", name="Restore").click()
    expect(dialog).to_contain_text("64 MiB", timeout=SLOW)
    dialog.get_by_label("VM ID", exact=True).fill("941")
    dialog.get_by_label("Unique").check()
    dialog.get_by_label("Start it afterwards").check()
    dialog.get_by_role("button", name="Restore").click()
    page.wait_for_url("**/tasks/*", timeout=SLOW)
    expect(page.get_by_text("TASK OK")).to_be_visible(timeout=SLOW)
    page.goto("/vms/941")
    expect(state(page)).to_have_text("Not started yet", timeout=SLOW)


def test_in_place_wants_the_number_typed(operator: Page, machine: int) -> None:
    page, dialog = operator, operator.get_by_role("dialog")
    page.goto(f"/vms/{machine}/backup")
    rows(page).get_by_role("button", name="Restore").click()
    expect(dialog).to_contain_text("64 MiB", timeout=SLOW)
    dialog.get_by_text(f"In place of VM {machine}").click()
    expect(dialog).to_contain_text("is replaced and deleted")
    dialog.get_by_role("button", name="Restore").click()
    expect(dialog).to_contain_text(f"type {machine} to confirm", timeout=SLOW)
    dialog.get_by_label("to replace that VM").fill(str(machine))
    dialog.get_by_role("button", name="Restore").click()
    page.wait_for_url("**/tasks/*", timeout=SLOW)
    expect(page.get_by_text("TASK OK")).to_be_visible(timeout=SLOW)


def test_a_job_made_by_hand_runs(operator: Page, machine: int) -> None:
    page = operator
    page.goto("/backup-jobs/new")
    page.get_by_role("textbox", name="Name").fill("by-hand")
    page.get_by_role("textbox", name="Schedule").fill("sat 02:00")
    preview = page.locator("#job-preview")
    expect(preview.locator("time").nth(1)).to_contain_text("Sat", timeout=SLOW)
    page.get_by_label("These VMs", exact=True).check()
    page.get_by_label(f"{machine} precious").check()
    page.get_by_label("Last", exact=True).fill("1")
    expect(preview).to_contain_text("0 of 1", timeout=SLOW)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("link", name="by-hand")).to_be_visible()
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#backup-jobs .job").get_by_text("OK", exact=True)).to_be_visible(timeout=SLOW)
    page.goto(f"/vms/{machine}/backup")
    expect(rows(page)).to_have_count(2, timeout=SLOW)


def test_without_scripts(browser: Browser, house: House, machine: int) -> None:
    context = browser.new_context(base_url=house.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/login")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"/vms/{machine}/backup")
    more(page, "Edit notes")
    page.get_by_role("textbox", name="Notes").fill("typed by hand")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#toasts")).to_contain_text("requested")
    page.goto("/backup-jobs")
    page.get_by_role("link", name="by-hand").click()
    page.get_by_role("textbox", name="Schedule").fill("25:00")
    page.get_by_role("button", name="Check only").click()
    expect(page.locator("#field-schedule")).to_contain_text("goes from 0 to 23")
    context.close()
