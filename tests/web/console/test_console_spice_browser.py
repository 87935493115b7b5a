"""A real guest's SPICE screen in a real browser: pixels, keys, the viewer file, and every end."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from consolekit import wait_for
from playwright.sync_api import Page, expect, sync_playwright
from spicekit import QEMU, SpiceGuest
from test_console_browser import rows, site, watched  # noqa: F401  (fixtures)

from vms.models import VM

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.qemu,
    pytest.mark.e2e,
    pytest.mark.skipif(not (CHROMIUM and QEMU), reason="needs chromium and QEMU"),
]

LIT = """() => {
  const canvas = document.querySelector("#spice-screen canvas");
  if (!canvas || !canvas.width) return 0;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let lit = 0;
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at] > 100) lit++;
  return lit;
}"""
FOCUSED = "document.activeElement === document.querySelector('#spice-screen canvas')"


def lit(page: Page) -> int:
    return int(page.evaluate(LIT))


def obeys(page: Page) -> None:
    """Escape opens SeaBIOS's boot menu: some thousand pixels more, where the blinking cursor has 18.

    What was on the screen before is the matter of ``test_console_spice_whole``. The key may come too early
    for the firmware, or close the menu again: also a change.
    """
    page.locator("#spice-screen canvas").click()
    wait_for("the keyboard", lambda: page.evaluate(FOCUSED))
    before = lit(page)

    def changed() -> bool:
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
        return abs(lit(page) - before) > 300

    wait_for("the boot menu", changed, 60)


def test_a_guests_spice_screen(desk: Any, site: str, rows: Any, tmp_path: Path) -> None:  # noqa: F811
    person = desk.person(superuser=True)
    vm = desk.vm(screen=False, options={"vga": "qxl"})
    machines = VM.everything.filter(pk=vm.pk)
    folder = desk.home / "run" / "vm" / str(vm.vmid)
    key, guest = person.key, SpiceGuest(folder, runs=True, vnc=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_cookies([{"name": "sessionid", "value": key, "url": site}])
            page = context.new_page()
            complaints = watched(page)
            state = page.get_by_role("toolbar", name="SPICE console").get_by_role("status").first
            page.goto(f"{site}/vms/{vm.vmid}/spice")
            expect(state).to_have_text("Connected", timeout=60_000)
            obeys(page)
            wait_for("the session and three channels", lambda: len(desk.server.registry.all()) == 4)

            page.keyboard.press("Control+Alt+Shift")
            expect(page.get_by_role("button", name="Ctrl-Alt-Del")).to_be_focused()
            page.get_by_role("button", name="Ctrl-Alt-Del").click()
            assert guest.event("RESET")["data"]["guest"] is True

            expect(page.get_by_role("button", name="Viewer file")).to_have_attribute("aria-disabled", "true")
            page.get_by_role("button", name="Scale").click()
            expect(page.get_by_role("button", name="Scale")).to_have_attribute("aria-pressed", "false")
            with page.expect_download() as download:
                page.get_by_role("button", name="Screenshot").click()
            download.value.save_as(tmp_path / "shot.png")
            assert (tmp_path / "shot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

            # A second page takes the screen over; the first one says so and does not fight for it.
            other = context.new_page()
            also = watched(other)
            other.goto(f"{site}/vms/{vm.vmid}/spice/window")
            expect(other.locator("[data-state][role=status]").first).to_have_text("Connected", timeout=60_000)
            expect(state).to_contain_text("took it over", timeout=60_000)
            other.close()
            page.get_by_role("button", name="Reconnect now").click()
            expect(state).to_have_text("Connected", timeout=60_000)

            guest.end()
            rows(machines.update, status=VM.Status.STOPPED)
            expect(state).to_have_text("Guest stopped", timeout=60_000)
            guest = SpiceGuest(folder, runs=True, vnc=True)
            rows(machines.update, status=VM.Status.RUNNING, run_id=uuid.uuid4().hex)
            expect(state).to_have_text("Connected", timeout=60_000)
            obeys(page)

            rows(person.client.session.flush)
            expect(state).to_have_text("Signed out", timeout=60_000)
            assert complaints + also == []
            browser.close()
    finally:
        guest.end()
