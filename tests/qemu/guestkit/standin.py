"""What answers in the place of a guest's agent: for tests that need a guest which is up, and no system in it.

It takes over the socket behind which QEMU offers the guest's own, of every run of that VM.
"""

from __future__ import annotations

import base64
import json
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SAID = {"exited": True, "exitcode": 0, "out-data": base64.b64encode(b"reseeds\n").decode()}
"""What every program ends with that it is told to run."""


class _Answers(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with suppress(OSError, ValueError):
            for line in self.rfile:
                asked = json.loads(line[line.rfind(b"\xff") + 1 :])
                before = b"\xff" if asked["execute"] == "guest-sync-delimited" else b""
                self.wfile.write(before + json.dumps(answer(asked)).encode() + b"\n")


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Its answer to one command."""
    match asked["execute"]:
        case "guest-sync-delimited":
            return {"return": asked["arguments"]["id"]}
        case "guest-ping":
            return {"return": {}}
        case "guest-exec":
            return {"return": {"pid": 1}}
        case "guest-exec-status":
            return {"return": SAID}
    return {"error": {"class": "CommandNotFound", "desc": "it only stands in for one"}}


@contextmanager
def agent(run_dir: Path, vmid: int) -> Iterator[None]:
    """While the block lasts the VM's guest seems to have an agent."""
    path, over = run_dir / "vm" / str(vmid) / "agent" / "qga.sock", threading.Event()
    servers: list[socketserver.ThreadingUnixStreamServer] = []

    def watch() -> None:
        ours = 0
        while not over.wait(0.02):
            with suppress(OSError):  # it comes and goes with QEMU
                if path.stat().st_ino == ours:
                    continue
                near = path.with_name("standin")
                near.unlink(missing_ok=True)
                server = socketserver.ThreadingUnixStreamServer(str(near), _Answers)
                server.daemon_threads = True
                servers.append(server)
                threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
                os.replace(near, path)
                ours = path.stat().st_ino

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        for server in servers:
            server.shutdown()
            server.server_close()
