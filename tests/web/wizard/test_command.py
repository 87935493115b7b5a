"""The live command: marks, links to the field at fault, the copy that runs, on drafts and on machines."""

from __future__ import annotations

import html
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.web.wizard.conftest import FACTS, Hand
from vms.config.creation import complete
from vms.hardware.context import NodeFacts
from vms.models import VM, Node, Storage, Volume
from vms.models.configuration import config_of, save_config
from vms.operations.nextstart import facts_of, parts_of


def lines(page: str, mark: str) -> list[str]:
    """The marked arguments of the panel."""
    found = re.findall(rf'<dd class="is-{mark}">.*?</span><span class="sr">.*?</span>(.*?)</dd>', page, re.S)
    return [html.unescape(text) for text in found]


def copied(page: str) -> str:
    """What the Copy button copies."""
    found = re.search(r"<pre hidden>(.*?)</pre>", page, re.S)
    assert found
    return html.unescape(found[1])


def test_a_fresh_draft_has_no_marks(hand: Hand) -> None:
    assert "-smp 1,sockets=1,cores=1,maxcpus=1" in hand.html
    assert not lines(hand.html, "added")
    assert not lines(hand.html, "removed")


def test_a_change_is_marked_until_the_next(hand: Hand) -> None:
    hand.to("cpu").press("save").change(cores="4")
    assert lines(hand.html, "removed") == ["-smp 1,sockets=1,cores=1,maxcpus=1"]
    assert lines(hand.html, "added") == ["-smp 4,sockets=1,cores=4,maxcpus=4"]
    assert hand.html.index("maxcpus=1<") < hand.html.index("maxcpus=4<")
    hand.open(hand.url)
    assert lines(hand.html, "added") == ["-smp 4,sockets=1,cores=4,maxcpus=4"]
    hand.to("memory").change(memory__current="1024")
    assert lines(hand.html, "added") == ["-m 1024"]
    assert lines(hand.html, "removed") == ["-m 2048"]


def test_what_goes_altogether_is_shown_too(hand: Hand) -> None:
    hand.to("network").press("save").change(none="on")
    gone = lines(hand.html, "removed")
    assert len([line for line in gone if "net0" in line]) == 2


def test_each_argument_leads_to_its_field(hand: Hand) -> None:
    number = hand.vm.vmid
    hand.to("confirm")
    links = dict(re.findall(r'<dt><a href="([^"]+)"[^>]*>([^<]+)</a>', hand.html))
    by_key = {key: html.unescape(address) for address, key in links.items()}
    assert by_key["cores"] == f"/vms/create/{number}/cpu#field-cores"
    assert by_key["memory"] == f"/vms/create/{number}/memory#field-memory.current"
    assert by_key["scsi0"] == f"/vms/create/{number}/disks?slot=scsi0#field-bus"
    assert by_key["net0"].startswith(f"/vms/create/{number}/network?slot=net0#field-")
    assert by_key["ide2"] == f"/vms/create/{number}/os#field-iso"
    for address in by_key.values():
        path, _, anchor = address.partition("#")
        page = hand.client.get(path, follow=True)
        assert page.request["PATH_INFO"] == path.partition("?")[0]
        if anchor not in ("field-iso",):
            assert f'id="{anchor}"' in page.content.decode(), address


def test_a_locked_tab_has_no_link(hand: Hand) -> None:
    keys = re.findall(r"<dt>([a-z0-9]+)</dt>", hand.html)
    assert "cores" in keys
    assert "memory" in keys


def test_it_is_what_a_launch_builds(hand: Hand) -> None:
    hand.to("confirm")
    vm = hand.vm
    script = copied(hand.html)
    assert script.startswith(f"# Runs once VM {vm.vmid} has been created")
    words = shlex.split(script[script.index("/usr/bin/qemu") :].replace("\\\n", ""))
    facts = facts_of(vm.node, {"local": Storage.objects.get().facts()})
    mapping = dict(
        hand.config, scsi0=hand.config["scsi0"].replace("local:32", "local:100/vm-100-disk-0.qcow2")
    )
    wanted = [word for part in parts_of(vm.vmid, mapping, facts) for word in part.argv()]
    assert words[1:] == wanted


def test_secrets_are_masked(hand: Hand) -> None:
    vm = hand.vm
    save_config(vm, {**hand.config, "args": "-object secret,id=s0,password=geheim,data=x"})
    hand.to("confirm")
    assert "geheim" not in hand.html
    assert "password=********" in hand.html


@pytest.fixture
def machine(hand: Hand) -> VM:
    """A defined machine with a disk that is there."""
    vm = hand.vm
    storage = Storage.objects.get()
    Volume.objects.create(
        storage=storage, node=vm.node, name=f"{vm.vmid}/vm-{vm.vmid}-disk-0.qcow2", content="images",
        format="qcow2", size=1 << 26, vmid=vm.vmid,
    )  # fmt: skip
    config = dict(hand.config, scsi0=f"local:{vm.vmid}/vm-{vm.vmid}-disk-0.qcow2,size=64M", net0="virtio")
    save_config(vm, complete(config, NodeFacts.from_json(vm.node.facts)))
    VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED, draft={})
    return VM.objects.get()


def test_the_hardware_page_shows_the_next_start(hand: Hand, machine: VM) -> None:
    page = hand.client.get(f"/vms/{machine.vmid}/hardware").content.decode()
    assert "This is what the next start runs." in page
    assert "-smp 1,sockets=1,cores=1,maxcpus=1" in page
    anchors = set(re.findall(r'<dt><a href="#([^"]+)"', page))
    assert {"row-scsi0", "row-net0", "row-memory", "row-processors"} <= anchors
    for anchor in anchors:
        assert f'id="{anchor}"' in page, anchor
    options = set(re.findall(r'<dt><a href="/vms/\d+/options#([^"]+)"', page))
    table = hand.client.get(f"/vms/{machine.vmid}/options").content.decode()
    assert "row-boot" in options
    for anchor in options:
        assert f'id="{anchor}"' in table, anchor


def test_running_and_next_start_are_compared(hand: Hand, machine: VM) -> None:
    VM.everything.update(status="running", launch={"config": config_of(machine)})
    page = hand.client.get(f"/vms/{machine.vmid}/hardware").content.decode()
    assert "This command runs now, and the next start runs it again." in page
    VM.everything.update(pending={"memory": "1024", "net0": None})
    part = hand.client.get(f"/vms/{machine.vmid}/hardware?part=command").content.decode()
    assert "<html" not in part
    assert "The next start differs" in part
    assert lines(part, "added") == ["-m 1024"]
    gone = lines(part, "removed")
    assert "-m 2048" in gone
    assert any("net0" in line for line in gone)


def test_a_machine_that_cannot_start_says_why(hand: Hand, machine: VM) -> None:
    node = machine.node
    node.facts = {**node.facts, "threads": 1}
    node.save()
    VM.everything.update(cores=4)
    page = hand.client.get(f"/vms/{machine.vmid}/hardware").content.decode()
    assert "No command yet" in page
    assert "node&#x27;s 1 threads" in page


@pytest.mark.qemu
def test_the_copied_command_runs(
    hand: Hand, machine: VM, node: Node, tmp_path: Path, client: Client, admin: Any
) -> None:
    """Pasted into a shell, with -S appended: QEMU comes up and waits, with the machine's name and memory."""
    from vms.qemu.monitor import Monitor

    Storage.objects.update(path=str(tmp_path))
    disk = tmp_path / "images" / str(machine.vmid) / f"vm-{machine.vmid}-disk-0.qcow2"
    disk.parent.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], check=True)
    node.facts = {**FACTS, "qemu_binary": "/usr/bin/qemu-system-x86_64", "kvm": False, "accel_reason": "test"}
    node.save()
    page = hand.client.get(f"/vms/{machine.vmid}/hardware").content.decode()
    script = copied(page)
    socket = re.search(r"path=([^,\s]+qmp\.sock)", script)
    assert socket
    # A session of its own: the shell stays QEMU's parent, and only the whole group ends both.
    process = subprocess.Popen(["sh", "-c", f"{script} -S"], stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not os.path.exists(socket[1]) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert asked(Monitor, Path(socket[1])) == ("prelaunch", 2048 << 20)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def asked(monitor: Any, path: Path) -> tuple[str, int]:
    """State and memory as QEMU tells them."""
    import asyncio

    async def ask() -> tuple[str, int]:
        found = await monitor.connect(path, 20)
        try:
            size = (await found.execute("query-memory-size-summary"))["base-memory"]
            return await found.query_status(), int(size)
        finally:
            await found.close()

    return asyncio.run(ask())
