"""A real QEMU as a process: coming up, failing in its own words, found again, watched, ended."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from smallest import minimal

from vms.errors import LaunchError, MonitorError, OutcomeUnknown
from vms.host.paths import RunPaths, VMPaths
from vms.qemu import process
from vms.qemu.monitor import Monitor
from vms.qemu.process import Running


async def test_up_answering_and_down_again(paths: VMPaths) -> None:
    launched = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log)
    pid = launched.running.pid
    assert await launched.monitor.query_status() == "prelaunch"
    assert process.alive(launched.running)
    assert process.adopt(paths.pidfile, 101) == launched.running
    codes: list[int | None] = []
    ended = asyncio.Event()
    process.watch(launched.running, lambda code: (codes.append(code), ended.set()))
    await launched.monitor.quit()
    async with asyncio.timeout(5):
        await ended.wait()
    assert codes == [0]
    assert not Path(f"/proc/{pid}").exists()  # no zombie
    assert not process.alive(launched.running)
    assert process.adopt(paths.pidfile, 101) is None
    await launched.monitor.close()


async def test_it_is_confined(paths: VMPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own session, no environment of ours, no stray descriptor, no core file, a log of its own."""
    monkeypatch.setenv("PVELITE_ADMIN_PASSWORD", "secret")
    leak = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leak, True)
    launched = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log)
    proc = Path(f"/proc/{launched.running.pid}")
    assert b"PVELITE" not in (proc / "environ").read_bytes()
    assert os.getsid(launched.running.pid) == launched.running.pid
    assert str((proc / "cwd").readlink()) == "/"
    targets = [str(fd.readlink()) for fd in (proc / "fd").iterdir()]
    assert "/etc/hostname" not in targets
    assert targets.count(str(paths.log)) == 2
    assert str((proc / "fd" / "0").readlink()) == "/dev/null"
    assert "Max core file size        0 " in (proc / "limits").read_text()
    assert "Umask:\t0077" in (proc / "status").read_text()
    assert stat.S_IMODE(paths.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.qmp.stat().st_mode) & 0o077 == 0
    os.close(leak)
    assert await process.terminate(launched.running) == "terminated"
    await launched.monitor.close()


async def test_as_another_user(short: Path) -> None:
    if os.geteuid() != 0:
        with pytest.raises(LaunchError, match="only root"):
            await process.launch(["true"], qmp=short / "q", log=short / "log", user="nobody")
        return
    paths = RunPaths(short / "run", short / "log", "nobody").prepare(101)
    launched = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log, user="nobody")
    status = Path(f"/proc/{launched.running.pid}/status").read_text()
    uid = str(pwd.getpwnam("nobody").pw_uid)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {uid}
    assert "0" not in fields["Groups"].split()
    assert int(fields["CapEff"], 16) == 0
    assert paths.log.stat().st_uid == 0
    await process.terminate(launched.running)
    await launched.monitor.close()


async def test_qemus_own_words_when_it_refuses(paths: VMPaths) -> None:
    paths.log.write_text("an older run's words\n")
    argv = minimal(paths, "-device", "no-such-device")
    with pytest.raises(LaunchError, match="'no-such-device' is not a valid device model name") as caught:
        await process.launch(argv, qmp=paths.qmp, log=paths.log)
    assert caught.value.exit_code == 1
    assert caught.value.argv == tuple(argv)
    assert "older run" not in caught.value.log_tail


async def test_a_program_that_is_no_qemu(paths: VMPaths) -> None:
    with pytest.raises(LaunchError, match="cannot be run"):
        await process.launch(["/no/such/qemu"], qmp=paths.qmp, log=paths.log)
    with pytest.raises(LaunchError, match="exit code 0"):
        await process.launch(["true"], qmp=paths.qmp, log=paths.log)


async def test_silence_is_ended(paths: VMPaths) -> None:
    with pytest.raises(LaunchError, match=r"no answer on its monitor within 0\.3 seconds"):
        await process.launch(["sleep", "61.25"], qmp=paths.qmp, log=paths.log, timeout=0.3)
    assert not pids_of("61.25")


async def test_cancelling_a_start_leaves_no_process(paths: VMPaths) -> None:
    task = asyncio.create_task(process.launch(["sleep", "61.5"], qmp=paths.qmp, log=paths.log))
    async with asyncio.timeout(5):
        while not pids_of("61.5"):
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not pids_of("61.5")


def pids_of(word: str) -> list[int]:
    """Processes with that very argument."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


async def test_a_monitor_left_by_another_is_not_taken_for_ours(paths: VMPaths, short: Path) -> None:
    """A second QEMU that fails must not be reported as up because the first one's socket answers."""
    first = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log)
    await first.monitor.close()
    with pytest.raises(LaunchError):
        await process.launch(["sleep", "61.75"], qmp=paths.qmp, log=short / "other", timeout=0.3)
    assert process.alive(first.running)
    again = await Monitor.connect(paths.qmp)
    assert await again.query_status() == "prelaunch"
    await again.close()
    await process.terminate(first.running)


async def test_sigkill_is_noticed_at_once(paths: VMPaths) -> None:
    launched = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log)
    codes: list[int | None] = []
    ended = asyncio.Event()
    process.watch(launched.running, lambda code: (codes.append(code), ended.set()))
    began = time.monotonic()
    os.kill(launched.running.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await ended.wait()
        await launched.monitor.wait_closed()
    assert time.monotonic() - began < 10
    assert codes == [-signal.SIGKILL]
    assert launched.monitor.closed
    with pytest.raises((MonitorError, OutcomeUnknown)):
        await launched.monitor.query_status()


MANAGER = """
    import asyncio, sys
    from pathlib import Path
    from vms.host.paths import RunPaths
    from vms.qemu import process

    async def main():
        run, log, *argv = sys.argv[1:]
        paths = RunPaths(Path(run), Path(log)).vm(101)
        launched = await process.launch(argv, qmp=paths.qmp, log=paths.log)
        print(launched.running.pid, launched.running.start_time, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


async def test_it_outlives_a_killed_manager_and_is_adopted(runs: RunPaths, paths: VMPaths) -> None:
    words = [sys.executable, "-c", textwrap.dedent(MANAGER), str(runs.run_dir), str(runs.log_dir)]
    manager = subprocess.Popen(
        [*words, *minimal(paths)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert manager.stdout is not None
    line = await asyncio.to_thread(manager.stdout.readline)
    was = Running(*map(int, line.split()))
    manager.kill()
    manager.wait()
    manager.stdout.close()
    found = process.adopt(paths.pidfile, 101)
    assert found == was
    monitor = await Monitor.connect(paths.qmp)
    assert await monitor.query_status() == "prelaunch"
    codes: list[int | None] = []
    ended = asyncio.Event()
    process.watch(found, lambda code: (codes.append(code), ended.set()))
    assert await process.terminate(found) in ("terminated", "gone")
    async with asyncio.timeout(10):
        await ended.wait()
    assert codes == [None]  # only its parent could have known
    await monitor.close()


async def test_only_the_right_process_is_adopted(paths: VMPaths, short: Path) -> None:
    launched = await process.launch(minimal(paths), qmp=paths.qmp, log=paths.log)
    elsewhere = short / "elsewhere.pid"
    elsewhere.mkdir()
    copied = elsewhere / "qemu.pid"
    copied.write_text(str(launched.running.pid))
    assert process.adopt(copied, 101) is None  # that process does not name this folder
    ours = paths.pidfile.read_text()
    for text in ("", "x", "-1", "0", str(os.getpid()), "999999999"):
        paths.pidfile.write_text(text)
        assert process.adopt(paths.pidfile, 101) is None
    paths.pidfile.unlink()
    assert process.adopt(paths.pidfile, 101) is None
    planted = short / "planted"
    planted.write_text(ours)
    paths.pidfile.symlink_to(planted)
    assert process.adopt(paths.pidfile, 101) is None
    stale = Running(launched.running.pid, launched.running.start_time - 1)
    assert not process.alive(stale)
    assert not process.send_signal(stale, signal.SIGKILL)
    assert await process.terminate(stale) == "gone"
    assert process.alive(launched.running)
    await process.terminate(launched.running)
    await launched.monitor.close()


async def test_a_process_that_will_not_go_is_killed(short: Path) -> None:
    with (short / "log").open("wb") as output:
        child = process.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], output)
    running = Running(child.pid, process.start_time(child.pid) or 0)
    async with asyncio.timeout(5):
        while b"ready" not in (short / "log").read_bytes():
            await asyncio.sleep(0.01)
    assert await process.terminate(running, grace=0.2) == "killed"
    assert await process.terminate(running) == "gone"


async def test_a_log_that_has_grown_is_put_aside(paths: VMPaths) -> None:
    paths.log.write_bytes(b"x" * (process.LOG_LIMIT + 1))
    with process.open_log(paths.log):
        assert paths.log.stat().st_size == 0
    assert paths.log.with_name(paths.log.name + ".1").stat().st_size > process.LOG_LIMIT
    paths.log.unlink()
    paths.log.symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="Too many levels"):
        process.open_log(paths.log)
