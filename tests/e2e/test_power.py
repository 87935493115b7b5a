"""Power, from every place of the page that offers it: one guest is switched by toolbar, tree and list."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import quiet, state, stop, tree_row, until
from house import House
from machines import SMALL, make, ops
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.timeout(360)

APPEND = ["-append", "console=tty0 console=ttyS0,115200 quiet panic=5"]
SOON = 60_000
"""Milliseconds a state gets to be on the page, on a busy machine."""


@pytest.fixture(scope="module")
def guest(house: House, guest_pieces: dict[str, Path]) -> Iterator[int]:
    """A machine that boots the test guest's kernel, with an agent in it."""
    for name in ("kernel", "initrd"):
        shutil.copy(guest_pieces[name], house.home / name)
        (house.home / name).chmod(0o644)
    boot = ["-kernel", str(house.home / "kernel"), "-initrd", str(house.home / "initrd")]
    config = {
        "name": "obeys", "ostype": "l26", "memory": "256", "agent": "1", "args": shlex.join(boot + APPEND)
    }  # fmt: skip
    vmid = make(house, start=True, config=config)
    yield vmid
    house.qm("stop", str(vmid))
    assert house.qm("destroy", str(vmid), "--now").returncode == 0


@pytest.fixture(scope="module")
def idle(house: House) -> Iterator[int]:
    """Another one that is off."""
    vmid = make(house, start=False, config={**SMALL, "name": "idle"})
    yield vmid
    assert house.qm("destroy", str(vmid), "--now").returncode == 0


def says(page: Page, word: str) -> None:
    expect(state(page)).to_have_text(word, timeout=SOON)


def observed(house: House, vmid: int) -> str:
    """What QEMU last said of itself."""
    return str(json.loads(house.qm("status", str(vmid), "--json").stdout)["qmpstatus"])


def press(page: Page, place: Locator, verb: str) -> None:
    """Choose a verb, and confirm it where that is asked."""
    place.get_by_role("menuitem", name=verb, exact=True).click()
    if verb in ("Reset", "Stop", "Reboot"):
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name=verb, exact=True).click()
        expect(dialog).to_have_count(0)


def test_shut_down_and_start_applies_what_waits(house: House, guest: int, operator: Page) -> None:
    """Its agent shuts it down; the new process has what waited."""
    page = operator
    until(lambda: house.qm("agent", str(guest), "ping").returncode == 0, "its agent answers", 120)
    with quiet(page):
        page.goto(f"/vms/{guest}/hardware/processors/edit")
        page.get_by_label("Cores", exact=True).fill("2")
        page.get_by_role("button", name="OK").click()
        page.goto(f"/vms/{guest}/options")
        waits = page.get_by_role("region", name="Changes that wait")
        expect(waits).to_contain_text("1 change waits for a cold start.")
        before = house.guest_pid(guest)
        waits.get_by_role("button", name="Shut down and start").click()
        page.get_by_role("dialog").get_by_role("button", name="Reboot").click()
        expect(waits).to_have_count(0, timeout=120_000)
        says(page, "Running")
    assert house.guest_pid(guest) not in (None, before)
    assert "\ncores: 2\n" in house.qm("config", str(guest)).stdout


def test_the_toolbar(house: House, guest: int, operator: Page) -> None:
    """Paused, reset, hibernated and back: each state is said, and the guest goes on in the end."""
    page = operator
    with quiet(page):
        page.goto(f"/vms/{guest}")
        bar = page.get_by_role("toolbar", name=f"VM {guest}")
        more = page.get_by_label("More ways to stop")
        says(page, "Running")
        more.click()
        press(page, bar, "Pause")
        says(page, "Paused")
        bar.get_by_role("button", name="Resume", exact=True).click()
        says(page, "Running")
        with ops(house, guest) as qemu:
            more.click()
            press(page, bar, "Reset")
            qemu.event("RESET")
        more.click()
        press(page, bar, "Hibernate")
        says(page, "Suspended")
        assert house.guest_pid(guest) is None
        bar.get_by_role("button", name="Resume", exact=True).click()
        says(page, "Running")
    assert house.guest_pid(guest) is not None


def test_the_menu_in_the_tree(house: House, guest: int, operator: Page) -> None:
    """From another page: a right click, or the keyboard."""
    page = operator
    menu = page.locator("#context-menu")
    with quiet(page):
        page.goto("/tasks")
        row = tree_row(page, guest)
        for verb, word in (("Pause", "Paused"), ("Resume", "Running"), ("Hibernate", "Suspended")):
            row.click(button="right")
            press(page, menu, verb)
            expect(row).to_contain_text(word, timeout=SOON)
        row.focus()
        page.keyboard.press("Shift+F10")
        press(page, menu, "Resume")
        expect(row).to_contain_text("Running", timeout=SOON)
        with ops(house, guest) as qemu:
            row.click(button="right")
            press(page, menu, "Reset")
            qemu.event("RESET")


def test_many_at_once(house: House, guest: int, idle: int, operator: Page) -> None:
    """What will happen to each is said first; nothing happens to the one it cannot happen to."""
    page = operator

    def many(verb: str, effect: str, status: str) -> None:
        page.goto("/")
        for vmid in (guest, idle):
            page.get_by_role("checkbox", name=re.compile(rf"\b{vmid}\b")).check()
        page.get_by_role("toolbar", name="For the chosen VMs").get_by_role(
            "button", name=verb, exact=True
        ).click()
        rows = page.get_by_role("main").get_by_role("row")
        expect(rows.filter(has_text=str(guest))).to_contain_text(effect)
        expect(rows.filter(has_text=str(idle))).to_contain_text("Nothing: The VM is not ")
        page.get_by_role("button", name=f"{verb} 1 VM").click()
        expect(page.get_by_text(f"{verb} requested for 1 VM.")).to_be_visible()
        until(lambda: observed(house, guest) == status, f"{verb}: {status}", 60, page)

    with quiet(page):
        many("Pause", "Its processors halt", "paused")
        many("Resume", "It goes on where it was", "running")
        with ops(house, guest) as qemu:
            many("Reset", "Its reset button is pressed", "running")
            qemu.event("RESET")
        many("Hibernate", "Its memory is saved", "stopped")
        many("Resume", "It goes on where it was", "running")
        many("Stop", "Its power is cut", "stopped")
        page.goto(f"/vms/{guest}")
        says(page, "Stopped")
        page.get_by_role("toolbar", name=f"VM {guest}").get_by_role(
            "button", name="Start", exact=True
        ).click()
        says(page, "Running")
        stop(page)
