"""A TPM for a real QEMU: made once, up before it, gone with it."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from smallest import minimal

from vms.errors import QemuError
from vms.host.paths import RunPaths, VMPaths
from vms.qemu import process, tpm
from vms.storage.base import Volume
from vms.storage.directory import DirectoryStorage

USER = "nobody" if os.geteuid() == 0 else None


@pytest.fixture
def paths(short: Path) -> VMPaths:
    return RunPaths(short / "run", short / "log", USER).prepare(101)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A TPM's state, made once: its keys take seconds."""
    folder = Path(tempfile.mkdtemp(prefix="pvd-", dir="/tmp"))
    state = folder / "state"
    state.touch(mode=0o644)
    os.truncate(state, tpm.STATE_SIZE)
    asyncio.run(tpm.set_up(state, folder / "authority", user=USER))
    yield state
    shutil.rmtree(folder)


@pytest.fixture
async def state(short: Path, made: Path) -> Volume:
    """A volume of the test's own with that state."""
    storage = DirectoryStorage("local", short / "local", user=USER)
    await storage.prepare()
    volume = await storage.allocate(101, tpm.STATE_SIZE, "raw")
    volume.path.write_bytes(made.read_bytes())
    return await storage.activate(volume.volid, "raw")


def test_a_new_tpm_is_its_users_and_its_authority_is_not(made: Path) -> None:
    found = made.stat()
    assert found.st_size == tpm.STATE_SIZE
    assert found.st_uid == (pwd.getpwnam(USER).pw_uid if USER else os.geteuid())
    assert stat.S_IMODE(found.st_mode) == 0o600
    authority = made.with_name("authority")
    assert authority.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(authority.stat().st_mode) == 0o700
    assert (authority / "signkey.pem").exists()


async def test_a_guest_sees_its_tpm_and_both_end_together(paths: VMPaths, state: Volume) -> None:
    emulator = await tpm.start(paths, state.path, user=USER)
    chardev = [
        "-chardev",
        f"socket,id=tpmchar,path={paths.tpm}",
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpmchar",
    ]
    argv = minimal(paths, *chardev, "-device", "tpm-tis,tpmdev=tpm0")
    launched = await process.launch(argv, qmp=paths.qmp, log=paths.log, user=USER)
    (told,) = await launched.monitor.execute("query-tpm")
    assert told["options"]["type"] == "emulator"
    await process.terminate(launched.running)
    assert await process.wait_ended(emulator, 5)
    await launched.monitor.close()
    # What it kept is taken up by the next run.
    again = await tpm.start(paths, state.path, user=USER)
    assert process.alive(again)
    await tpm.stop(paths)
    assert not process.alive(again)


async def test_stop_ends_one_that_no_qemu_ever_used(paths: VMPaths, state: Volume) -> None:
    emulator = await tpm.start(paths, state.path, user=USER)
    assert stat.S_IMODE(paths.tpm.stat().st_mode) == 0o600
    assert process.adopt(paths.tpm_pidfile, 101) == emulator
    await tpm.stop(paths)
    assert not process.alive(emulator)
    assert list(paths.tpm.parent.iterdir()) == []
    await tpm.stop(paths)


async def test_a_start_after_a_crash_is_not_fooled_by_old_files(paths: VMPaths, state: Volume) -> None:
    paths.tpm.touch()
    paths.tpm_pidfile.write_text("1")
    emulator = await tpm.start(paths, state.path, user=USER)
    assert process.alive(emulator)
    await tpm.stop(paths)


async def test_failures_are_told_and_leave_nothing(paths: VMPaths, state: Volume, short: Path) -> None:
    with pytest.raises(QemuError, match="does not exist"):
        await tpm.start(paths, short / "no" / "such" / "state", user=USER)
    with pytest.raises(QemuError, match="comma"):
        await tpm.start(paths, short / "a,b", user=USER)
    nowhere = RunPaths(short / "nowhere", paths.log.parent).vm(101)
    with pytest.raises(QemuError, match=r"the TPM did not start: .*swtpm"):
        await tpm.start(nowhere, state.path, user=USER)
    assert not any(str(nowhere.tpm) in words for words in command_lines())


async def test_a_state_that_cannot_be_made(short: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await tpm.set_up(short / "no" / "folder" / "state", short / "authority")


def command_lines() -> list[str]:
    return [path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
