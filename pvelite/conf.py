"""The installation's settings, read once from the environment.

==========================  =====================================================================
``PVELITE_HOME``            where all state lives (default ``/var/lib/pvelite``, or
                            ``~/.local/share/pvelite`` for a user who is not root)
``PVELITE_BIND``            ``HOST:PORT`` of the web server (default ``127.0.0.1:8006``)
``PVELITE_NODE``            this node's name (default: the short host name)
``PVELITE_ORIGINS``         further public origins, comma-separated (``https://pve.example.org``)
``PVELITE_ADMIN_PASSWORD``  the first operator's password (default: random, printed once)
``PVELITE_SPICE``           ``HOST:PORT`` for SPICE viewer programs, TLS only (default: none)
``PVELITE_TRASH_DAYS``      days that removed VMs stay in the trash (default 7; 0: none)
``PVELITE_TIMEZONE``        whose clocks schedules and pages go by (default: this machine's zone)
``PVELITE_METRICS_TOKEN``   lets who brings it read ``/metrics`` (default: only who may audit all)
``PVELITE_LOG``             log level of every role: DEBUG, INFO (default), WARNING, ERROR
``DATABASE_URL``            ``postgres://…`` for several nodes (default: SQLite under the home)
``REDIS_URL``               ``redis://…`` or ``unix://…`` (default: a private server we start)
==========================  =====================================================================
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from pvelite import clock

SOCKET_PATH_LIMIT = 60
"""Longest run directory under which every socket stays below the kernel's 107 bytes."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SettingError(ValueError):
    """A setting that cannot stand: the text names the variable and says what to write instead."""


def bound_address(text: str, name: str = "PVELITE_BIND", example: str = "127.0.0.1:8006") -> str:
    """``HOST:PORT`` as it came, or ``SettingError`` with what to write instead. IPv6 stands in brackets."""
    match = re.fullmatch(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):(?P<port>[0-9]{1,5})", text)
    if not match or not 0 < int(match["port"]) < 65536:
        port = example.rpartition(":")[2]
        raise SettingError(f"{name} is '{text}'; write HOST:PORT, for example {example} or [::1]:{port}")
    return text


def spice_address(text: str, bind: str) -> tuple[str, int] | None:
    """Where viewer programs are served, host without brackets, or None; ``SettingError`` for our web port."""
    if not text:
        return None
    bound_address(text, "PVELITE_SPICE", "0.0.0.0:61000")
    host, _, port = text.rpartition(":")
    if port == bind.rpartition(":")[2]:
        raise SettingError(f"PVELITE_SPICE has port {port}, which is the web server's; choose another")
    return host.strip("[]"), int(port)


def node_name(given: str) -> str:
    """The node's name: what was given, or the short host name made to fit a DNS label.

    It becomes a channel name, a lock file and part of every UPID, hence the narrow alphabet.
    """
    if given:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", given):
            raise SettingError(f"PVELITE_NODE is '{given}'; write letters, digits and '-' only, at most 63")
        return given
    found = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().split(".")[0])[:63]
    return found.strip("-") or "localhost"


def origin(text: str) -> str:
    """One public origin, ``scheme://host[:port]``, or ``SettingError``."""
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path
        or parts.query
        or "*" in text
    ):
        raise SettingError(f"PVELITE_ORIGINS has '{text}'; write origins like https://pve.example.org:8443")
    return text


def days(text: str) -> int:
    """How long the trash keeps things, or ``SettingError``."""
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise SettingError(f"PVELITE_TRASH_DAYS is '{text}'; write a number of days, 0 for no trash")
    return int(text)


def time_zone(environ: Mapping[str, str]) -> str:
    """The name of the zone whose clocks we go by, or ``SettingError``."""
    try:
        return clock.zone_of(environ)
    except ValueError as error:
        raise SettingError(str(error)) from None


def url(name: str, text: str, schemes: tuple[str, ...]) -> str:
    """A service's address as it came, or ``SettingError`` naming the variable, not its value."""
    if text and urlsplit(text).scheme not in schemes:
        words = " or ".join(f"{scheme}://" for scheme in schemes)
        raise SettingError(f"{name} must start with {words}; leave it unset for the built-in default")
    return text


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
    log_level: str
    trash_days: int
    metrics_token: str
    zone: str = clock.FALLBACK
    spice: tuple[str, int] | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Conf:
        """Raises ``SettingError`` naming the variable that cannot stand."""
        default = "/var/lib/pvelite" if os.geteuid() == 0 else "~/.local/share/pvelite"
        level = (environ.get("PVELITE_LOG") or "INFO").upper()
        if level not in LOG_LEVELS:
            raise SettingError(f"PVELITE_LOG is '{level}'; write one of {', '.join(LOG_LEVELS)}")
        bind = bound_address(environ.get("PVELITE_BIND") or "127.0.0.1:8006")
        given = (word.strip().rstrip("/") for word in environ.get("PVELITE_ORIGINS", "").split(","))
        return cls(
            home=Path(environ.get("PVELITE_HOME") or default).expanduser().absolute(),
            bind=bind,
            spice=spice_address(environ.get("PVELITE_SPICE", ""), bind),
            node=node_name(environ.get("PVELITE_NODE", "")),
            origins=tuple(origin(word) for word in given if word),
            admin_password=environ.get("PVELITE_ADMIN_PASSWORD", ""),
            database_url=url("DATABASE_URL", environ.get("DATABASE_URL", ""), ("postgres", "postgresql")),
            redis_url=url("REDIS_URL", environ.get("REDIS_URL", ""), ("redis", "rediss", "unix")),
            log_level=level,
            metrics_token=environ.get("PVELITE_METRICS_TOKEN", ""),
            trash_days=days(environ.get("PVELITE_TRASH_DAYS") or "7"),
            zone=time_zone(environ),
        )

    @property
    def host(self) -> str:
        """The address the web server binds, without brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.bind.rpartition(":")[2])

    @property
    def everywhere(self) -> bool:
        """Whether the web server listens on every address of this machine."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)

    @property
    def tls(self) -> bool:
        """Whether browsers reach us by TLS only, so cookies and HSTS may insist on it."""
        return bool(self.origins) and all(word.startswith("https://") for word in self.origins)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host names a request may be for: loopback, what we bind, and the public origins; never ``*``.

        Bound to every address, that is each address and name this machine has when it starts.
        """
        named = {*LOOPBACK, *(urlsplit(word).hostname or "" for word in self.origins)}
        named |= _own_names() if self.everywhere else {self.host}
        return tuple(sorted(f"[{name}]" if ":" in name else name for name in named if name))

    @property
    def public_origins(self) -> tuple[str, ...]:
        """Every origin a page of ours can have, for checks of the ``Origin`` header."""
        port = "" if self.port == 80 else f":{self.port}"
        return tuple(dict.fromkeys((*self.origins, *(f"http://{host}{port}" for host in self.hosts))))

    @property
    def address(self) -> str:
        """The URL to open in a browser on this machine, or the first public one."""
        if self.origins:
            return f"{self.origins[0]}/"
        host = "127.0.0.1" if self.everywhere else self.bind.rpartition(":")[0]
        return f"http://{host}:{self.port}/"

    @property
    def run_dir(self) -> Path:
        """Sockets, pid files and locks. Moved to a short path when the home's is too long for sockets."""
        near = self.home / "run"
        if len(os.fsencode(near)) <= SOCKET_PATH_LIMIT:
            return near
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/tmp") / f"pvelite-{os.geteuid()}-{digest}"  # noqa: S108  (0711, checked to be ours)

    @property
    def log_dir(self) -> Path:
        """One file per role and per VM."""
        return self.home / "log"

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


def _own_names() -> set[str]:
    """This machine's host name and its interfaces' addresses, without a name server's help.

    Link-local addresses are left out: they carry a zone, which no ``Host`` header has.
    """
    import psutil  # here: only who binds every address pays for it

    names = {socket.gethostname(), socket.gethostname().split(".")[0]}
    for addresses in psutil.net_if_addrs().values():
        for found in addresses:
            if found.family in (socket.AF_INET, socket.AF_INET6) and "%" not in found.address:
                names.add(str(ipaddress.ip_address(found.address)))
    return {name.lower() for name in names}


@cache
def conf() -> Conf:
    """This process's settings."""
    return Conf.from_environ(os.environ)
