"""The door to external programs: what goes in, what comes out, and that nothing stays."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from vms.errors import CommandError
from vms.host.command import Limits, clean_environment, run, run_sync


async def test_answers_output_code_and_time() -> None:
    result = await run(["printf", "a b"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"a b", b"")
    assert result.text == "a b"
    assert 0 < result.seconds < 5


async def test_arguments_are_never_a_shells() -> None:
    result = await run(["printf", "%s", "$(id); `id` | x > /tmp/y"])
    assert result.text == "$(id); `id` | x > /tmp/y"


async def test_environment_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVELITE_ADMIN_PASSWORD", "secret")
    result = await run(["env"], env={"HOME": "/nowhere"})
    found = dict(line.split("=", 1) for line in result.text.splitlines())
    assert found == {**clean_environment(), "HOME": "/nowhere"}


async def test_begins_at_the_root_in_a_session_of_its_own() -> None:
    assert (await run(["pwd"])).text == "/\n"
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    theirs = (await run(["cat", "/proc/self/stat"])).text.rsplit(")", 1)[1].split()
    assert theirs[3] != fields[3]


async def test_input_is_given_and_otherwise_empty() -> None:
    assert (await run(["cat"], input=b"\0\xff")).stdout == b"\0\xff"
    assert (await run(["cat"])).stdout == b""


async def test_failure_carries_the_programs_words() -> None:
    with pytest.raises(CommandError) as caught:
        await run(["ls", "/no/such/place"])
    assert caught.value.exit_code == 2
    assert "No such file" in str(caught.value)
    assert (await run(["false"], check=False)).exit_code == 1


@pytest.mark.parametrize("words", [["/no/such/program"], [], ["printf", "a\0b"]])
async def test_what_cannot_be_run_is_told(words: list[str]) -> None:
    with pytest.raises(CommandError):
        await run(words)
    with pytest.raises(CommandError):
        run_sync(words)


async def test_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    """A program's children go with it: the grandchild's pid is free afterwards."""
    noted = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CommandError, match="not finished after"):
        await run(["sh", "-c", f"sleep 60 & echo $! > {noted}; wait"], timeout=0.5)
    assert time.monotonic() - began < 5
    assert not running(int(noted.read_text()))


async def test_cancellation_ends_it_too(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    task = asyncio.create_task(run(["sh", "-c", f"echo $$ > {noted}; exec sleep 60"]))
    async with asyncio.timeout(5):
        while not noted.exists() or not noted.read_text():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running(int(noted.read_text()))


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


async def test_limits_hold_before_the_program_begins() -> None:
    limits = Limits(cpu_seconds=7, address_space=512 << 20, file_size=4096)
    text = (await run(["sh", "-c", "ulimit -t; ulimit -v; ulimit -c"], limits=limits)).text
    assert text.split() == ["7", str(512 << 10), "0"]


async def test_another_user_without_roots_groups() -> None:
    if os.geteuid() != 0:
        with pytest.raises(CommandError, match="only root"):
            await run(["id"], user="nobody")
        return
    result = await run(["id"], user="nobody")
    assert "uid=65534(nobody)" in result.text
    assert "root" not in result.text


async def test_unknown_user_is_told() -> None:
    with pytest.raises(CommandError, match="there is no user 'no-such-user-here'"):
        await run(["id"], user="no-such-user-here")


def test_the_synchronous_twin(tmp_path: Path) -> None:
    assert run_sync(["cat"], input=b"x").stdout == b"x"
    with pytest.raises(CommandError, match="not finished"):
        run_sync(["sleep", "60"], timeout=0.2)
    with pytest.raises(CommandError):
        run_sync(["false"])
