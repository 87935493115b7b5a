"""``manage.py pvelite``: bring the home up to date, then run the roles under one supervisor."""

from __future__ import annotations

import asyncio
import os
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from pvelite import home, supervisor
from pvelite.conf import Conf, SettingError, conf
from pvelite.server import ROLES, redis_binary
from vms.errors import VMError
from vms.operations.seed import seed_node, seed_operator


class Command(BaseCommand):
    help = "Run pvelite: the web server, this node's worker, the console proxy and a private Redis."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", metavar="HOST:PORT", help="address of the web server (127.0.0.1:8006)")
        parser.add_argument(
            "--roles", metavar="LIST", help=f"which of {','.join(ROLES)} to run here, comma-separated (all)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        begun = time.monotonic()
        try:
            settings = chosen_settings(options["bind"])
            roles = chosen_roles(options["roles"], settings)
            home.prepare(settings)
            locks = home.lock_roles(settings, roles)
            supervisor.end_leftovers(settings, roles)
            bring_up_to_date(settings, roles)
            os.environ.pop("PVELITE_ADMIN_PASSWORD", None)  # no role needs it, and /proc shows environments
            asyncio.run(run(settings, roles, begun))
        except (SettingError, VMError) as error:
            raise CommandError(f"{error}. {getattr(error, 'hint', '')}".strip()) from error
        for handle in locks:
            os.close(handle)


async def run(settings: Conf, roles: list[str], begun: float) -> None:
    """Supervise until asked to stop."""

    def ready() -> None:
        place = settings.address if "web" in roles else f"node {settings.node}, roles {','.join(roles)}"
        supervisor.say(f"pvelite is ready after {time.monotonic() - begun:.1f} s: {place}  (Ctrl-C stops)")

    await supervisor.Supervisor(settings, roles).run(ready)


def chosen_settings(bind: str | None) -> Conf:
    """The environment's settings, ``--bind`` over them; children read the same from their environment."""
    if bind:
        os.environ["PVELITE_BIND"] = bind
        conf.cache_clear()
    return conf()


def chosen_roles(text: str | None, settings: Conf) -> list[str]:
    """The roles to run, in starting order. Raises :class:`SettingError` naming the unknown one."""
    wanted = [word.strip() for word in text.split(",")] if text else list(ROLES)
    for word in wanted:
        if word not in ROLES:
            raise SettingError(f"--roles has '{word}'; choose from {', '.join(ROLES)}")
    if settings.redis_url and not text:
        wanted.remove("redis")
    if "redis" in wanted and redis_binary() is None:
        supervisor.say("No redis-server here: pages follow by polling alone, a little later.")
        wanted.remove("redis")
    if "web" in wanted and settings.host not in ("127.0.0.1", "localhost", "::1") and not settings.tls:
        supervisor.say(
            f"Warning: {settings.bind} is reachable from other machines without TLS; see docs/operating.md."
        )
    return [role for role in ROLES if role in wanted]


def bring_up_to_date(settings: Conf, roles: list[str]) -> None:
    """Migrate (the web role's duty), then make this node's rows and the first operator where missing."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        if "web" not in roles:
            raise VMError("the database is not up to date", hint="Start the web role first: it migrates.")
        supervisor.say("Bringing the database up to date")
        call_command("migrate", verbosity=0, interactive=False)
    if "worker" in roles:
        seed_node(settings.node, settings.storage_dir)
    if "web" in roles:
        password = seed_operator(settings.admin_password)
        if password is not None:
            shown = "from PVELITE_ADMIN_PASSWORD" if settings.admin_password else password
            supervisor.say(f"First operator: user admin, password {shown}  (shown only now)")
    connection.close()
