"""A real QEMU's screen in a real browser, through uvicorn, the mux, the proxy and the ticket."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from consolekit import reached, wait_for
from playwright.sync_api import Page, expect, sync_playwright

from console.mux import ConsoleMux
from vms.models import VM

CHROMIUM = shutil.which("chromium")
QEMU = shutil.which("qemu-system-x86_64")
pytestmark = [pytest.mark.qemu, pytest.mark.e2e]

BRIGHT = """() => {
  const canvas = document.querySelector("#console canvas");
  if (!canvas || !canvas.width) return 0;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let bright = 0;
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at] > 100) bright++;
  return bright;
}"""

PRESS = """async () => {
  const keys = await import("/static/js/console-keys.js"), said = [];
  const rfb = { sendKey: (symbol, code, down) =>
    said.push(`${down === undefined ? "" : down ? "+" : "-"}${code ?? "symbol " + symbol}`) };
  for (const each of "A>/\u00e9\\n") keys.character(rfb, each);
  keys.chord(rfb, ["ControlLeft", "AltLeft", "F2"]);
  return said;
}"""
PRESSED = [
    "+ShiftLeft", "KeyA", "-ShiftLeft", "+ShiftLeft", "Period", "-ShiftLeft", "Slash", "symbol 233", "Enter",
    "+ControlLeft", "+AltLeft", "+F2", "-F2", "-AltLeft", "-ControlLeft",
]  # fmt: skip


class Guest:
    """A machine without a disk: SeaBIOS draws on its screen and reads its keyboard."""

    def __init__(self, folder: Path) -> None:
        (folder / "console").mkdir(parents=True, exist_ok=True)
        self.vnc, self.qmp = folder / "console" / "vnc.sock", folder / "qmp.sock"
        assert QEMU
        argv = [
            QEMU, "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "64", "-device", "VGA",
            "-boot", "menu=on,splash-time=60000", "-vnc", f"unix:{self.vnc}",
            "-qmp", f"unix:{self.qmp},server=on,wait=off",
        ]  # fmt: skip
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        self.link = wait_for("QEMU's monitor", lambda: reached(self.qmp), 60)
        self.link.settimeout(60)
        self.lines = self.link.makefile("rw")
        self.command("qmp_capabilities")

    def command(self, name: str) -> None:
        self.lines.write(json.dumps({"execute": name}) + "\n")
        self.lines.flush()

    def event(self, name: str) -> dict[str, Any]:
        """The next event of that name; earlier ones are passed over."""
        for line in self.lines:
            message: dict[str, Any] = json.loads(line)
            if message.get("event") == name:
                return message
        raise AssertionError(f"QEMU ended without {name}")

    def listens(self) -> str:
        """What the process listens on, as ``ss`` says."""
        found = subprocess.run(["ss", "-ltnupH"], capture_output=True, text=True, check=True).stdout
        return "\n".join(line for line in found.splitlines() if f"pid={self.process.pid}," in line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.link.close()
        self.vnc.unlink(missing_ok=True)
        self.qmp.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def site(desk: Any) -> Iterator[str]:
    """The whole product's pages on a free port; its consoles go to the desk's proxy."""
    from pvelite import asgi

    asgi.http = asgi.Bridge(asgi.wsgi)  # with threads of this module's own: they keep a link to its database
    mux = type("Mux", (ConsoleMux,), {"console_socket": str(desk.address)})
    config = uvicorn.Config(
        asgi.application, host="127.0.0.1", port=0, ws=mux, lifespan="off", log_config=None,
        ws_per_message_deflate=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for("uvicorn", lambda: server.started)
    origin = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    desk.server.allowed.append([origin])
    yield origin
    server.should_exit = True
    thread.join(15)


@pytest.fixture
def rows() -> Iterator[Callable[..., Any]]:
    """Runs a database call in a thread of its own: Playwright's loop is on this one."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call, *given, **more: pool.submit(call, *given, **more).result(20)


def bright(page: Page) -> int:
    return int(page.evaluate(BRIGHT))


def watched(page: Page) -> list[str]:
    """Everything the page complains about."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
    return complaints


@pytest.mark.skipif(not (CHROMIUM and QEMU), reason="needs chromium and QEMU")
def test_a_guests_screen(desk: Any, site: str, rows: Any, tmp_path: Path) -> None:
    person, vm = desk.person(superuser=True), desk.vm(screen=False)
    folder = desk.home / "run" / "vm" / str(vm.vmid)
    key, guest = person.key, Guest(folder)
    try:
        with sync_playwright() as playwright:
            arguments = [
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-sync",
            ]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_cookies([{"name": "sessionid", "value": key, "url": site}])
            page = context.new_page()
            complaints = watched(page)
            state = page.get_by_role("toolbar", name="Console").get_by_role("status").first
            page.goto(f"{site}/vms/{vm.vmid}/console")
            expect(state).to_have_text("Connected", timeout=20_000)
            wait_for("pixels", lambda: bright(page) > 500, 30)
            assert guest.listens() == "", "QEMU listens on nothing but its sockets"

            guest.command("query-status")
            page.get_by_role("button", name="Ctrl-Alt-Del").click()
            assert guest.event("RESET")["data"]["reason"] == "guest-reset"

            with page.expect_download() as download:
                page.get_by_role("button", name="Screenshot").click()
            download.value.save_as(tmp_path / "shot.png")
            assert (tmp_path / "shot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
            assert str(vm.vmid) in download.value.suggested_filename

            page.get_by_role("button", name="View only").click()
            expect(state).to_have_text("Connected, view only", timeout=10_000)
            expect(page.get_by_role("button", name="Ctrl-Alt-Del")).to_have_attribute("aria-disabled", "true")
            assert [console.view_only for console in desk.server.registry.all()] == [True]
            page.get_by_role("button", name="View only").click()
            expect(state).to_have_text("Connected", timeout=10_000)

            machines = VM.everything.filter(pk=vm.pk)
            guest.end()
            rows(machines.update, status=VM.Status.STOPPED)
            expect(state).to_have_text("Guest stopped", timeout=20_000)
            expect(page.get_by_role("heading", name="is stopped")).to_be_visible()
            expect(
                page.get_by_role("main").locator("#console").get_by_role("button", name="Start")
            ).to_be_visible()

            guest = Guest(folder)
            rows(machines.update, status=VM.Status.RUNNING, run_id=uuid.uuid4().hex)
            expect(state).to_have_text("Connected", timeout=20_000)
            wait_for("pixels of the new run", lambda: bright(page) > 500, 30)

            rows(person.client.session.flush)
            expect(state).to_have_text("Signed out", timeout=10_000)
            assert complaints == []
            browser.close()
    finally:
        guest.end()


@pytest.mark.skipif(not (CHROMIUM and QEMU), reason="needs chromium and QEMU")
def test_its_own_window_on_a_phone(desk: Any, site: str, rows: Any) -> None:
    """Its keys reach the guest and the page fits the phone."""
    person, vm = desk.person(superuser=True), desk.vm(screen=False)
    key, guest = person.key, Guest(desk.home / "run" / "vm" / str(vm.vmid))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            context = browser.new_context(
                viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
            )
            context.add_cookies([{"name": "sessionid", "value": key, "url": site}])
            page = context.new_page()
            complaints = watched(page)
            page.goto(f"{site}/vms/{vm.vmid}/console/window")
            state = page.locator("[data-state][role=status]").first
            expect(state).to_have_text("Connected", timeout=20_000)
            wait_for("pixels", lambda: bright(page) > 500, 30)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.get_by_text("Keys", exact=True).click()
            before = bright(page)
            page.get_by_role("button", name="Esc", exact=True).click()  # SeaBIOS's boot menu
            wait_for("the boot menu", lambda: bright(page) != before, 20)
            expect(page.get_by_role("button", name="Show keyboard")).to_be_visible()
            assert page.evaluate(PRESS) == PRESSED
            assert complaints == []
            browser.close()
    finally:
        guest.end()
