"""What a phone's screen shows: the outcome of a task, every verb, menus and dialogs that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hands import quiet
from house import House
from machines import make
from playwright.sync_api import Browser, Locator, Page, expect

WIDTH, HEIGHT = 390, 844
PAGES = (
    "/",
    "/tasks",
    "/trash",
    "/storages",
    "/storage/local",
    "/backup-jobs",
    "/backup-jobs/new",
    "/vms/create",
)
BEYOND = """Math.max(...[document.documentElement, document.getElementById("main")]
  .map((part) => part.scrollWidth - part.clientWidth))"""
TABS = ("", "/hardware", "/options", "/cloudinit", "/backup", "/snapshots", "/tasks")


@pytest.fixture
def phone(browser: Browser, house: House, log_in: Callable[..., None]) -> Iterator[Page]:
    """A page of a phone, logged in."""
    context = browser.new_context(
        base_url=house.url, viewport={"width": WIDTH, "height": HEIGHT}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.set_default_timeout(10_000)
    log_in(page)
    yield page
    context.close()


def fits(part: Locator) -> None:
    """The part is there, and nothing of it lies beyond an edge of the screen."""
    expect(part).to_be_visible()
    expect(part).to_be_in_viewport(ratio=0.95)


def test_nothing_is_wider_than_the_screen(house: House, phone: Page) -> None:
    vmid = make(
        house,
        start=False,
        config={"name": "a-name-that-is-longer-than-a-phone-is-wide-by-far", "memory": "64"},
    )
    with quiet(phone):
        for address in (*PAGES, *(f"/vms/{vmid}{tab}" for tab in TABS)):
            phone.goto(address)
            assert phone.evaluate(BEYOND) <= 0, address


def test_what_matters_is_in_view(house: House, phone: Page) -> None:
    vmid = make(house, start=False, config={"name": "phone", "memory": "64", "scsi0": "local:1,format=qcow2"})
    with quiet(phone):
        phone.goto("/tasks")
        row = phone.get_by_role("row").filter(has_text=f"Create {vmid} (phone)")
        fits(row.get_by_text("OK", exact=True))

        phone.goto(f"/vms/{vmid}")
        bar = phone.get_by_role("toolbar", name=f"VM {vmid}")
        for name in ("Start", "Shutdown", "Console"):
            fits(bar.get_by_text(name, exact=True).first)
        bar.get_by_label("More", exact=True).click()
        fits(bar.get_by_role("menuitem", name="Remove"))
        fits(bar.get_by_role("menuitem", name="Duplicate as draft"))
        phone.keyboard.press("Escape")

        phone.goto(f"/vms/{vmid}/hardware")
        phone.get_by_label("What to do with Hard disk (scsi0)").click()
        fits(phone.get_by_role("menuitem", name="Detach"))

        phone.goto(f"/vms/{vmid}")
        bar.get_by_label("More", exact=True).click()
        bar.get_by_role("menuitem", name="Clone").click()
        dialog = phone.get_by_role("dialog")
        fits(dialog.get_by_role("button", name="Clone"))
        fits(dialog.get_by_role("link", name="Cancel"))
