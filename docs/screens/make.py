"""Draw the pictures of these pages anew: a real product, a real guest, Debian's Chromium.

    python docs/screens/make.py [--only NAME …]

Starts the product in a home of its own, walks through the wizard with memtest86+'s ISO, starts the machine
and saves every page, dark and light, as PNG of 256 colours beside this file. Needs what the tests need.
"""

from __future__ import annotations

import argparse
import base64
import re
import signal
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from hands import Wizard, look, open_console, state, until  # noqa: E402
from house import PASSWORD, USER, House  # noqa: E402
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

MEMTEST = Path("/usr/lib/memtest86+/memtest86+x64.iso")
WINDOW = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
CONTENT = {"general": ("Name", "web-01"), "memory": ("Memory", "1024"), "disks": ("Disk size (GiB)", "20")}


class Camera:
    """Saves pages; ``only`` restricts it to some names."""

    def __init__(self, only: Sequence[str]) -> None:
        self.only = only
        self.saved = 0

    def take(self, page: Page, name: str) -> None:
        """Dark and light, one after the other, of the same page."""
        if self.only and name not in self.only:
            return
        page.evaluate("document.querySelectorAll('.toast').forEach((each) => each.remove())")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.wait_for_timeout(150)
            target = HERE / f"{name}-{scheme}.png"
            target.write_bytes(small(page, page.screenshot()))
            self.saved += target.stat().st_size
            print(f"{target.name:28}{target.stat().st_size / 1024:7.0f} KiB")
        page.emulate_media(color_scheme="light")


def small(page: Page, png: bytes) -> bytes:
    """The picture with the 256 colours that matter most (a page has few); the browser itself decodes it."""
    pixels = page.evaluate(
        """async (bytes) => {
          const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), brush = canvas.getContext("2d");
          brush.drawImage(bitmap, 0, 0);
          const data = brush.getImageData(0, 0, bitmap.width, bitmap.height).data, counts = new Map();
          const colours = new Uint32Array(bitmap.width * bitmap.height);
          for (let at = 0; at < colours.length; at++) {
            const colour = data[4 * at] << 16 | data[4 * at + 1] << 8 | data[4 * at + 2];
            colours[at] = colour;
            counts.set(colour, (counts.get(colour) ?? 0) + 1);
          }
          const part = (colour, shift) => colour >> shift & 255;
          // A small green mark says more than the many greys around letters.
          const weight = ([colour, count]) => {
            const parts = [16, 8, 0].map((shift) => part(colour, shift));
            return count * (8 + Math.max(...parts) - Math.min(...parts));
          };
          const heaviest = [...counts].sort((a, b) => weight(b) - weight(a)).slice(0, 256);
          const kept = heaviest.map(([colour]) => colour);
          const place = new Map(kept.map((colour, index) => [colour, index]));
          const far = (a, b) => [16, 8, 0].reduce((sum, at) => sum + (part(a, at) - part(b, at)) ** 2, 0);
          for (const colour of counts.keys()) if (!place.has(colour)) {
            let best = 0;
            for (let index = 1; index < kept.length; index++)
              if (far(kept[index], colour) < far(kept[best], colour)) best = index;
            place.set(colour, best);
          }
          let text = "";
          for (const colour of colours) text += String.fromCharCode(place.get(colour));
          return { width: bitmap.width, height: bitmap.height, palette: kept, rows: btoa(text) };
        }""",
        list(png),
    )
    return encoded(pixels["width"], pixels["height"], pixels["palette"], pixels["rows"])


def encoded(width: int, height: int, palette: list[int], rows: str) -> bytes:
    """An indexed PNG (RFC 2083) of one byte a pixel."""
    body = base64.b64decode(rows)
    lines = b"".join(b"\0" + body[row * width : (row + 1) * width] for row in range(height))
    colours = b"".join(colour.to_bytes(3, "big") for colour in palette)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", colours),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@contextmanager
def running() -> Iterator[House]:
    """The product with memtest86+ in its library."""
    house = House()
    try:
        house.start()
        yield house
    finally:
        house.close()


def tour(browser: Browser, house: House, camera: Camera) -> None:
    """From the login to a machine that runs, a picture of each page on the way."""
    page = browser.new_page(base_url=house.url, viewport=WINDOW)  # type: ignore[arg-type]
    page.goto("/login")
    camera.take(page, "login")
    page.get_by_label("User name").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto("/storage/local")
    page.get_by_label("Upload an ISO").set_input_files(MEMTEST)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("cell", name=MEMTEST.name)).to_be_visible(timeout=30_000)
    camera.take(page, "storage")
    vmid = wizard(page, camera)
    expect(state(page)).to_have_text("Running", timeout=30_000)
    camera.take(page, "vm-summary")
    machine(page, house, vmid, camera)
    phone = browser.new_context(
        base_url=house.url,
        viewport=PHONE,
        storage_state=page.context.storage_state(),  # type: ignore[arg-type]
    )
    small_page = phone.new_page()
    small_page.goto(f"/vms/{vmid}")
    camera.take(small_page, "phone")


def wizard(page: Page, camera: Camera) -> int:
    """Every tab, filled in, then Create; answers the VM ID."""
    hand = Wizard(page).begin()
    while True:
        tab = hand.tab
        if tab in CONTENT:
            hand.fill(*CONTENT[tab])
        if tab == "os":
            hand.choose("ISO image", MEMTEST.name)
        page.wait_for_timeout(300)
        camera.take(page, f"wizard-{tab}")
        if tab == "confirm":
            return hand.create(start=True)
        hand.next()


def machine(page: Page, house: House, vmid: int, camera: Camera) -> None:
    """The machine's pages, its screen, two backups, the lists and its node."""
    open_console(page)
    until(lambda: look(page)["blue"] > 0.5, "memtest86+ is on the screen", 60, page)
    page.wait_for_timeout(3000)  # let its lines fill
    camera.take(page, "vm-console")
    for tab in ("hardware", "options", "tasks"):
        page.goto(f"/vms/{vmid}/{tab}")
        page.wait_for_timeout(300)
        camera.take(page, f"vm-{tab}")
    for notes in ("before the kernel update", "{{guestname}}"):
        words = ("--compress", "zstd", "--notes-template", notes)
        backed_up = house.qm(str(vmid), *words, program="vzdump")
        assert backed_up.returncode == 0, backed_up.stderr  # noqa: S101
    page.goto(f"/vms/{vmid}/backup")
    expect(page.get_by_text("before the kernel update")).to_be_visible(timeout=30_000)
    camera.take(page, "vm-backup")
    page.goto("/")
    camera.take(page, "dashboard")
    page.locator("#tree").get_by_role("link", name=re.compile(".")).first.wait_for()
    page.locator("#tree a[href^='/nodes/']").first.click()
    page.wait_for_timeout(300)
    camera.take(page, "node")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", default=(), help="names of the pictures to draw, such as wizard-os"
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the product ends with us
    camera = Camera(parser.parse_args().only)
    with running() as house, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        tour(browser, house, camera)
        browser.close()
    print(f"{camera.saved / (1 << 20):.2f} MiB in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
