"""From an empty box to a real installer on the screen, in a browser, with ISOs no one here wrote."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hands import (
    Wizard,
    calm,
    changed,
    drawn,
    look,
    open_console,
    quiet,
    state,
    stop,
    tree_row,
    until,
    upload_iso,
)  # fmt: skip
from house import House
from machines import ops, tasks_of
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.timeout(360)

MEMTEST = Path("/usr/lib/memtest86+/memtest86+x64.iso")


def runs(house: House, page: Page) -> None:
    """Wait until the page says so; otherwise say what the tasks said."""
    try:
        expect(state(page)).to_have_text("Running", timeout=30_000)
    except AssertionError as error:
        raise AssertionError(tasks_of(house)) from error


def destroy(page: Page, vmid: int) -> None:
    """Remove by typing the ID: a wrong one is refused by the page and by the server."""
    page.goto(f"/vms/{vmid}")
    page.get_by_role("toolbar", name=f"VM {vmid}").get_by_text("More", exact=True).click()
    page.get_by_role("menuitem", name="Remove").click()
    dialog = page.get_by_role("dialog")
    typed = dialog.get_by_label(re.compile("Type the VM ID"))
    button = dialog.get_by_role("button", name="Remove")
    typed.fill(str(vmid + 1))
    expect(button).to_have_attribute("aria-disabled", "true")
    typed.press("Enter")
    expect(dialog).to_be_visible()
    typed.evaluate("field => field.form.requestSubmit()")
    expect(page.get_by_text(f"Nothing was removed: type {vmid} to confirm.")).to_be_visible()
    expect(tree_row(page, vmid)).to_be_visible()
    dialog.get_by_label(re.compile("Remove for good now")).check()
    typed.fill(str(vmid))
    button.click()
    expect(page).to_have_url(re.compile(r"/tasks/\d+$"))
    expect(tree_row(page, vmid)).to_have_count(0, timeout=20_000)


def test_memtest_from_upload_to_removal(
    house: House, operator: Page, screenshot: Callable[..., Path]
) -> None:
    page = operator
    with quiet(page):
        said = upload_iso(page, MEMTEST)
    assert any(re.match(r"[01].* (\d+ % · |Checking what arrived)", line) for line in said), said
    with quiet(page):
        wizard = Wizard(page).begin()
        wizard.fill("Name", "memtest").next()
        wizard.choose("ISO image", "memtest86+x64.iso").next()
        wizard.choose("Graphic card", "Standard VGA").next()
        wizard.fill("Disk size (GiB)", "1").next()
        wizard.choose("Type", "qemu64").next()
        wizard.fill("Memory", "64").next()
        wizard.choose("Model", "Intel E1000").next()
        for text in ("memtest86+x64.iso", "1 GiB", "64 MiB", "Intel E1000"):
            expect(
                page.locator("#wizard").get_by_role("cell", name=re.compile(re.escape(text))).first
            ).to_be_visible()
        vmid = wizard.create(start=True)
        runs(house, page)
        expect(tree_row(page, vmid)).to_contain_text("memtest")
        config = house.qm("config", str(vmid)).stdout
        assert "ide2: local:iso/memtest86+x64.iso" in config
        assert re.search(r"net0: e1000=BC:24:11:", config)

        open_console(page)
        seen = drawn(page, 3000)
        changed(page, seen)
        screenshot("memtest")
    press_and_see(page, screenshot)
    with quiet(page):
        page.keyboard.press("Escape")
        until(lambda: look(page)["blue"] < 0.1, "Escape leaves the test: the machine starts anew", 30, page)
        with ops(house, vmid) as qemu:
            page.get_by_role("button", name="Ctrl-Alt-Del").click()
            qemu.event("RESET")
        page.goto(f"/vms/{vmid}")
        stop(page)
        assert house.guest_pid(vmid) is None
        destroy(page, vmid)
    assert house.qm("status", str(vmid)).returncode == 1
    assert not list((house.home / "local" / "images").glob(f"{vmid}/*"))


def press_and_see(page: Page, screenshot: Callable[..., Path]) -> None:
    """memtest86+ opens a black menu over its blue screen on F1 and closes it on F10."""
    until(lambda: look(page)["blue"] > 0.5, "memtest's own screen", 60, page)
    before = look(page)
    page.locator("#console canvas").click()
    page.keyboard.press("F1")
    until(lambda: look(page)["black"] > before["black"] + 0.15, "the menu opens", 30, page)
    screenshot("memtest-menu")
    page.keyboard.press("F10")
    until(lambda: look(page)["black"] < before["black"] + 0.05, "the menu closes", 30, page)


def test_the_debian_installer(
    house: House, operator: Page, guest_pieces: dict[str, Path], screenshot: Callable[..., Path]
) -> None:
    """Its first menu asks for a language: the arrow keys move the mark and bring it back."""
    page = operator
    with quiet(page):
        upload_iso(page, guest_pieces["debian_iso"])
        wizard = Wizard(page).begin()
        wizard.fill("Name", "debian").next()
        wizard.choose("ISO image", "debian-installer.iso").next()
        wizard.choose("Machine", "q35").next()
        wizard.fill("Disk size (GiB)", "4").next().next()
        wizard.fill("Memory", "1024").next().next()
        vmid = wizard.create(start=True)
        runs(house, page)
        open_console(page)
        drawn(page, 1000)
        until(lambda: look(page)["blue"] > 0.02, "the installer's own screen", 240, page)
        menu = calm(page, timeout=60, rest=2000)
        screenshot("debian")
        page.locator("#console canvas").click()
        page.keyboard.press("ArrowDown")
        changed(page, menu)
        page.keyboard.press("ArrowUp")
        until(lambda: look(page)["digest"] == menu["digest"], "the mark is back", 30, page)
        page.goto(f"/vms/{vmid}")
        stop(page)
        destroy(page, vmid)
