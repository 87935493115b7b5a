"""What is measured of real guests, and how two share memory when the node is said to be short of it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator

import pytest
from enginekit import Engine, until
from guestkit.media import Media

from vms.models import VM, Metric, Node

MIB = 1 << 20
BOOT = 120


@pytest.fixture
def hurried(engine: Engine) -> Iterator[Engine]:
    """The worker looks five times a second, and believes what ``short_by`` says of the node's memory."""
    engine.stop()
    short_by(engine, -1000)
    engine.start(PVELITE_ROUND="0.2", PVELITE_MEMINFO=str(engine.home / "meminfo"))
    yield engine
    engine.stop()


def short_by(engine: Engine, mib: int) -> None:
    """Let the node have so much more memory in use than its 80 %; negative: less."""
    total = 100_000
    near = engine.home / "meminfo.new"
    near.write_text(f"MemTotal: {total << 10} kB\nMemAvailable: {(total // 5 - mib) << 10} kB\n")
    near.replace(engine.home / "meminfo")


def guest(engine: Engine, media: Media, vmid: int, **more: str) -> VM:
    for path in (media.kernel, media.initrd):
        shutil.copy(path, engine.home / path.name)
        (engine.home / path.name).chmod(0o644)
    words = media.direct_boot()
    words[1], words[3] = (str(engine.home / path.name) for path in (media.kernel, media.initrd))
    config = {"name": f"guest-{vmid}", "ostype": "l26", "agent": "1", "args": shlex.join(words), **more}
    return engine.vm(config, vmid)


def usage(vm: VM) -> dict[str, float]:
    vm.refresh_from_db()
    return dict(vm.usage)


def balloon(vm: VM) -> float:
    return usage(vm).get("balloon", 0) / MIB


def test_two_guests_give_by_their_shares_and_get_it_back(hurried: Engine, guest_media: Media) -> None:
    engine = hurried
    rich = guest(engine, guest_media, 110, memory="512", balloon="224", shares="3000", net0="virtio")
    poor = guest(engine, guest_media, 111, memory="512", balloon="224", shares="1000")
    for vm in (rich, poor):
        engine.do("qmstart", vm)
    for vm in (rich, poor):
        until(lambda vm=vm: usage(vm).get("freemem"), f"the balloon driver of {vm.vmid} reports", BOOT)
        told = usage(vm)
        assert told["maxmem"] == 512 * MIB
        assert 30 * MIB < told["mem"] < 512 * MIB, told
        assert told["memhost"] > 100 * MIB, "what its process takes"
        assert told["cpu"] >= 0
        assert told["diskread"] >= 0
    until(lambda: balloon(rich) == balloon(poor) == 512, "both grow to all of their memory", BOOT)

    def settled() -> bool:
        """The node gets what they give: it is short by what is left of 200 MiB, and so they come to rest."""
        have = balloon(rich), balloon(poor)
        left = 200 - (2 * 512 - round(sum(have)))
        short_by(engine, left)
        return abs(left) <= 20 and have[0] - have[1] >= 40

    told = usage(poor)
    assert (told["minimum"], told["shares"]) == (224 * MIB, 1000)
    until(settled, "who has fewer shares gives more", BOOT)

    short_by(engine, 5000)
    until(lambda: balloon(poor) <= 224 and balloon(rich) <= 224, "both shrink to their minimum", BOOT)
    assert balloon(rich) == balloon(poor) == 224, "never below"
    until(lambda: usage(poor).get("target") == 224 * MIB, "the page tells what it was told", 30)

    short_by(engine, -1000)
    until(lambda: balloon(rich) == balloon(poor) == 512, "and grow back", BOOT)
    until(lambda: Metric.objects.filter(vm=rich, frame="hour").exists(), "the graphs have a sample", 60)
    assert Metric.objects.filter(vm=rich).count() == 5
    until(lambda: "netin" in usage(rich), "a guest without a bridge tells of its traffic itself", 60)
    assert "netin" not in usage(poor), "who has no card tells of none"
    engine.do("qmstop", rich)
    until(lambda: usage(rich) == {}, "what is off has no usage", 30)
    busy = Node.objects.get().usage
    assert busy["memtotal"] > busy["memused"] > 0
    assert 0 <= busy["cpu"] <= 1
    assert busy.get("diskread", 0) >= 0
