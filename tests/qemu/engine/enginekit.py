"""A real worker in a process of its own, on a home of its own; the test works on the same database."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[3]
ISO = Path("/usr/lib/memtest86+/memtest86+x64.iso")

if TYPE_CHECKING:
    from vms.models import VM, Node, Storage, Task


def until(probe: Callable[[], Any], what: str, timeout: float = 30) -> Any:
    """The first true answer of ``probe``; fails naming ``what`` when none comes."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.01)


class Engine:
    """One installation with a worker, a private Redis and nothing else."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pve-", dir="/tmp"))
        self.home.chmod(0o711)
        self.redis = f"unix://{self.home}/redis.sock"
        self.redis_process: subprocess.Popen[bytes] | None = None
        self.log = self.home / "worker.out"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        kept = {key: text for key, text in os.environ.items() if not key.startswith(("PVELITE_", "DJANGO_"))}
        kept.pop("REDIS_URL", None)
        return {**kept, "PVELITE_HOME": str(self.home), "PVELITE_NODE": "pve1", "REDIS_URL": self.redis}

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    def set_up(self) -> None:
        """Folders, tables, and the node's rows."""
        from pvelite.conf import Conf
        from pvelite.home import prepare

        prepare(Conf.from_environ(self.environ))
        steps = [["migrate"], ["flush", "--noinput"]] if "DATABASE_URL" in self.environ else [["migrate"]]
        for step in steps:
            words = [sys.executable, "manage.py", *step, "--verbosity", "0"]
            subprocess.run(words, cwd=ROOT, env=self.environ, check=True)

    def start_redis(self) -> None:
        """Start the bell."""
        self.redis_process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", f"{self.home}/redis.sock", "--save", "",
             "--dir", str(self.home)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until((self.home / "redis.sock").exists, "Redis listens", 10)

    def kill_redis(self) -> None:
        """kill -9."""
        if self.redis_process is not None:
            self.redis_process.kill()
            self.redis_process.wait()
            self.redis_process = None
            (self.home / "redis.sock").unlink(missing_ok=True)

    def launch(self, **environ: str) -> None:
        """Start the worker, with more in its environment, and do not wait for it: it may be about to die."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pvelite.server", "worker"], cwd=ROOT,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def start(self, **environ: str) -> None:
        """:meth:`launch` it; returns when it beats."""
        self.launch(**environ)
        began = self.log.stat().st_size
        until(lambda: self._ready(began), "the worker is ready", 30)

    def _ready(self, began: int) -> bool:
        assert self.process is not None
        text = self.log.read_text()
        assert self.process.poll() is None, f"the worker ended:\n{text}"
        return f"(process {self.process.pid})" in text

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """Ask it to end; answers its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(20)
        self.process = None
        return code

    def close(self) -> None:
        """End all of it: the worker, its guests, the home."""
        self.kill()
        self.kill_redis()
        for pid in self.qemus().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.qemus() and not self.strays(), "nothing of it runs", 10)
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- what is really there

    def qemus(self) -> dict[int, int]:
        """VM ID → pid of every QEMU of this home, by the process table."""
        from vms.worker.guests import processes

        return {vmid: running.pid for vmid, running in processes(self.run_dir).items()}

    def strays(self) -> list[str]:
        """Command lines of every process that names this home, the worker aside."""
        found = []
        for entry in Path("/proc").iterdir():
            ours = [process.pid for process in (self.process, self.redis_process) if process]
            if not entry.name.isdigit() or int(entry.name) in ours:
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(os.fsencode(self.home) in word for word in words):
                    found.append(b" ".join(words).decode(errors="replace")[:200])
        return found

    def images(self) -> list[str]:
        """Every disk image below the storage."""
        folder = self.home / "local" / "images"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("vm-*"))

    def run_files(self, vmid: int) -> list[str]:
        """What lies in the run folder of a VM."""
        return sorted(path.name for path in (self.run_dir / "vm").glob(f"{vmid}*"))

    # ---- rows

    @property
    def node(self) -> Node:
        from vms.models import Node

        return Node.objects.get(name="pve1")

    @property
    def storage(self) -> Storage:
        from vms.models import Storage

        return Storage.objects.get(name="local")

    def draft(self, config: Mapping[str, str], vmid: int | None = None) -> VM:
        """A draft with that configuration."""
        from vms.models.configuration import save_config
        from vms.operations.drafts import new_draft

        vm = new_draft(None, self.node, vmid=vmid)
        save_config(vm, config)
        return vm

    def vm(self, config: Mapping[str, str], vmid: int | None = None) -> VM:
        """A VM without disks of its own, defined at once."""
        from vms.models import VM

        vm = self.draft(config, vmid)
        VM.everything.filter(pk=vm.pk).update(stage=VM.Stage.DEFINED)
        vm.refresh_from_db()
        return vm

    def submit(self, verb: str, vm: VM, user: Any = None, **params: str) -> Task:
        from vms.operations.base import submit

        return submit(verb, vm=vm, user=user, params={key.replace("_", "-"): v for key, v in params.items()})

    def end(self, task: Task, timeout: float = 90) -> Task:
        """Wait for the task's end, whichever."""

        def finished() -> bool:
            task.refresh_from_db()
            return task.finished

        until(finished, f"{task.label} ends; worker says:\n{self.log.read_text()[-3000:]}", timeout)
        return task

    def do(self, verb: str, vm: VM, within: float = 30, **params: str) -> Task:
        """Do it and insist that it went well."""
        task = self.end(self.submit(verb, vm, **params), within)
        told = f"{task.message}\n{task.detail}\n" + "\n".join(line.text for line in task.lines.all())
        assert task.status in ("ok", "warnings"), told
        vm.refresh_from_db()
        return task

    def status(self, vm: VM, wanted: str, timeout: float = 30) -> None:
        """Wait until the row says so."""

        def there() -> bool:
            vm.refresh_from_db()
            return vm.status == wanted

        until(there, f"VM {vm.vmid} is {wanted}", timeout)


@contextlib.contextmanager
def layer_at(url: str) -> Iterator[None]:
    """Ring and hint through the Redis at ``url``."""
    from channels.layers import channel_layers
    from channels_redis.pubsub import RedisPubSubChannelLayer

    before = channel_layers.set("default", RedisPubSubChannelLayer(hosts=[url], prefix="pvelite"))
    try:
        yield
    finally:
        channel_layers.set("default", before)


@contextlib.contextmanager
def database_at(path: Path) -> Iterator[None]:
    """Make this process's default database the file at ``path``; ``DATABASE_URL`` goes before."""
    from django.db import connections

    if os.environ.get("DATABASE_URL"):
        yield
        return
    # A connection of its own: pytest-django's test database in memory ignores close() and lives on.
    settings, aside = connections.settings["default"], connections["default"]
    before = settings["NAME"]
    del connections["default"]
    settings["NAME"] = str(path)
    try:
        yield
    finally:
        connections["default"].close()
        settings["NAME"] = before
        connections["default"] = aside


def wipe(engine: Engine) -> None:
    """Back to an empty installation."""
    from vms.models import VM, Task, Volume

    if engine.process is None:
        engine.start()
    for pid in engine.qemus().values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(
        lambda: (
            not VM.everything.exclude(status="stopped").exists()
            and not Task.objects.filter(status__in=("queued", "running")).exists()
        ),
        "the worker has settled everything",
        20,
    )
    VM.everything.all().delete()
    Volume.objects.update(base=None)
    Volume.objects.all().delete()
    Task.objects.all().delete()
    for name in ("images", "dump"):
        shutil.rmtree(engine.home / "local" / name, ignore_errors=True)
