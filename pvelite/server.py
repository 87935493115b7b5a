"""One role in one process: ``python -m pvelite.server web|worker|console|redis``.

The supervisor starts these. Each dies with its supervisor, so a killed supervisor leaves no half
installation behind; guests are nobody's children and stay.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress

ROLES = ("redis", "worker", "console", "web")
"""In the order they start; they stop in the opposite one."""

LISTEN_FD = "PVELITE_LISTEN_FD"
"""The listening socket the supervisor holds: browsers wait while the web role restarts."""
SUPERVISOR = "PVELITE_SUPERVISOR"
PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8
"""Numbers the kernel and glibc know them by."""


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the supervisor ends, however it ends. Kept by exec, not by fork."""
    parent = os.environ.pop(SUPERVISOR, "")
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before the kernel knew our wish
        sys.exit(0)


def share_one_heap() -> None:
    """Let all threads allocate from one heap: glibc gives each of them one of its own, 0.3 MB a console,
    of no use to threads that take turns anyway. Where the C library knows no such thing, nothing happens."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def redis_binary() -> str | None:
    """Debian's server, or the one ``./up`` put into our environment for a plain user; None without either."""
    places = f"{os.environ.get('PATH', os.defpath)}:{sys.prefix}/bin"
    return shutil.which("redis-server", path=places) or shutil.which("valkey-server", path=places)


def redis() -> None:
    """Become the private Redis: a unix socket of mode 0600, no port, nothing kept on disk."""
    from pvelite.conf import conf

    binary = redis_binary()
    if binary is None:
        sys.exit("no redis-server and no valkey-server on PATH")
    conf().redis_socket.unlink(missing_ok=True)
    os.umask(0o077)
    os.execv(  # noqa: S606  (a list, no shell)
        binary,
        [
            binary, "--port", "0", "--unixsocket", str(conf().redis_socket), "--unixsocketperm", "600",
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(conf().run_dir),
            "--maxmemory", "64mb", "--loglevel", "warning",
        ],
    )  # fmt: skip


def web() -> None:
    """Pages, REST, browser hints and, on the same port, the consoles' raw pipe."""
    import uvicorn

    from console.mux import ConsoleMux
    from pvelite.asgi import application
    from pvelite.conf import conf

    config = uvicorn.Config(
        application,
        host=conf().host,
        port=conf().port,
        http="httptools",
        loop="uvloop",
        ws=ConsoleMux,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    server = uvicorn.Server(config)
    given = os.environ.pop(LISTEN_FD, "")
    server.run(sockets=[socket.socket(fileno=int(given))] if given else None)


def worker() -> None:
    """The one process that touches QEMU."""
    import django

    share_one_heap()
    django.setup()
    from vms.worker.server import main

    main()


def console() -> None:
    """The proxy between browsers and the guests' screens."""
    import django

    share_one_heap()
    django.setup()
    from console.proxy import main

    sys.exit(main())


def main(argv: list[str]) -> None:
    """Run the role named in ``argv``; returns when it was asked to stop."""
    if len(argv) != 1 or argv[0] not in ROLES:
        sys.exit(f"usage: python -m pvelite.server {'|'.join(ROLES)}")
    end_with_parent()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pvelite.settings")
    {"redis": redis, "web": web, "worker": worker, "console": console}[argv[0]]()


if __name__ == "__main__":
    main(sys.argv[1:])
