"""Files inside the guest, through its agent: read up to 16 MiB, written up to 60 KiB (PVE's limits)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from vms.errors import MonitorError, OutcomeUnknown
from vms.qemu.agent import Agent

READ_LIMIT = 16 << 20
"""Bytes of a file that are read; the rest is cut off and said to be."""
WRITE_LIMIT = 60 << 10
"""Bytes that can be written."""
CHUNK = 1 << 20
TIMEOUT = 30
"""Seconds for each of the agent's steps."""


async def read(agent: Agent, path: str, limit: int = READ_LIMIT) -> tuple[bytes, bool]:
    """The file's first ``limit`` bytes, and whether there are more. Raises :class:`MonitorError`."""
    found = bytearray()
    async with _opened(agent, path, "r") as handle:
        while len(found) <= limit:
            count = min(CHUNK, limit + 1 - len(found))
            piece = await _ask(agent, "guest-file-read", {"handle": handle, "count": count})
            data = _bytes(piece.get("buf-b64"))[:count]
            found += data
            if piece.get("eof") or not data:
                break
    return bytes(found[:limit]), len(found) > limit


async def write(agent: Agent, path: str, content: bytes) -> int:
    """Make ``content`` the file's; answers the bytes written. Raises :class:`MonitorError`."""
    done = 0
    async with _opened(agent, path, "w") as handle:
        while done < len(content):
            piece = base64.b64encode(content[done:]).decode()
            said = await _ask(agent, "guest-file-write", {"handle": handle, "buf-b64": piece})
            count = said.get("count")
            if not isinstance(count, int) or not 0 < count <= len(content) - done:
                raise MonitorError("guest-file-write", "GenericError", f"only {done} bytes were written")
            done += count
        await _ask(agent, "guest-file-flush", {"handle": handle})
    return done


@asynccontextmanager
async def _opened(agent: Agent, path: str, mode: str) -> AsyncIterator[int]:
    """A handle of the guest's, given back whatever happens."""
    arguments = {"path": path, "mode": mode}
    handle = await agent.execute("guest-file-open", arguments, timeout=TIMEOUT)
    if not isinstance(handle, int):
        raise MonitorError("guest-file-open", "GenericError", "the agent answers no handle")
    try:
        yield handle
    finally:
        with suppress(MonitorError, OutcomeUnknown):  # the guest forgets it with its agent at the latest
            await agent.execute("guest-file-close", {"handle": handle}, timeout=TIMEOUT)


async def _ask(agent: Agent, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    answer = await agent.execute(command, arguments, timeout=TIMEOUT)
    return answer if isinstance(answer, dict) else {}


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except binascii.Error:
        return b""
