"""A console's comforts: a text typed by the server, own keys, a screenshot, the screen on Summary."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hands import console_state, open_console, quiet, until
from house import House
from machines import make, tasks_of
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.timeout(300)

GUEST = {
    "name": "typed", "ostype": "l26", "memory": "192", "serial0": "socket", "agent": "1",
    "vga": "std,clipboard=vnc",
}  # fmt: skip
TEXT = "cat >/tmp/typed <<'END'\nA {b} \"c\" $D ~e|f\\g\nEND\n"
CAPABILITIES, TEXT_ITSELF, GRAB, REQUEST = 6, 4, 7, 8
"""Messages of the SPICE agent's protocol, of which the guest's shell is made to speak these."""
AGENT = """
port=/dev/$(grep -l com.redhat.spice.0 /sys/class/virtio-ports/*/name | cut -d/ -f5)
setsid sh -c "exec 3<>$port; cat /tmp/hello >&3; cat <&3 >/tmp/heard &
  while :; do [ -e /tmp/say ] && cat /tmp/say >&3 && rm /tmp/say; sleep 0.1; done" \\
  </dev/null >/dev/null 2>&1 &
"""
"""What a desktop's agent does: hold the clipboard's channel, say what it can, listen and answer."""


def message(kind: int, *numbers: int, text: str = "") -> str:
    """A message of the agent's as ``printf`` writes it."""
    body = struct.pack(f"<{len(numbers)}I", *numbers) + text.encode()
    data = struct.pack("<IIIIQI", 1, 20 + len(body), 1, kind, 0, len(body)) + body
    return "".join(f"\\{byte:03o}" for byte in data)


def inside(house: House, vmid: int, script: str) -> str:
    """What a line of shell prints in the guest; empty when nobody answers yet."""
    found = house.qm("guest", "exec", str(vmid), "--", "/bin/sh", "-c", script)
    return str(json.loads(found.stdout).get("out-data", "")) if found.returncode == 0 else ""


def booted(house: House, page: Page, guest_pieces: dict[str, Path]) -> int:
    disc = house.add_iso(guest_pieces["iso"], "comforts.iso")
    page.goto("/storage/local")
    page.get_by_role("button", name="Rescan").click()
    expect(page.get_by_role("cell", name="comforts.iso")).to_be_visible(timeout=20_000)
    vmid = make(house, start=True, config={**GUEST, "ide2": f"{disc},media=cdrom"})
    page.goto(f"/vms/{vmid}")
    agent = page.locator("section", has=page.locator("#card-agent")).last
    expect(agent).to_contain_text("pvelite-guest", timeout=120_000)
    return vmid


def test_comforts(
    house: House, operator: Page, guest_pieces: dict[str, Path], screenshot: Callable[..., Path]
) -> None:
    page = operator
    with quiet(page):
        vmid = booted(house, page, guest_pieces)
        its_screen_on_summary(page, vmid, screenshot)
        typed_by_the_server(house, page, vmid, screenshot)
        keys_of_ones_own(page, vmid)
        the_clipboard(house, page, vmid, screenshot)
        a_screenshot(page, vmid)
        expect(page).to_have_title(re.compile(rf"^{vmid} \(typed\) · Connected"))
    assert house.qm("stop", str(vmid)).returncode == 0


def its_screen_on_summary(page: Page, vmid: int, screenshot: Callable[..., Path]) -> None:
    page.goto(f"/vms/{vmid}")
    image = page.locator("#vm-screen img")
    expect(image).to_be_visible(timeout=30_000)
    size = image.evaluate("each => each.decode().then(() => [each.naturalWidth, each.naturalHeight])")
    assert 0 < size[0] <= 384
    assert 0 < size[1] <= 288
    screenshot("summary-screen")
    page.get_by_role("button", name="Screenshot").click()
    page.wait_for_url("**/screenshots/*")
    expect(page.get_by_role("img", name=re.compile("showed"))).to_be_visible(timeout=30_000)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save the picture").click()
    assert re.fullmatch(rf"vm-{vmid}-[0-9-]+\.png", download.value.suggested_filename)
    page.goto(f"/vms/{vmid}")


def typed_by_the_server(house: House, page: Page, vmid: int, screenshot: Callable[..., Path]) -> None:
    open_console(page)
    menu = page.locator("[data-text-menu]")
    menu.locator("summary").click()
    menu.get_by_role("textbox").fill("日本")
    menu.get_by_role("button", name="Type it").click()
    words = menu.get_by_role("status")
    expect(words).to_contain_text("no key for '日' (line 1), '本' (line 1)")
    menu.get_by_role("textbox").fill(TEXT)
    menu.get_by_label("Keyboard layout").select_option(label="English (US)")
    screenshot("console-type")
    menu.get_by_role("button", name="Type it").click()
    expect(words).to_have_text("Typed", timeout=60_000)
    expect(menu.get_by_role("textbox")).to_have_value("")
    wanted = 'A {b} "c" $D ~e|f\\g\n'
    until(lambda: inside(house, vmid, "cat /tmp/typed 2>/dev/null") == wanted, "the text arrives", 30, page)
    assert "{b}" not in tasks_of(house), "the text is in no task"
    menu.locator("summary").click()


def keys_of_ones_own(page: Page, vmid: int) -> None:
    page.goto("/console/keys")
    page.get_by_label("Keys, joined by a hyphen").fill("ctrl-hyper")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").or_(page.locator(".notice"))).to_contain_text("'hyper' is no key")
    page.get_by_label("Keys, joined by a hyphen").fill("ctrl-l")
    page.get_by_label("What the menu says").fill("Clear it")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("rowheader", name="Clear it")).to_be_visible()
    page.goto(f"/vms/{vmid}/console/window")
    expect(console_state(page)).to_have_text("Connected", timeout=20_000)
    page.locator("[data-keys-menu] summary").click()
    page.get_by_role("button", name="Clear it").click()
    expect(page.get_by_role("button", name="Clear it")).to_be_hidden()


def the_clipboard(house: House, page: Page, vmid: int, screenshot: Callable[..., Path]) -> None:
    menu = page.locator("[data-clip-menu]")
    menu.locator("summary").click()
    expect(menu.get_by_role("status")).to_contain_text("install and start spice-vdagent", timeout=30_000)
    screenshot("console-clipboard")
    inside(house, vmid, f"printf '{message(CAPABILITIES, 1, 1 << 5)}' >/tmp/hello; {AGENT}")
    expect(menu.get_by_role("status")).to_contain_text("The guest's agent listens", timeout=30_000)

    def heard(text: str) -> bool:
        return "yes" in inside(house, vmid, f"grep -q '{text}' /tmp/heard && echo yes")

    def answer(wanted: int, *said: str) -> None:
        """Say ``said`` once the agent has heard a message of that kind."""
        sign = rf"od -An -tx1 -v /tmp/heard | tr -d ' \n' | grep -q '01000000{wanted:02x}000000'"
        until(lambda: "yes" in inside(house, vmid, f"{sign} && echo yes"), "QEMU's message", 30, page)
        inside(house, vmid, f": >/tmp/heard; printf '{''.join(said)}' >/tmp/now; mv /tmp/now /tmp/say")

    menu.get_by_role("textbox").fill("for the guest")
    menu.get_by_role("button", name="Send to guest").click()
    answer(GRAB, message(REQUEST, 1))
    until(lambda: heard("for the guest"), "the text in the guest", 30, page)

    inside(house, vmid, f": >/tmp/heard; printf '{message(GRAB, 1)}' >/tmp/now; mv /tmp/now /tmp/say")
    answer(REQUEST, message(TEXT_ITSELF, 1, text="from the guest"))
    expect(menu.get_by_role("textbox")).to_have_value("from the guest", timeout=30_000)
    menu.locator("summary").click()


def a_screenshot(page: Page, vmid: int) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="Screenshot").click()
    png = download.value.path().read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack_from(">II", png, 16)) >= 350
    assert download.value.suggested_filename.startswith(f"vm-{vmid}-")
