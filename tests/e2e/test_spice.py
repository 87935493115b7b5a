"""SPICE in the running product: a screen in the page, and the file that gets a viewer program in, once."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hands import LOOK, quiet, until
from house import House, free_port
from machines import SMALL, make, ops
from playwright.sync_api import Browser, Page, expect

from console import spicelink

SPICE = {**SMALL, "name": "spice", "vga": "virtio"}
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)


@pytest.fixture
def spice_house() -> Iterator[House]:
    """A product whose operator allowed a port."""
    building = House(environ={"PVELITE_SPICE": f"127.0.0.1:{free_port()}"})
    try:
        building.start()
        yield building
    finally:
        building.close()


def read(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines()
    assert lines[0] == "[virt-viewer]"
    return dict(line.split("=", 1) for line in lines[1:])


def link(told: dict[str, str], password: str) -> int:
    """What the server answers to a viewer that does as the file says."""
    context = ssl.create_default_context(cadata=told["ca"].replace("\\n", "\n"))
    name = told["host-subject"].rpartition("CN=")[2]
    plain = socket.create_connection((told["host"], int(told["tls-port"])), 60)
    with context.wrap_socket(plain, server_hostname=name) as tls, tls.makefile("rb") as file:
        tls.sendall(spicelink.message(0, spicelink.MAIN))
        head = file.read(spicelink.HEADER.size)
        if not head:
            return -1
        reply = spicelink.parse_reply(head + file.read(spicelink.whole(head) - len(head)))
        key = serialization.load_der_public_key(reply.key)
        assert isinstance(key, rsa.RSAPublicKey)
        tls.sendall(struct.pack("<I", spicelink.AUTH_SPICE) + key.encrypt(password.encode() + b"\0", OAEP))
        return int.from_bytes(file.read(4), "little")


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    links = process.net_connections("inet")
    return [(one.laddr.ip, one.laddr.port) for one in links if one.status == psutil.CONN_LISTEN]


def test_a_screen_and_a_viewer_file(
    spice_house: House, browser: Browser, log_in: Callable[..., None], tmp_path: Path
) -> None:
    house = spice_house
    page = browser.new_context(base_url=house.url, accept_downloads=True).new_page()
    log_in(page)
    vmid = make(house, start=True, config=SPICE)
    with quiet(page):
        open_from_the_menu(page, vmid)
        until(lambda: page.evaluate(LOOK)["lit"] > 500, "the guest's pixels", 60, page)
        with ops(house, vmid) as qemu:
            page.get_by_role("button", name="Ctrl-Alt-Del").click()
            qemu.event("RESET")

        with page.expect_download() as download:
            page.get_by_role("button", name="Viewer file").click()
        download.value.save_as(tmp_path / "file.vv")
        assert download.value.suggested_filename == f"vm-{vmid}.vv"
        told = read(tmp_path / "file.vv")
        assert link(told, told["password"] + "x") == spicelink.PERMISSION_DENIED
        assert link(told, told["password"]) == 0
        assert link(told, told["password"]) != 0, "it works once"
        expect(page.locator(".console-state")).to_contain_text("took it over", timeout=60_000)

    pid = house.guest_pid(vmid)
    assert pid is not None
    assert listening(psutil.Process(pid)) == []
    assert listening(psutil.Process(house.role_pid("console"))) == [("127.0.0.1", int(told["tls-port"]))]
    assert house.qm("stop", str(vmid)).returncode == 0
    page.context.close()


def open_from_the_menu(page: Page, vmid: int) -> None:
    page.goto(f"/vms/{vmid}")
    page.locator("#menu-console").click()
    page.get_by_role("menuitem", name="SPICE").click()
    expect(page).to_have_url(re.compile(f"/vms/{vmid}/spice$"))
    expect(page.locator(".console-state")).to_have_text("Connected", timeout=60_000)
