"""A real guest's serial line in xterm.js: typing, two viewers, a restart, ``qm terminal``."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hands import quiet, until
from house import ROOT, House
from machines import make
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.timeout(300)

SERIAL = {"name": "line", "ostype": "l26", "memory": "192", "serial0": "socket", "vga": "serial0"}
COLOURED = "printf '\\033[38;2;1;200;3mgre''en\\033[0m\\n'"
"""24-bit colour: xterm writes a style attribute."""
ASKING = "printf '\\033[6n\\033[c\\n'; sleep 1; echo $((8 + 1))-asked"
"""Questions to the terminal. An answer would be echoed as ``^[[…`` while the shell sleeps."""


def word(page: Page) -> Locator:
    return page.get_by_role("toolbar", name="Serial terminal").get_by_role("status").first


def says(page: Page, text: str, timeout: float = 60) -> None:
    rows = page.locator(".xterm-rows")
    until(lambda: text in rows.inner_text(), f"the terminal to show {text!r}", timeout, page)


def type_line(page: Page, text: str) -> None:
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type(f"{text}\n")


def in_a_terminal(house: House, vmid: int) -> None:
    """``qm terminal`` in a pseudo-terminal: what is typed there is answered; the escape key ends it."""
    ours, theirs = pty.openpty()
    qm = Path(sys.executable).parent / "qm"
    process = subprocess.Popen(
        [str(qm), "terminal", str(vmid), "--iface", "serial0", "--escape", "^X"],
        cwd=ROOT, env=house.environ, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    said = bytearray()

    def heard(text: bytes) -> bool:
        with contextlib.suppress(OSError):  # nothing yet, or it has ended
            said.extend(os.read(ours, 65536))
        assert text in said or process.poll() is None, said
        return text in said

    try:
        until(lambda: heard(b"press ^X to exit"), "qm terminal to start")
        os.write(ours, b"echo $((50 + 5))-from-qm\r")
        until(lambda: heard(b"55-from-qm"), "the guest's answer")
        os.write(ours, b"\x18")
        assert process.wait(20) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def copied_and_pasted(page: Page) -> None:
    """A marked word is copied; what is in the clipboard is typed."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    green = page.locator(".xterm-rows span", has_text=re.compile("^green$")).last
    place = green.bounding_box()
    assert place is not None
    page.mouse.dblclick(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.get_by_role("button", name="Copy", exact=True).click()
    until(lambda: page.evaluate("navigator.clipboard.readText()").strip() == "green", "the copy", 20, page)
    page.evaluate("navigator.clipboard.writeText('echo $((20 + 3))-pasted\\r')")
    page.get_by_role("button", name="Paste", exact=True).click()
    says(page, "23-pasted")


def fitted(page: Page) -> None:
    """A smaller window has fewer columns, and says so."""
    size = page.locator("[data-size]")
    wide = size.inner_text()
    page.set_viewport_size({"width": 1000, "height": 700})
    expect(size).not_to_have_text(wide)
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(size).to_have_text(wide)


def test_typing_on_the_serial_line(
    house: House, operator: Page, guest_pieces: dict[str, Path], screenshot: Callable[..., Path]
) -> None:
    page = operator
    disc = house.add_iso(guest_pieces["iso"], "tiny.iso")
    page.goto("/storage/local")
    page.get_by_role("button", name="Rescan").click()
    expect(page.get_by_role("cell", name="tiny.iso")).to_be_visible(timeout=20_000)
    vmid = make(house, start=True, config={**SERIAL, "ide2": f"{disc},media=cdrom"})
    with quiet(page):
        page.goto(f"/vms/{vmid}/console")
        expect(word(page)).to_have_text("Connected", timeout=30_000)
        says(page, "pvelite-guest: ready", 120)
        page.locator("#menu-console").click()
        expect(page.get_by_role("menuitem", name="noVNC")).to_have_attribute("aria-disabled", "true")
        page.get_by_role("menuitem", name="Serial terminal", exact=True).click()
        expect(page).to_have_url(re.compile(f"/vms/{vmid}/terminal/0$"))
        expect(word(page)).to_have_text("Connected", timeout=20_000)
        says(page, "pvelite-guest: ready")  # the scrollback: the guest printed it before
        type_line(page, "echo $((6 * 7))-typed")
        says(page, "42-typed")
        type_line(page, COLOURED)
        green = page.locator(".xterm-rows span", has_text=re.compile("^green$"))
        expect(green).to_have_css("color", "rgb(1, 200, 3)")
        type_line(page, ASKING)
        says(page, "9-asked")
        assert "^[" not in page.locator(".xterm-rows").inner_text()
        screenshot("terminal")
        copied_and_pasted(page)
        fitted(page)

        watcher = page.context.new_page()
        watcher.goto(f"/vms/{vmid}/terminal/0/window?view=only")
        expect(word(watcher)).to_have_text("Connected, view only", timeout=20_000)
        type_line(watcher, "echo watcher-typed")
        type_line(page, "echo $((40 + 3))-for-both")
        says(watcher, "43-for-both")
        says(page, "43-for-both")
        assert "watcher" not in page.locator(".xterm-rows").inner_text()
        in_a_terminal(house, vmid)
        says(watcher, "55-from-qm")

    assert house.qm("stop", str(vmid)).returncode == 0
    expect(word(page)).to_have_text("Guest stopped", timeout=20_000)
    assert house.qm("start", str(vmid)).returncode == 0
    expect(word(page)).to_have_text("Connected", timeout=30_000)
    expect(word(watcher)).to_have_text("Connected, view only", timeout=30_000)
    watcher.close()
    assert house.qm("stop", str(vmid)).returncode == 0
    assert "is not running" in house.qm("terminal", str(vmid)).stderr
