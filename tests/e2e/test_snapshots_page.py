"""Snapshots and hibernation by hand: dialogs, the tree that follows, and the way without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hands import state
from house import PASSWORD, USER, House
from playwright.sync_api import Browser, Locator, Page, expect

SLOW = 60_000
"""Milliseconds a task may take on a busy machine."""


@pytest.fixture(scope="module")
def machine(house: House) -> Iterator[int]:
    """A machine with a disk whose processor stands still: everything is open, nothing runs."""
    words = ["--memory", "32", "--vga", "none", "--freeze", "1", "--scsi0", "local:0.0625", "--start", "1"]
    done = house.qm("create", "930", "--name", "snappy", *words)
    assert done.returncode == 0, done.stderr
    yield 930
    house.qm("stop", "930")
    assert house.qm("destroy", "930", "--now").returncode == 0


def row(page: Page, name: str) -> Locator:
    """A line of the tree."""
    return page.locator(".snap").filter(has=page.locator(".name", has_text=re.compile(rf"^\s*{name}")))


def test_taken_gone_back_to_and_removed(operator: Page, machine: int) -> None:
    page = operator
    page.goto(f"/vms/{machine}/snapshots")
    page.get_by_role("button", name="Take snapshot").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Include RAM")).to_be_checked()
    dialog.get_by_label("Name").fill("with-memory")
    dialog.get_by_label("Description").fill("the first")
    dialog.get_by_role("button", name="Take snapshot").click()
    expect(dialog).to_have_count(0)
    expect(row(page, "with-memory").locator(".ram")).to_be_visible(timeout=SLOW)
    expect(row(page, "with-memory")).to_contain_text("the first")
    page.get_by_role("button", name="Take snapshot").first.click()
    dialog.get_by_label("Name").fill("with-memory")
    dialog.get_by_role("button", name="Take snapshot").click()
    expect(dialog).to_contain_text("Name: snapshot name 'with-memory' already used")
    dialog.get_by_label("Name").fill("second")
    dialog.get_by_label("Include RAM").uncheck()
    dialog.get_by_role("button", name="Take snapshot").click()
    expect(row(page, "second")).to_contain_text("disks", timeout=SLOW)
    row(page, "with-memory").get_by_role("button", name="Roll back").click()
    expect(dialog).to_contain_text("What came after it is lost")
    expect(dialog).to_contain_text("1 later snapshot stays")
    dialog.get_by_role("button", name="Roll back").click()
    # It ran before, too: its end is told by the log, and an open menu would keep what it said of the lock.
    ended = re.compile(r"back to with-memory.*OK", re.DOTALL)
    expect(page.locator("#task-log-summary")).to_contain_text(ended, timeout=SLOW)
    expect(state(page)).to_have_text("Running", timeout=SLOW)
    expect(row(page, "with-memory").get_by_role("button", name="Roll back")).to_be_enabled(timeout=SLOW)
    row(page, "second").get_by_label("More about second").click()
    row(page, "second").get_by_role("menuitem", name="Remove").click()
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Remove").click()
    expect(row(page, "second")).to_have_count(0, timeout=SLOW)
    names = [" ".join(text.split()) for text in page.locator(".snap .name").all_inner_texts()]
    assert names == ["with-memory", "Now , comes from with-memory"]


def test_hibernated_and_woken(operator: Page, machine: int) -> None:
    page = operator
    page.goto(f"/vms/{machine}")
    page.get_by_label("More ways to stop").click()
    page.get_by_role("menuitem", name="Hibernate").click()
    expect(state(page)).to_have_text("Suspended", timeout=SLOW)
    expect(page.locator("#tree").get_by_text("snappy")).to_be_visible()
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(state(page)).to_have_text("Running", timeout=SLOW)


def test_without_scripts(browser: Browser, house: House, machine: int) -> None:
    context = browser.new_context(base_url=house.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/login")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"/vms/{machine}/snapshots")
    row(page, "with-memory").get_by_label("More about with-memory").click()
    row(page, "with-memory").get_by_role("menuitem", name="Edit description").click()
    page.get_by_role("textbox", name="Description").fill("typed by hand")
    page.get_by_role("button", name="Save").click()
    expect(row(page, "with-memory")).to_contain_text("typed by hand")
    context.close()
