"""A qxl card in text mode: the page shows all of QEMU's own picture, also what QEMU no longer sends."""

from __future__ import annotations

import base64
from typing import Any

from consolekit import wait_for
from playwright.sync_api import BrowserContext, Page, Route, expect, sync_playwright
from spicekit import CHROMIUM, IN_A_BROWSER, SpiceGuest
from test_console_browser import rows, site, watched  # noqa: F401  (fixtures)

pytestmark = IN_A_BROWSER

PIXELS = """() => {
  const canvas = document.querySelector("#spice-screen canvas");
  if (!canvas) return null;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const found = [], part = (at) => data.subarray(at, at + 0x8000);
  for (let at = 0; at < data.length; at += 0x8000) found.push(String.fromCharCode(...part(at)));
  return [canvas.width, canvas.height, btoa(found.join(""))];
}"""
CURSOR = 18
"""Pixels of the text cursor, which blinks between two pictures."""
FORGOTTEN = 200
"""Pixels of the firmware's text that must be missing in what QEMU sends, of about 1500."""


def shown(page: Page) -> tuple[int, int, bytes]:
    """What the page has drawn, as :meth:`SpiceGuest.picture` has it."""
    found = page.evaluate(PIXELS)
    if found is None:
        return 0, 0, b""
    data = base64.b64decode(found[2])
    colours = bytearray(len(data) // 4 * 3)
    for colour in range(3):
        colours[colour::3] = data[colour::4]
    return found[0], found[1], bytes(colours)


def differing(page: Page, guest: SpiceGuest) -> int:
    """Pixels that are others on the page than in QEMU's own picture; all of them when the sizes are."""
    (*page_size, here), (*size, there) = shown(page), guest.picture()
    if page_size != size:
        return len(there) // 3
    return sum(here[at : at + 3] != there[at : at + 3] for at in range(0, len(there), 3))


def lit(guest: SpiceGuest) -> int:
    return sum(value > 100 for value in guest.picture()[2][::3])


def stands(guest: SpiceGuest) -> None:
    """The firmware has found nothing to start, and draws no more."""
    before = -1

    def still() -> bool:
        nonlocal before
        last, before = before, lit(guest)
        return before > 1000 and abs(last - before) <= CURSOR

    wait_for("the firmware's last words", still, 60)


def whole(page: Page, guest: SpiceGuest) -> None:
    """All of it, to the pixel: the cursor is where it should be in one of some pictures."""
    wait_for("the whole screen", lambda: differing(page, guest) == 0, 60)


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    expect(page.locator(".console-state")).to_have_text("Connected", timeout=60_000)
    return page


def blind(context: BrowserContext, address: str) -> Page:
    """A page whose look at QEMU's own picture is refused: it has what SPICE sends, and says so."""

    def refuse(route: Route) -> None:
        asked = route.request.post_data or ""
        route.abort() if "\r\nvnc\r\n" in asked else route.continue_()

    context.route("**/console/ticket", refuse)
    page = opened(context, address)
    expect(page.locator("[data-unsure]")).to_contain_text("may be missing here", timeout=30_000)
    expect(page.locator("[data-unsure]").get_by_role("link", name="noVNC console")).to_be_visible()
    context.unroute("**/console/ticket")
    return page


def forgetful(context: BrowserContext, address: str, guest: SpiceGuest) -> None:
    """Reset the guest until QEMU leaves out what it drew; a look in between is part of the way there."""
    for _ in range(20):
        guest.command("system_reset")
        stands(guest)
        page = blind(context, address)
        missing = differing(page, guest)
        page.close()
        if missing > FORGOTTEN:
            return
    raise AssertionError("QEMU sends everything: this test proves nothing any more")


def test_nothing_is_missing_of_a_text_that_stands_still(desk: Any, site: str) -> None:  # noqa: F811
    person = desk.person(superuser=True)
    vm = desk.vm(screen=False, options={"vga": "qxl"})
    guest = SpiceGuest(desk.home / "run" / "vm" / str(vm.vmid), runs=True, vnc=True)
    address = f"{site}/vms/{vm.vmid}/spice"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_cookies([{"name": "sessionid", "value": person.key, "url": site}])
            stands(guest)
            forgetful(context, address, guest)

            page = opened(context, address)
            complaints = watched(page)
            whole(page, guest)
            expect(page.locator("[data-unsure]")).to_be_hidden()
            window = opened(context, f"{address}/window")
            whole(window, guest)
            window.close()
            page.get_by_role("button", name="Reconnect now").click()
            whole(page, guest)

            guest.command("stop")
            page.reload()
            whole(page, guest)
            guest.command("cont")
            guest.command("system_reset")
            stands(guest)
            whole(page, guest)
            page.keyboard.press("Escape")
            whole(page, guest)
            wait_for("the looks have ended", lambda: len(desk.server.registry.all()) == 4)
            assert complaints == []
            browser.close()
    finally:
        guest.end()
