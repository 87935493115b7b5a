"""The installation's settings, read once from the environment.

==========================  =====================================================================
``PVELITE_HOME``            where all state lives (default ``/var/lib/pvelite``, or
                            ``~/.local/share/pvelite`` for a user who is not root)
``PVELITE_BIND``            ``HOST:PORT`` of the web server (default ``127.0.0.1:8006``)
``PVELITE_NODE``            this node's name (default: the short host name)
``PVELITE_ORIGINS``         further public origins, comma-separated (``https://pve.example.org``)
``PVELITE_ADMIN_PASSWORD``  the first operator's password (default: random, printed once)
``DATABASE_URL``            ``postgres://…`` for several nodes (default: SQLite under the home)
``REDIS_URL``               ``redis://…`` or ``unix://…`` (default: a private server we start)
==========================  =====================================================================
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOCKET_PATH_LIMIT = 60
"""Longest run directory under which every socket stays below the kernel's 107 bytes."""


@dataclass(frozen=True, kw_only=True)
class Conf:
    """What the environment says, with every default filled in."""

    home: Path
    bind: str
    node: str
    origins: tuple[str, ...]
    admin_password: str
    database_url: str
    redis_url: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Conf:
        """Raises ``ValueError`` naming the variable that cannot stand."""
        default = "/var/lib/pvelite" if os.geteuid() == 0 else "~/.local/share/pvelite"
        node = environ.get("PVELITE_NODE") or socket.gethostname().split(".")[0]
        node = re.sub(r"[^A-Za-z0-9-]", "-", node).strip("-") or "localhost"
        bind = environ.get("PVELITE_BIND") or "127.0.0.1:8006"
        if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}", bind):
            raise ValueError(f"PVELITE_BIND is '{bind}'; write HOST:PORT, for example 127.0.0.1:8006")
        origins = tuple(o.strip().rstrip("/") for o in environ.get("PVELITE_ORIGINS", "").split(",") if o.strip())
        return cls(
            home=Path(environ.get("PVELITE_HOME") or default).expanduser().absolute(),
            bind=bind,
            node=node,
            origins=origins,
            admin_password=environ.get("PVELITE_ADMIN_PASSWORD", ""),
            database_url=environ.get("DATABASE_URL", ""),
            redis_url=environ.get("REDIS_URL", ""),
        )

    @property
    def host(self) -> str:
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.bind.rpartition(":")[2])

    @property
    def run_dir(self) -> Path:
        """Sockets, pid files and locks. Moved to a short path when the home's is too long for sockets."""
        near = self.home / "run"
        if len(str(near)) <= SOCKET_PATH_LIMIT:
            return near
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path("/tmp") / f"pvelite-{os.geteuid()}-{digest}"  # noqa: S108  (0711, checked to be ours)

    @property
    def storage_dir(self) -> Path:
        """The directory storage ``local``."""
        return self.home / "local"

    @property
    def redis_socket(self) -> Path:
        return self.run_dir / "redis.sock"

    @property
    def console_socket(self) -> Path:
        """Where the console proxy of this node listens (mode 0600)."""
        return self.run_dir / "console.sock"


@cache
def conf() -> Conf:
    """This process's settings."""
    return Conf.from_environ(os.environ)
