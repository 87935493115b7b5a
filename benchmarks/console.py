"""What our console path costs beside stock websockify, both measured in one run, in turns.

    python benchmarks/console.py [-n ROUNDS] [--mib MIB] [--trips TRIPS] [--many CONSOLES] [--json]

Ours: browser → uvicorn (``ConsoleMux``) → console proxy (ticket, session, origin checked) → unix socket, on
the port of the pages. Stock: ``python -m websockify`` on a port of its own, one fork a connection, no checks.
The screen behind both is the same process: an echo for round trips (8 bytes there and back), a flood for
throughput. Medians over the rounds; a ratio above 1 means that ours takes longer, or moves more. Memory is
what CONSOLES open screens (at most 40), each after some traffic, add to the private pages of the processes
that carry them.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ORIGIN = "http://127.0.0.1:8006"
ECHO, FLOOD = 101, 102
MORE = range(110, 117)
"""VMs with an echo too: eight consoles look at one VM at most, forty are one user's."""
EACH = 6
MIB = 1 << 20
AIMS = {"rtt_p50_us": ("≤", 1.1), "mib_per_s": ("≥", 0.9)}
"""Ours against stock."""
MEMORY_AIM = 0.2
"""MB a console of ours may take."""
FRAME = b"\x82\x88" + bytes(4) + b"8 bytes!"


def serve_screen(path: str, flood: int) -> None:
    """Echo, or send ``flood`` bytes and wait for the end."""

    class Screen(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            chunk = bytes(1 << 16)
            with suppress(OSError):
                for _ in range(flood >> 16):
                    self.request.sendall(chunk)
                while data := self.request.recv(1 << 16):
                    self.request.sendall(data)

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    Server(path, Screen).serve_forever()


def serve_web(port: int) -> None:
    """uvicorn as the web role runs it, without pages."""
    import uvicorn

    from console.mux import ConsoleMux

    uvicorn.run(
        nothing, host="127.0.0.1", port=port, ws=ConsoleMux, http="httptools", loop="uvloop", lifespan="off",
        ws_per_message_deflate=False, log_level="warning", timeout_graceful_shutdown=1,
    )  # fmt: skip


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """The pages are not measured here."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def dial(address: int | str, limit: float = 15) -> socket.socket:
    """A connection to a TCP port of this machine or a unix socket, as soon as somebody listens."""
    end = time.monotonic() + limit
    while True:
        link = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        try:
            link.connect(address if isinstance(address, str) else ("127.0.0.1", address))
        except OSError:
            link.close()
            if time.monotonic() > end:
                raise
            threading.Event().wait(0.05)
            continue
        link.settimeout(60)
        if link.family == socket.AF_INET:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link


def upgrade(port: int, path: str, headers: Sequence[str] = ()) -> socket.socket:
    """An open websocket. Raises ``RuntimeError`` when it was refused."""
    link = dial(port)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *headers, "", "",
    ]  # fmt: skip
    link.sendall("\r\n".join(lines).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        byte = link.recv(1)
        if not byte:
            break
        answer += byte
    if b" 101 " not in answer.split(b"\r\n")[0] + b" ":
        raise RuntimeError(f"refused: {answer[:60]!r}")
    return link


def round_trips(link: socket.socket, count: int) -> list[float]:
    """Microseconds of each of ``count`` echoes of 8 bytes."""
    found = []
    for turn in range(count + 50):
        begun = time.perf_counter()
        link.sendall(FRAME)
        wanted = 10
        while wanted:
            got = len(link.recv(wanted))
            if not got:
                raise RuntimeError("the screen's other end went away")
            wanted -= got
        if turn >= 50:
            found.append((time.perf_counter() - begun) * 1e6)
    return found


def throughput(link: socket.socket, size: int) -> float:
    """MiB/s of ``size`` bytes from the screen; the first byte starts the clock."""
    buffer = bytearray(1 << 20)
    taken = link.recv_into(buffer)
    begun = time.perf_counter()
    while taken < size:
        got = link.recv_into(buffer)
        if not got:
            raise RuntimeError("the stream ended early")
        taken += got
    return size / MIB / (time.perf_counter() - begun)


class Installation:
    """A throw-away home with two running VMs and everything that serves them."""

    def __init__(self, size: int) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pvb-", dir="/tmp"))
        os.environ.update(
            PVELITE_HOME=str(self.home), DJANGO_SETTINGS_MODULE="pvelite.settings", PVELITE_LOG="ERROR"
        )
        self.children: list[subprocess.Popen[bytes]] = []
        self.web, self.stock = free_port(), {ECHO: free_port(), FLOOD: free_port()}
        self.pids: dict[str, list[int]] = {}
        self._rows()
        for vmid in (ECHO, FLOOD, *MORE):
            path = self.home / "run" / "vm" / str(vmid) / "console" / "vnc.sock"
            path.parent.mkdir(parents=True)
            self._start(__file__, "--screen", str(path), str(size if vmid == FLOOD else 0))
            if vmid in self.stock:
                words = ["-m", "websockify", f"--unix-target={path}", f"127.0.0.1:{self.stock[vmid]}"]
                self.pids.setdefault("stock", []).append(self._start(*words))
        self.pids["ours"] = [self._start("-m", "console"), self._start(__file__, "--web", str(self.web))]
        for address in (str(self.home / "run" / "console.sock"), self.web):
            dial(address, 30).close()

    def _start(self, *arguments: str) -> int:
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.children.append(child)
        return child.pid

    def _rows(self) -> None:
        import django

        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.test import Client

        from vms.models import VM, Node

        call_command("migrate", verbosity=0)
        node, user = Node.objects.create(name="bench"), User.objects.create_superuser("bench")
        for vmid in (ECHO, FLOOD, *MORE):
            VM.everything.create(vmid=vmid, node=node, stage="defined", status="running", run_id="1")
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        self.user, self.session = user, client.cookies["sessionid"].value

    def ours(self, vmid: int) -> socket.socket:
        from console import tickets
        from vms.models import VM

        token = tickets.mint(self.user, self.session, VM.objects.get(vmid=vmid), kind="vnc", view_only=False)
        headers = [f"Origin: {ORIGIN}", f"Cookie: sessionid={self.session}"]
        headers += [f"Sec-WebSocket-Protocol: binary, pvelite.ticket.{token}"]
        return upgrade(self.web, f"/vms/{vmid}/vncwebsocket", headers)

    def theirs(self, vmid: int) -> socket.socket:
        return upgrade(self.stock.get(vmid, self.stock[ECHO]), "/", ["Sec-WebSocket-Protocol: binary"])

    def close(self) -> None:
        for child in self.children:
            child.terminate()
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
            child.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def private(pids: Sequence[int]) -> int:
    """Bytes that belong to these processes, and to those they forked, alone."""
    total, forked = 0, [child for pid in pids for child in children(pid)]
    for number in [*pids, *forked]:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
    return total


def children(pid: int) -> list[int]:
    """The processes a process started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(way: Callable[[int], socket.socket], pids: Sequence[int], count: int) -> float:
    """MB that one of ``count`` open screens takes, each after a thousand echoes."""
    with way(ECHO) as first:  # what the first one makes a process load is not a console's cost
        round_trips(first, 1000)
        before, links = private(pids), []
        for number in range(count):
            links.append(way(MORE[number // EACH]))
            round_trips(links[-1], 1000)
        taken = private(pids) - before
    for link in links:
        link.close()
    return taken / count / 1e6


def measure(rounds: int, size: int, trips: int, many: int) -> dict[str, dict[str, float]]:
    """Medians of both paths, taken in turns so that the machine's mood hits both alike."""
    place = Installation(size)
    ways: dict[str, Callable[[int], socket.socket]] = {"ours": place.ours, "stock": place.theirs}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                link = way(ECHO)
                times = sorted(round_trips(link, 1))
                found[name].setdefault("open_ms", []).append((time.perf_counter() - begun) * 1e3)
                times = sorted(round_trips(link, trips))
                link.close()
                found[name].setdefault("rtt_p50_us", []).append(statistics.median(times))
                found[name].setdefault("rtt_p99_us", []).append(times[int(len(times) * 0.99)])
                with way(FLOOD) as link:
                    found[name].setdefault("mib_per_s", []).append(throughput(link, size))
        for name, way in ways.items():
            found[name]["mb_each"] = [memory(way, place.pids[name], many)]
    finally:
        place.close()
    return {
        name: {key: statistics.median(values) for key, values in keys.items()} for name, keys in found.items()
    }


def main() -> int:
    """Command line; exit code 1 when an aim is missed."""
    if sys.argv[1:2] == ["--screen"]:
        serve_screen(sys.argv[2], int(sys.argv[3]))
    if sys.argv[1:2] == ["--web"]:
        serve_web(int(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--mib", type=int, default=200, help="MiB a round (default 200)")
    parser.add_argument("--trips", type=int, default=2000, help="round trips a round (default 2000)")
    parser.add_argument(
        "--many", type=int, default=20, help="open consoles whose memory is read (default 20)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = parser.parse_args()
    found = measure(given.n, given.mib * MIB, given.trips, given.many)
    ratios = {key: found["ours"][key] / found["stock"][key] for key in found["ours"]}
    reached = [ratios[key] <= aim if sign == "≤" else ratios[key] >= aim for key, (sign, aim) in AIMS.items()]
    code = 0 if all(reached) and found["ours"]["mb_each"] <= MEMORY_AIM else 1
    if given.json:
        print(json.dumps({**found, "ratio": ratios}))
        return code
    print(f"{'':14}{'ours':>10}{'stock':>10}{'ours/stock':>12}")
    for key, ratio in ratios.items():
        aim = " ".join(map(str, AIMS[key])) if key in AIMS else ""
        aim = f"≤ {MEMORY_AIM} MB" if key == "mb_each" else aim
        digits = 3 if key == "mb_each" else 1
        line = f"{key:14}{found['ours'][key]:10.{digits}f}{found['stock'][key]:10.{digits}f}{ratio:12.2f}"
        print(f"{line}   (aim {aim})" if aim else line)
    return code


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
