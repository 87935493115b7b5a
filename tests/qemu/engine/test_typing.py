"""Keys and texts sent to a real guest's keyboard, read back where its shell got them."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from enginekit import ROOT, Engine, until
from guestkit.media import Media
from guestkit.sleeper import inside, sleeper

from vms.errors import ConfigError, StateError
from vms.models import VM, Task
from vms.operations.keys import type_text

EVERYTHING = "The quick BROWN fox ~!@#$%^&*()_+`-={}|[]\\:\"<>?;',./ 0123456789"
"""Every character of an US keyboard's second level, and more."""
SHELL_TEXT = f"cat >/tmp/typed <<'END'\n{EVERYTHING}\nEND\n"

PLAIN, SHIFT, ALTGR = 0, 1, 2
GERMAN = {
    PLAIN: {21: "z", 44: "y", 86: "<", 53: "-", 12: 0x0BDF, 13: 0x0401, 41: 0x0402, 27: "+", 43: "#"},
    SHIFT: {21: "Z", 44: "Y", 86: ">", 53: "_", 8: "/", 3: '"', 7: "&", 9: "(", 10: ")", 11: "=", 12: "?",
            13: 0x0400, 27: "*", 43: "'", 51: ";", 52: ":"},
    ALTGR: {16: "@", 8: "{", 9: "[", 10: "]", 11: "}", 12: "\\", 86: "|", 27: "~"},
}  # fmt: skip
"""What the German layout has elsewhere: modifiers -> the kernel's key number -> character, or keysym."""
MOVED = "zY/{[]}\\~|@<>;:_-+*#'^é`=?&()"
GERMAN_TEXT = f"cat >/tmp/german <<'END'\n{MOVED}\nEND\n"


def german(dump: bytes) -> bytes:
    """The kernel's own keymap (busybox ``dumpkmap``) with the keys of :data:`GERMAN` changed."""
    at = 7 + 256  # the head and a flag for each table
    tables = [number for number in range(256) if dump[7 + number]]
    found = bytearray(dump)
    for modifiers, keys in GERMAN.items():
        begin = at + 256 * tables.index(modifiers)  # 128 keys of two bytes
        for key, sign in keys.items():
            symbol = sign if isinstance(sign, int) else (0x0B00 if sign.isalpha() else 0) | ord(sign)
            struct.pack_into("<H", found, begin + 2 * key, symbol)
    return bytes(found)


@pytest.fixture
def guest(engine: Engine, parcels: None, guest_media: Media, warm_state: Path) -> VM:
    vm = sleeper(engine, guest_media, warm_state, 100)
    engine.do("qmstart", vm)
    return vm


def typed(engine: Engine, vm: VM, text: str, **more: Any) -> Task:
    """Type it and insist that it went well."""
    task = engine.end(type_text(text, vm=vm, user=None, **more), 120)
    assert task.status == "ok", task.message
    return task


def arrives(engine: Engine, path: str, wanted: str) -> None:
    """Wait until the file in the guest holds exactly that."""
    script = f"cat {path} 2>/dev/null || true"
    try:
        until(lambda: inside(engine, 100, script) == wanted, "the text arrives", 30)
    except AssertionError:
        assert inside(engine, 100, script) == wanted


def test_a_text_arrives_and_stays_out_of_rows_and_logs(engine: Engine, guest: VM) -> None:
    task = typed(engine, guest, SHELL_TEXT, rate=20)
    arrives(engine, "/tmp/typed", f"{EVERYTHING}\n")

    told = [line.text for line in task.lines.all()]
    assert f"{len(SHELL_TEXT)} characters, layout English (US), 20 a second" in told
    assert task.label == f"Type {len(SHELL_TEXT)} characters into 100 (warm)"
    everything = f"{told}{task.params}{task.message}{task.detail}{engine.log.read_text()}"
    assert "quick" not in everything
    assert "BROWN" not in everything

    # Another layout, set in the guest: AltGr, dead keys, keys that changed places.
    dump = base64.b64decode(inside(engine, 100, "dumpkmap | base64"))
    changed = base64.b64encode(german(dump)).decode()
    inside(engine, 100, f"echo {changed} | base64 -d | loadkmap")
    typed(engine, guest, GERMAN_TEXT, layout="de")
    arrives(engine, "/tmp/german", f"{MOVED}\n")

    with pytest.raises(ConfigError, match=r"'中' \(line 1\)"):
        type_text("中", vm=guest, user=None)
    by_qm(engine)
    refused_while_paused(engine, guest)
    stopped_in_the_middle(engine, guest)


def by_qm(engine: Engine) -> None:
    """The guest's keyboard is German now."""
    assert qm(engine, "type", "100", "--layout", "de", given="echo yes >/tmp/by-qm").returncode == 0
    assert qm(engine, "sendkey", "100", "ret").returncode == 0
    arrives(engine, "/tmp/by-qm", "yes\n")
    refused = qm(engine, "sendkey", "100", "ctrl-hyper")
    assert refused.returncode == 1
    assert "'hyper' is no key" in refused.stderr


def qm(engine: Engine, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "vms.cli.qm", *words]
    return subprocess.run(argv, cwd=ROOT, env=engine.environ, input=given, capture_output=True, text=True)


def refused_while_paused(engine: Engine, vm: VM) -> None:
    engine.do("qmpause", vm)
    engine.status(vm, "paused")
    with pytest.raises(StateError, match="it hears no keys"):
        type_text("no", vm=vm, user=None)
    with pytest.raises(StateError, match="it hears no keys"):
        engine.submit("sendkey", vm, key="a")
    engine.do("qmresume", vm)
    engine.status(vm, "running")


def stopped_in_the_middle(engine: Engine, vm: VM) -> None:
    """Cancelled: the task says how much was typed, and the keyboard is free for the next."""
    from vms.tasks.queue import request_cancel

    task = under_way(vm)
    request_cancel(task)
    engine.end(task)
    assert task.status == "cancelled"
    assert any(" of 400 characters were typed" in line.text for line in task.lines.all())
    engine.do("sendkey", vm, key="ctrl-c")
    engine.do("sendkey", vm, key="ret")
    killed_in_the_middle(engine, vm)


def under_way(vm: VM) -> Task:
    """A long text of which some is typed."""
    task = type_text("#" * 400, vm=vm, user=None, rate=5)

    def begun() -> bool:
        task.refresh_from_db()
        return bool(task.progress)

    until(begun, "some of it is typed", 60)
    return task


def killed_in_the_middle(engine: Engine, vm: VM) -> None:
    """A worker that dies while it types: the next one ends the task and types nothing twice."""
    task = under_way(vm)
    engine.kill()
    engine.start()
    engine.end(task)
    assert task.status == "error"
    assert "a part of the text may have been typed" in task.message
    engine.do("sendkey", vm, key="ctrl-c")
