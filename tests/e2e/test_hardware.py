"""The Hardware tab as hands use it: a disk's whole life on a machine that is off and on one that runs, what
waits for a cold start, and the boot disk's way to a faster bus and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import quiet, until
from house import PASSWORD, USER, House
from machines import make, ops
from playwright.sync_api import Browser, Locator, Page, expect

LINUX = {
    "name": "hardware", "ostype": "l26", "memory": "64", "scsihw": "virtio-scsi-pci", "machine": "q35",
    "scsi0": "local:1,format=qcow2", "agent": "0",
}  # fmt: skip
WINDOWS = {
    "name": "slow-bus", "ostype": "win10", "memory": "64", "machine": "q35", "boot": "order=sata0;ide2",
    "sata0": "local:1,format=qcow2", "ide2": "none,media=cdrom",
}  # fmt: skip


class Hardware:
    """The page's rows and dialogs by role and label."""

    def __init__(self, page: Page, house: House, vmid: int) -> None:
        self.page, self.house, self.vmid = page, house, vmid

    def open(self) -> Hardware:
        self.page.goto(f"/vms/{self.vmid}/hardware")
        expect(self.page.locator("#live")).to_have_text("live")
        return self

    def row(self, key: str) -> Locator:
        return self.page.locator(f"#row-{key}")

    def add(self, what: str) -> Locator:
        """By the keyboard: "a", then the line of the menu."""
        self.page.locator("body").press("a")
        self.page.get_by_role("menuitem", name=what, exact=True).click()
        return self.dialog(f"Add: {what}")

    def press(self, key: str, stroke: str, title: str) -> Locator:
        """Choose a row and press a key on it; the dialog that opens."""
        self.row(key).focus()
        self.row(key).press(stroke)
        return self.dialog(title)

    def dialog(self, title: str) -> Locator:
        found = self.page.get_by_role("dialog", name=title)
        expect(found).to_be_visible()
        return found

    def answer(self, dialog: Locator, button: str) -> None:
        """Press the dialog's button and wait until it has gone."""
        dialog.get_by_role("button", name=button, exact=True).click()
        expect(dialog).to_have_count(0)

    def choose(self, dialog: Locator, label: str, value: str) -> None:
        """Choose in a list; the server shows the fields anew."""
        with self.page.expect_response(lambda answer: "part=fields" in answer.url):
            dialog.get_by_label(label, exact=True).select_option(value)

    def config(self) -> str:
        return self.house.qm("config", str(self.vmid)).stdout

    def images(self) -> list[str]:
        folder = self.house.home / "local" / "images" / str(self.vmid)
        return sorted(path.name for path in folder.glob("vm-*"))


@pytest.fixture(scope="module")
def linux(house: House) -> Iterator[int]:
    vmid = make(house, start=False, config=LINUX)
    yield vmid
    house.qm("stop", str(vmid))


def drives(house: House, vmid: int) -> set[str]:
    """What QEMU itself calls the disks it has."""
    with ops(house, vmid) as qemu:
        return {str(entry.get("qdev", "")) for entry in qemu.command("query-block") if entry.get("inserted")}


def test_a_disks_life_on_a_machine_that_is_off(house: House, linux: int, operator: Page) -> None:
    with quiet(operator):
        page = Hardware(operator, house, linux).open()
        dialog = page.add("Hard disk")
        expect(dialog.get_by_label("Bus/Device")).to_be_focused()
        dialog.get_by_label("Disk size (GiB)").fill("2")
        dialog.get_by_label("Disk size (GiB)").blur()
        expect(dialog.get_by_text("What it does to the command")).to_be_visible()
        page.answer(dialog, "Add")
        expect(page.row("scsi1")).to_contain_text("2 GiB", timeout=20_000)
        # The command below says what came with it.
        expect(operator.locator("#vm-command .is-added").first).to_be_visible()

        dialog = page.press("scsi1", "Enter", "Edit: Hard disk (scsi1)")
        dialog.get_by_label("Discard").check()
        page.answer(dialog, "OK")
        expect(page.row("scsi1")).to_contain_text("Discard On")

        dialog = page.press("scsi1", "Delete", "Detach: Hard disk (scsi1)")
        expect(dialog).to_contain_text("stays with the machine as an unused disk")
        page.answer(dialog, "Detach")
        expect(page.row("unused0")).to_contain_text("vm-")
        expect(page.row("scsi1")).to_have_count(0)

        dialog = page.press("unused0", "Enter", "Re-attach: Unused disk (unused0)")
        page.choose(dialog, "Bus/Device", "virtio")
        expect(dialog.get_by_label("Device number")).to_have_value("0")
        page.answer(dialog, "Re-attach")
        expect(page.row("virtio0")).to_contain_text("2 GiB")
        expect(page.row("unused0")).to_have_count(0)
        assert len(page.images()) == 2

        page.answer(page.press("virtio0", "Delete", "Detach: Hard disk (virtio0)"), "Detach")
        dialog = page.press("unused0", "Delete", "Remove: Unused disk (unused0)")
        expect(dialog).to_contain_text("removed for good")
        page.answer(dialog, "Remove")
        expect(page.row("unused0")).to_have_count(0, timeout=20_000)
        until(lambda: len(page.images()) == 1, "the volume is gone")


def test_a_disk_is_plugged_into_a_machine_that_runs(house: House, linux: int, operator: Page) -> None:
    assert house.qm("start", str(linux)).returncode == 0
    page = Hardware(operator, house, linux).open()
    dialog = page.add("Hard disk")
    dialog.get_by_label("Disk size (GiB)").fill("1")
    page.answer(dialog, "Add")
    expect(page.row("scsi1")).to_contain_text("1 GiB", timeout=20_000)
    expect(page.row("scsi1")).not_to_contain_text("next start")
    until(lambda: any("scsi1" in name for name in drives(house, linux)), "QEMU has the disk")

    page.answer(page.press("scsi1", "Delete", "Detach: Hard disk (scsi1)"), "Detach")
    expect(page.row("unused0")).to_be_visible(timeout=20_000)
    assert not any("scsi1" in name for name in drives(house, linux))
    page.answer(page.press("unused0", "Enter", "Re-attach: Unused disk (unused0)"), "Re-attach")
    expect(page.row("scsi1")).to_be_visible(timeout=20_000)
    until(lambda: any("scsi1" in name for name in drives(house, linux)), "QEMU has the disk again")
    page.answer(page.press("scsi1", "Delete", "Detach: Hard disk (scsi1)"), "Detach")
    expect(page.row("unused0")).to_be_visible(timeout=20_000)
    page.answer(page.press("unused0", "Delete", "Remove: Unused disk (unused0)"), "Remove")
    expect(page.row("unused0")).to_have_count(0, timeout=20_000)


def test_what_waits_is_shown_and_reverted(house: House, linux: int, operator: Page) -> None:
    """On the machine that runs since the test before; a bad value comes back into the dialog."""
    house.qm("start", str(linux))
    with quiet(operator):
        page = Hardware(operator, house, linux).open()
        dialog = page.press("memory", "Enter", "Edit: Memory")
        field = dialog.get_by_label("Memory", exact=True)
        field.fill("plenty")
        dialog.get_by_role("button", name="OK").click()
        expect(dialog.get_by_role("alert").first).to_contain_text("'plenty' is not a whole number")
        expect(field).to_have_value("plenty")
        field.fill("96")
        field.blur()
        expect(dialog.get_by_text("this waits for its next cold start")).to_be_visible()
        page.answer(dialog, "OK")
        banner = operator.get_by_role("region", name="Changes that wait")
        expect(banner).to_contain_text("1 change waits for a cold start.")
        expect(page.row("memory")).to_contain_text("after the next start: 96 MiB")
        banner.get_by_text("What it does to the command").click()
        expect(banner.locator(".is-added").first).to_contain_text("96")
        # The rows are walked with the arrows; the toolbar acts on the chosen one.
        page.row("memory").focus()
        page.row("memory").press("ArrowDown")
        expect(page.row("processors")).to_be_focused()
        page.row("processors").press("ArrowUp")
        operator.get_by_role("toolbar", name="Hardware").get_by_role("button", name="Revert").click()
        expect(banner).to_have_count(0)
        assert "memory: 64" in page.config()


def test_shut_down_and_start_applies_what_waits(house: House, linux: int, operator: Page) -> None:
    """The guest has no system that could shut down, so its power is cut as a person would then."""
    house.qm("start", str(linux))
    page = Hardware(operator, house, linux).open()
    dialog = page.add("VirtIO RNG")
    page.answer(dialog, "Add")
    expect(page.row("rng0")).to_contain_text("comes with the next start")
    operator.get_by_role("button", name="Shut down and start").click()
    page.dialog(f"Reboot VM {linux} (hardware)")
    operator.keyboard.press("Escape")
    assert house.qm("stop", str(linux)).returncode == 0
    expect(page.row("rng0")).not_to_contain_text("next start", timeout=20_000)
    assert "rng0: " in page.config()


def test_the_boot_disk_goes_to_virtio_and_back(
    house: House, operator: Page, guest_pieces: dict[str, Path]
) -> None:
    disc = house.add_iso(guest_pieces["memtest_iso"], "virtio-win-test.iso")
    vmid = make(house, start=False, config=WINDOWS)
    page = Hardware(operator, house, vmid).open()
    card = operator.get_by_role("region", name=re.compile("^Change bus"))
    expect(card).to_be_visible()
    operator.goto("/storage/local")
    operator.get_by_role("button", name="Rescan").click()
    expect(operator.get_by_role("cell", name="virtio-win-test.iso")).to_be_visible(timeout=20_000)
    page.open()
    expect(card.get_by_label("Driver disc")).to_have_value(disc)
    card.get_by_role("button", name="Add helper disk").click()
    expect(card.locator("[aria-current=step]")).to_contain_text("install the driver", timeout=20_000)
    assert "virtio-win-test.iso" in page.config()
    # It survives a reload, and a machine that runs is not switched.
    page.open()
    card.get_by_role("button", name="The driver is installed").click()
    card.get_by_role("button", name="Switch the boot disk").click()
    expect(card).to_contain_text("The boot disk is scsi0 now; it was sata0.", timeout=20_000)
    until(lambda: len(page.images()) == 1, "the helper's volume is gone")
    config = page.config()
    assert re.search(r"^scsi0: local:\d+/vm-\d+-disk-0\.qcow2,iothread=1", config, re.MULTILINE)
    assert re.search(r"^boot: order=scsi0;ide2$", config, re.MULTILINE)
    card.get_by_role("button", name="Back to the old bus").click()
    expect(page.row("sata0")).to_be_visible(timeout=20_000)
    assert re.search(r"^boot: order=sata0;ide2$", page.config(), re.MULTILINE)
    expect(card.get_by_role("button", name="Add helper disk")).to_be_visible()


def test_a_plain_browser_adds_and_removes(house: House, linux: int, browser: Browser) -> None:
    """Without JavaScript: the menu is a list of links, every dialog a page."""
    context = browser.new_context(base_url=house.url, java_script_enabled=False)
    sheet = context.new_page()
    sheet.goto("/login")
    sheet.get_by_label("User name").fill(USER)
    sheet.get_by_label("Password").fill(PASSWORD)
    sheet.get_by_role("button", name="Log in").click()
    sheet.goto(f"/vms/{linux}/hardware")
    sheet.locator("#menu-add").click()
    sheet.get_by_role("menuitem", name="Watchdog").click()
    sheet.get_by_label("Action").select_option("shutdown")
    sheet.get_by_role("button", name="Add").click()
    expect(sheet).to_have_url(re.compile(rf"/vms/{linux}/hardware$"))
    expect(sheet.locator("#row-watchdog")).to_contain_text("shutdown")
    sheet.get_by_label("What to do with Watchdog").click()
    sheet.locator("#row-watchdog").get_by_role("menuitem", name="Remove").click()
    sheet.get_by_role("button", name="Remove").click()
    expect(sheet.locator("#row-watchdog")).to_have_count(0)
    context.close()
