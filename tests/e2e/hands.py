"""What a person does with the product in a browser, and what they see: wizard, console, toolbar."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

TABS = ("general", "os", "system", "disks", "cpu", "memory", "network", "confirm")

# The guest's screen as noVNC shows it: a digest, how many pixels are lit, which shares are black and blue.
LOOK = """() => {
  const canvas = document.querySelector("#console canvas");
  if (!canvas || !canvas.width) return { digest: "", lit: 0, black: 1, blue: 0 };
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let lit = 0, black = 0, blue = 0, digest = 2166136261;
  for (let at = 0; at < pixels.length; at += 4) {
    const high = Math.max(pixels[at], pixels[at + 1], pixels[at + 2]);
    if (high > 100) lit++;
    if (high < 16) black++;
    if (pixels[at + 2] > 100 && pixels[at] < 60) blue++;
    digest = Math.imul(digest ^ (pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2]), 16777619);
  }
  const all = pixels.length / 4;
  return { digest: (digest >>> 0).toString(16), lit, black: black / all, blue: blue / all };
}"""


def until(probe: Callable[[], Any], what: str, timeout: float = 30, page: Page | None = None) -> Any:
    """The first true answer of ``probe``; fails naming ``what``. ``page`` goes on living meanwhile."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        if page is not None:
            page.wait_for_timeout(100)
        else:
            time.sleep(0.05)


@contextmanager
def quiet(page: Page) -> Iterator[list[str]]:
    """Fail when the page prints an error on the browser's console meanwhile."""
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # Answers that the page shows in words: a refused form, a fragment of something that was removed.
        answered = "status of 422" in message.text or (
            "status of 404" in message.text and "?part=" in message.location["url"]
        )
        # A page that is left ends what it had asked for. After a failure sendError follows afterRequest.
        left = message.text.startswith(("htmx:afterRequest", "htmx:sendAbort"))
        if message.type == "error" and not answered and not left:
            said.append(f"{page.url}: {message.text}")

    page.on("console", hear)
    try:
        yield said
    finally:
        page.remove_listener("console", hear)
    assert said == [], f"the browser's console has errors: {said}"


# ---- the library


def upload_iso(page: Page, file: Path) -> list[str]:
    """Upload through the storage's page; answers every sentence its progress line said."""
    page.goto("/storage/local")
    page.get_by_label("Upload an ISO").set_input_files(file)
    page.evaluate(
        """() => {
          const line = document.querySelector("[data-says]");
          const bar = document.querySelector("[data-upload] progress");
          window.said = [];
          new MutationObserver(() => window.said.push(`${bar.hidden ? "-" : bar.value} ${line.textContent}`))
            .observe(line, { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text(f"{file.name} is in the library.")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("cell", name=file.name)).to_be_visible()
    said: list[str] = page.evaluate("window.said")
    return said


# ---- the wizard


class Wizard:
    """The Create VM wizard, tab by tab, by role and label."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def tab(self) -> str:
        return self.page.url.partition("?")[0].rpartition("/")[2]

    @property
    def vmid(self) -> int:
        return int(self.page.url.split("/vms/create/")[1].split("/")[0])

    def begin(self) -> Wizard:
        """From the header's button to the first tab of a new draft."""
        self.page.get_by_role("banner").get_by_role("link", name="Create VM").click()
        self.page.get_by_role("button", name="Start a new draft").click()
        return self.on("general")

    def on(self, tab: str) -> Wizard:
        """Wait for that tab."""
        expect(self.page).to_have_url(re.compile(rf"/vms/create/\d+/{tab}(\?|$)"))
        expect(self.page.locator("[aria-current=step]")).to_contain_text(tab, ignore_case=True)
        return self

    def fill(self, label: str, text: str) -> Wizard:
        """Write into a field; wait until the server has it."""
        field = self.page.locator("#wizard").get_by_label(label, exact=True)
        with self.page.expect_response(lambda answer: answer.request.method == "POST"):
            field.fill(text)
            field.blur()
        expect(field).to_have_value(text)
        return self

    def choose(self, label: str, option: str) -> Wizard:
        """Choose in a list; wait until the server has it."""
        field = self.page.locator("#wizard").get_by_label(label, exact=True)
        value = field.locator("option", has_text=option).first.get_attribute("value")
        with self.page.expect_response(lambda answer: answer.request.method == "POST"):
            field.select_option(value)
        expect(field).to_have_value(value or "")
        return self

    def next(self) -> Wizard:
        """Press Next and wait for the tab that follows."""
        after = TABS[TABS.index(self.tab) + 1]
        self.page.get_by_role("button", name="Next").click()
        return self.on(after)

    def create(self, *, start: bool) -> int:
        """Press Create; wait for the machine's page."""
        vmid = self.vmid
        self.page.get_by_label("Start after created").set_checked(start)
        self.page.get_by_role("button", name="Create", exact=True).click()
        expect(self.page).to_have_url(re.compile(rf"/vms/{vmid}$"), timeout=30_000)
        return vmid


# ---- the console


def console_state(page: Page) -> Locator:
    """The console's own status line."""
    return page.get_by_role("toolbar", name="Console").get_by_role("status").first


def open_console(page: Page) -> None:
    """Press Console on the machine's page; wait for the connection."""
    page.get_by_role("toolbar", name=re.compile("^VM ")).get_by_role("link", name="Console").click()
    expect(console_state(page)).to_have_text("Connected", timeout=20_000)


def look(page: Page) -> dict[str, Any]:
    """The guest's screen now: ``digest``, ``lit`` pixels, ``black`` and ``blue`` shares."""
    seen: dict[str, Any] = page.evaluate(LOOK)
    return seen


def drawn(page: Page, lit: int, timeout: float = 60) -> dict[str, Any]:
    """Wait until the guest has lit that many pixels."""
    return until(lambda: (seen := look(page))["lit"] >= lit and seen, f"{lit} lit pixels", timeout, page)


def calm(page: Page, timeout: float = 30, rest: int = 700) -> dict[str, Any]:
    """Wait until the screen has stood still for ``rest`` milliseconds."""

    def still() -> dict[str, Any] | None:
        before = look(page)
        page.wait_for_timeout(rest)
        return before if look(page)["digest"] == before["digest"] else None

    return until(still, "the screen stands still", timeout, page)


def changed(page: Page, before: dict[str, Any], timeout: float = 30) -> dict[str, Any]:
    """Wait until the screen is another than ``before``."""
    seen = until(
        lambda: (now := look(page))["digest"] != before["digest"] and now, "the screen changes", timeout, page
    )
    return dict(seen)


# ---- the toolbar


def stop(page: Page) -> None:
    """Stop through the toolbar's menu and its question."""
    page.get_by_label("More ways to stop").click()
    page.get_by_role("menuitem", name="Stop").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog).to_have_count(0)
    expect(state(page)).to_have_text("Stopped", timeout=20_000)


def state(page: Page) -> Locator:
    """The state badge in the machine's title line."""
    return page.locator("#vm-head .state-badge")


def tree_row(page: Page, vmid: int) -> Locator:
    """The machine's row in the resource tree."""
    return page.locator(f"#tree a[href='/vms/{vmid}']")
