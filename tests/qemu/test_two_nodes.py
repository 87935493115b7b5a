"""Two nodes: a real worker each, one PostgreSQL, one Redis. Driven by ``qm``, by an operator at either."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "engine"))

from enginekit import Engine, until
from test_qm import Shell

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"))
CONFIG = "name: {name}\nostype: l26\nmemory: 64\nscsihw: virtio-scsi-single\n"


class Node(Engine):
    """One node of an installation that lives in somebody else's database."""

    def __init__(self, name: str, database: str, redis: str) -> None:
        super().__init__()
        self.name, self.database, self.redis = name, database, redis

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "PVELITE_NODE": self.name, "DATABASE_URL": self.database}

    def new_vm(self, vmid: int) -> int:
        """A machine without disks, of this node."""
        text = self.home / f"{vmid}.conf"
        text.write_text(CONFIG.format(name=f"on-{self.name}"))
        Shell(self.environ).good("importconf", str(text), "--vmid", str(vmid))
        return vmid


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A cluster of its own on a unix socket, ended with the module; its ``DATABASE_URL``."""
    folder = Path(tempfile.mkdtemp(prefix="pvl-pg-", dir="/tmp"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        as_user = {"user": "postgres", "group": entry.pw_gid, "extra_groups": []}
    data, quiet = folder / "data", {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    initdb = [
        str(BIN / "initdb"),
        "-D",
        str(data),
        "-U",
        "pvelite",
        "--auth=trust",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    subprocess.run(initdb, check=True, cwd=folder, **quiet, **as_user)
    words = [str(BIN / "postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-F"]
    server = subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL, **quiet, **as_user)
    try:
        create = [str(BIN / "createdb"), "-h", str(folder), "-U", "pvelite", "pvelite"]
        until(
            lambda: not subprocess.run(create, stderr=subprocess.DEVNULL).returncode, "PostgreSQL is up", 30
        )
        yield f"postgres://pvelite@/pvelite?host={folder}"
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes(postgres: str) -> Iterator[tuple[Node, Node]]:
    """Both nodes with their workers running; the first one's home has the Redis and made the tables."""
    first = Node("pve1", postgres, "")
    first.redis = f"unix://{first.home}/redis.sock"
    second = Node("pve2", postgres, first.redis)
    try:
        first.set_up()
        first.start_redis()
        shutil.copy(first.home / "secret.key", second.home / "secret.key")
        from pvelite.conf import Conf
        from pvelite.home import prepare

        prepare(Conf.from_environ(second.environ))
        for node in (first, second):
            node.start()
        yield first, second
    finally:
        second.close()
        first.close()


def test_each_worker_takes_its_own_nodes_tasks_whoever_asks(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    here, there = first.new_vm(201), second.new_vm(202)
    qm = Shell(first.environ)
    listed = {row["vmid"]: row for row in qm.json("list")}
    assert listed.keys() >= {here, there}, "both are seen from either node"
    for vmid in (here, there):
        qm.good("start", str(vmid))
    assert (set(first.qemus()), set(second.qemus())) == ({here}, {there})


def test_a_killed_worker_finds_its_guests_again_and_leaves_the_others_alone(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    before = (first.qemus(), second.qemus())
    qm = Shell(second.environ)
    first.kill()
    qm.good("suspend", "202")
    assert qm.json("status", "202")["qmpstatus"] == "paused"
    assert (first.qemus(), second.qemus()) == before, "kill -9 of a worker ends no guest"
    first.start()
    assert Shell(first.environ).json("status", "201")["status"] == "running"
    for vmid in ("201", "202"):
        qm.good("stop", vmid)
        qm.good("destroy", vmid, "--now")
    assert (first.qemus(), second.qemus()) == ({}, {})


def test_hundred_claims_by_two_workers_of_one_node_meet_never(nodes: tuple[Node, Node]) -> None:
    """The queue's conditional UPDATE under PostgreSQL's rules: every row is claimed exactly once."""
    first, _ = nodes
    script = (
        "import sys, django; django.setup()\n"
        "from vms.models import Node, Task\nfrom vms.tasks import queue\n"
        "node, _ = Node.objects.get_or_create(name='claims')\n"
        "if sys.argv[1] == 'fill':\n"
        "    about = dict(node=node, vm=None, user=None, label='', params={})\n"
        "    for _ in range(100): queue.enqueue('qmstart', **about)\n"
        "else:\n"
        "    got = []\n"
        "    while rows := queue.claim(node, sys.argv[1]): got += [row.pk for row in rows]\n"
        "    print(*got)\n"
    )
    environ = {**first.environ, "DJANGO_SETTINGS_MODULE": "pvelite.settings"}
    words = [sys.executable, "-c", script]
    subprocess.run([*words, "fill"], env=environ, check=True)
    claimers = [
        subprocess.Popen([*words, name], env=environ, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    taken = [claimer.communicate(timeout=60)[0].split() for claimer in claimers]
    assert [claimer.returncode for claimer in claimers] == [0, 0]
    assert len(taken[0]) + len(taken[1]) == 100
    assert not set(taken[0]) & set(taken[1])
