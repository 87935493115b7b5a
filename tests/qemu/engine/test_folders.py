"""A shared folder through the whole product: named by the administrator, served while the guest runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from enginekit import Engine, until

from vms.qemu import sharing

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not sharing.program(), reason="only root can share folders, with virtiofsd"
)
SHARED = {"name": "shared", "ostype": "l26", "memory": "64", "freeze": "1", "virtiofs0": "documents"}


def helpers(engine: Engine) -> list[int]:
    """Every ``virtiofsd`` of this installation."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"virtiofsd" in words.split(b"\0")[0] and os.fsencode(engine.home) in words:
            found.append(int(folder.name))
    return found


def test_a_folder_is_shared_while_the_guest_runs(engine: Engine) -> None:
    from vms.errors import VMError
    from vms.models import Node

    vm = engine.vm(SHARED)
    with pytest.raises((VMError, AssertionError), match="shares no folder 'documents'"):
        engine.do("qmstart", vm)
    (engine.home / "documents").mkdir()
    (engine.home / "mappings.conf").write_text(f"folder: documents\n    path {engine.home}/documents\n")
    engine.kill()
    engine.start()
    assert Node.objects.get().facts["folder_mappings"] == {"documents": f"{engine.home}/documents"}
    engine.do("qmstart", vm)
    assert len(helpers(engine)) >= 1
    engine.do("qmstop", vm)
    until(lambda: not helpers(engine), "the folder's helper to leave")
    (engine.home / "documents").rmdir()
    with pytest.raises((VMError, AssertionError), match="is not there"):
        engine.do("qmstart", vm)
    assert not helpers(engine)
    assert not list((engine.run_dir / "vm").glob("*/virtiofs*"))
