"""Two hundred thousand hostile configuration files: none ends in a traceback, each in bounded time.

The texts are golden files and wild lines cut up and glued together. Every one is read; a part of them is
written and read back as the same, and some are checked and turned into a command, as an import would. Time is
the processor's, so that a crowded box does not count.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from pathlib import Path
from random import Random

import pytest

from vms.config import conffile
from vms.config.relations import check_config
from vms.config.vmconfig import VMConfig
from vms.errors import VMError
from vms.hardware import OPTIONS, SLOTS
from vms.hardware.context import LaunchContext, NodeFacts, RuntimePaths
from vms.qemu.cmdline import command

TEXTS = 200_000
BUDGET = 120
"""Processor seconds for all of them, shared by two processes."""
SLOWEST = 1.0
"""Processor seconds for one text, far above what any needs: a pattern that explodes takes minutes."""
GOLDEN = Path(__file__).parents[2] / "golden"
CONTEXT = LaunchContext(
    vmid=100,
    facts=NodeFacts(storages={"local": {"type": "dir", "path": "/srv"}}, bridges=({"name": "vmbr0"},)),
    paths=RuntimePaths.of("/run/x", "/var/log/x", 100),
)
WILD = (
    *(
        "[PENDING]",
        "[pending]",
        "[snap1]",
        "[special:cloudinit]",
        "[special:none]",
        "[:3]",
        "[]",
        "[",
        "]",
        "#",
    ),
    *(
        "#%",
        "#%zz note",
        "description: %0A%",
        "delete: a,!b;c",
        "delete",
        ":",
        "::::",
        "a:",
        " : ",
        "\t",
        "\r",
    ),
    *(
        "cdrom: none",
        "smp: 99999999999999999999",
        "memory: \u0661\u0662",
        "cores: -1",
        "name: \u202ex",
        "\ufeff",
    ),
    *(
        "scsi99: x",
        "scsi01: local:1",
        "net0: virtio,tag=5000",
        "args: 'unbalanced",
        "boot: order=;;",
        "boot: \u00a0",
    ),
    *(
        "smbios1: uuid=12345678-abcd-1234-efgh-123456789abc",
        "numa: verify",
        "snapstate: prepare",
        "lock: backup",
    ),
    *(f"{slot.name}0: {'a,' * 200}" for slot in SLOTS[:3]),
    *("scsi0: " + ",".join(["cache=none"] * 50), "tags: " + ";" * 300, "affinity: " + "0-9," * 200),
    *("startdate: 99999-99-99", "cpu: " + "x" * 5000, "trunks: 1-2-3", "hotplug: ,;,", "\x00", "\x1b[31m"),
)
SIGNS = ":,=;#[]%\"'\\/ \t\r\n\0\x7fü日🐧\u2028\ud7ff-+0189azAZ_."


def pieces() -> list[str]:
    """Sound lines and wild ones."""
    lines = {line for path in GOLDEN.glob("*.conf") for line in path.read_text().splitlines()}
    keys = [f"{key}: {value}" for key in OPTIONS for value in ("1", "x=1,y", "\u00fc")]
    return sorted(lines) + keys + list(WILD) * 4


def text(random: Random, lines: list[str]) -> str:
    """A few lines, some of them cut, glued to each other or with a sign gone wrong."""
    chosen = random.choices(lines, k=random.randrange(1, 7))
    for place in range(len(chosen)):
        chance, line = random.random(), chosen[place]
        if chance < 0.25 and line:
            cut = random.randrange(len(line))
            chosen[place] = line[:cut] + random.choice(SIGNS) + line[cut + random.randrange(2) :]
        elif chance < 0.35:
            cut = random.randrange(len(line) + 1)
            chosen[place] = line[:cut] + random.choice(lines)[cut // 2 :]
    return "\n".join(chosen)


def fuzz(seed: int, count: int) -> tuple[int, float, float]:
    """Read ``count`` texts; answers how many could be read fully, how long the slowest and all took."""
    started = time.process_time()
    random, lines, whole, slowest = Random(seed), pieces(), 0, 0.0
    for number in range(count):
        given = text(random, lines)
        begun = time.process_time()
        try:
            parsed = conffile.parse(given)
            whole += not parsed.warnings
            if number % 8 == 0:
                again = conffile.format(parsed)
                assert conffile.format(conffile.parse(again)) == again
            if number % 32 == 0:
                as_an_import_would(parsed.main)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\nfor {given!r}") from error
        slowest = max(slowest, time.process_time() - begun)
    return whole, slowest, time.process_time() - started


def as_an_import_would(mapping: dict[str, str]) -> None:
    """Check what was read and ask for its command; a refusal is an answer, anything else is a fault."""
    with contextlib.suppress(VMError):
        check_config(mapping)
    with contextlib.suppress(VMError):
        command(VMConfig.parse(mapping), CONTEXT)


@pytest.mark.timeout(600)
def test_no_text_ends_in_a_traceback() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        jobs = [(seed, TEXTS // 20) for seed in range(20)]
        results = pool.starmap(fuzz, jobs, chunksize=1)
    assert len(results) * (TEXTS // 20) == TEXTS
    assert max(slowest for _, slowest, _ in results) < SLOWEST
    assert sum(taken for _, _, taken in results) < BUDGET
    # The mixture is neither all rubbish nor all sound.
    sound = sum(whole for whole, _, _ in results)
    assert TEXTS * 0.05 < sound < TEXTS * 0.8, sound
