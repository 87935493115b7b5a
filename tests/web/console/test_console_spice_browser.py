"""A real guest's SPICE screen in a real browser: pixels, keys, the viewer file, and every end."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consolekit import wait_for
from playwright.sync_api import Page, expect, sync_playwright
from spicekit import CHROMIUM, IN_A_BROWSER, SpiceGuest
from test_console_browser import rows, site, watched  # noqa: F401  (fixtures)

from console.models import KeyCombination
from vms.models import VM

pytestmark = IN_A_BROWSER

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


def by_the_keys_menu(page: Page, guest: SpiceGuest) -> None:
    """The user's own combination, and keys held down while the keyboard gives the last one."""
    menu = page.locator("[data-keys-menu]")

    def own() -> None:
        menu.locator("summary").click()
        menu.get_by_role("button", name="Once more").click()
        expect(menu.get_by_role("button", name="Once more")).to_be_hidden()

    def toggled(pressed: str) -> None:
        menu.locator("summary").click()
        for name in ("Ctrl", "Alt"):
            button = menu.get_by_role("button", name=name, exact=True)
            button.click()
            expect(button).to_have_attribute("aria-pressed", pressed)
        menu.locator("summary").click()

    def held() -> None:
        toggled("true")
        page.locator("#spice-screen canvas").click()
        wait_for("the keyboard", lambda: page.evaluate(FOCUSED))
        page.keyboard.press("Delete")
        toggled("false")

    resets(guest, page, own)
    resets(guest, page, held)
    menu.locator("summary").click()
    expect(menu.get_by_role("link", name="Change them")).to_have_attribute("href", "/console/keys")
    menu.locator("summary").click()


def resets(guest: SpiceGuest, page: Page, press: Callable[[], None]) -> None:
    """Press until the guest's firmware listens, and does what Ctrl-Alt-Del asks for."""
    guest.command("query-status")
    guest.events.clear()

    def heard() -> bool:
        press()
        page.wait_for_timeout(200)
        guest.command("query-status")
        return any(each.get("event") == "RESET" and each["data"]["guest"] for each in guest.events)

    wait_for("a reset", heard, 60)


def test_a_guests_spice_screen(desk: Any, site: str, rows: Any, tmp_path: Path) -> None:  # noqa: F811
    person = desk.person(superuser=True)
    vm = desk.vm(screen=False, options={"vga": "qxl"})
    KeyCombination.objects.create(user=person.user, label="Once more", keys="ctrl-alt-delete")
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
            context.route("**/screenshot", lambda route: route.abort())  # no worker is here to draw one
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
            by_the_keys_menu(page, guest)
            page.locator("[data-typing]").focus()
            page.keyboard.insert_text("é")
            expect(page.locator("[data-lost]")).to_contain_text("Type text knows other layouts")

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


PARTS = """async () => {
  const { Clipboard } = await import("/static/js/spice-clipboard.js");
  const { fingers } = await import("/static/js/spice-touch.js");
  const said = [], heard = [], done = [];
  const clip = new Clipboard((type, bytes) => said.push([type, ...bytes]), (text) => heard.push(text));
  const message = (type, ...rest) =>
    Uint8Array.of(1, 0, 0, 0, type, 0, 0, 0, ...Array(8).fill(0), rest.length, 0, 0, 0, ...rest);
  const feed = (...parts) => parts.flatMap((part) => clip.feed(part.buffer)).map((each) => clip.took(each));
  const whole = message(4, 1, 0, 0, 0, 195, 169, 13, 10);
  const took = [
    feed(message(6, 1, 0, 0, 0, 0, 2, 0, 0)), feed(message(7, 1, 0, 0, 0)),
    feed(whole.slice(0, 21), whole.slice(21, 26), whole.slice(26)),
  ];
  clip.offer("a\\n");
  took.push(feed(message(6, 0, 0, 0, 0, 0, 2, 0, 0)), feed(message(8, 1, 0, 0, 0)));

  const canvas = document.createElement("canvas");
  document.body.append(canvas);
  const note = (name) => [name, (what) => done.push(name + (what?.clientX ?? what))];
  const mouse = Object.fromEntries(["move", "press", "release", "wheel"].map(note));
  let scaled = true;
  fingers(canvas, mouse, () => scaled);
  const touch = (type, ...places) => {
    const touched = ([x, y], identifier) => new Touch({ identifier, target: canvas, clientX: x, clientY: y });
    const event = new TouchEvent(type, { touches: places.map(touched), cancelable: true });
    canvas.dispatchEvent(event);
    return event.defaultPrevented;
  };
  const calls = [];
  const next = () => calls.push(done.splice(0).join(" "));
  const gesture = (...steps) => { for (const [type, ...places] of steps) touch(type, ...places); next(); };
  const start = ["touchstart", [5, 5]], second = ["touchstart", [5, 5], [9, 5]], end = ["touchend"];
  gesture(start, end);
  gesture(start, ["touchmove", [8, 5]], ["touchmove", [40, 5]], end);
  gesture(start, second, ["touchend", [5, 5]], end);
  gesture(second, ["touchmove", [5, 70], [9, 70]], ["touchmove", [5, 39], [9, 39]], end);
  touch("touchstart", [5, 5]);
  while (!done.includes("release2")) await new Promise((shown) => setTimeout(shown, 20));
  touch("touchend"); next();
  scaled = false;
  calls.push(touch("touchstart", [5, 5]));

  const { bitmap, copy } = await import("/static/js/spice-draw.js");
  const rest = [99, 99, 99, 99], rows = [1, 2, 3, 0, 4, 5, 6, 0, ...rest, 7, 8, 9, 0, 10, 11, 12, 0, ...rest];
  const image = bitmap({ format: 8, flags: 0, x: 2, y: 2, stride: 12, data: Uint8Array.from(rows).buffer });
  const context = document.createElement("canvas").getContext("2d");
  const rects = { rects: [{ left: 0, top: 2, right: 9, bottom: 9 }] };
  const base = { box: { left: 1, top: 1, right: 2, bottom: 3 }, clip: { type: 1, rects } };
  copy(context, image, base, { left: 1, top: 0, right: 2, bottom: 2 }, true);
  const put = [...context.getImageData(0, 0, 3, 4).data].filter((_, at) => at % 4 === 0);
  return { said, heard, took, calls, picture: [...image.data], put };
}"""


def test_texts_fingers_and_pictures(desk: Any, site: str) -> None:  # noqa: F811
    """What the page says to an agent, does with touches, and draws of a driver's: no guest here has one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--touch-events=enabled"]
        )
        page = browser.new_page()
        page.goto(f"{site}/login")
        found = page.evaluate(PARTS)
        browser.close()
    assert found["took"] == [[False], [True], [True], [False], [True]], "capabilities are the client's own"
    assert found["said"] == [[8, 1, 0, 0, 0], [7, 1, 0, 0, 0], [4, 1, 0, 0, 0, *b"a\r\n"]], (
        "as Windows ends a line"
    )
    assert found["heard"] == ["é\n"]
    assert found["picture"] == [9, 8, 7, 255, 12, 11, 10, 255, 3, 2, 1, 255, 6, 5, 4, 255], "last row first"
    assert found["put"] == [0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0], "a part, of which a part is clipped"
    assert found["calls"] == [
        "move5 press0 release0", "move5 press0 move40 release0", "move5 press2 release2",
        "wheeltrue wheeltrue wheelfalse", "move5 press2 release2", False,
    ]  # fmt: skip
