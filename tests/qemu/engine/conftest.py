"""``engine``: a running worker with an empty home, and its rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

sys.path.insert(0, str(Path(__file__).parent))

from enginekit import Engine, database_at, layer_at, wipe


@pytest.fixture(scope="module")
def installation(django_db_blocker: Any) -> Iterator[Engine]:
    """One home for a module's tests."""
    made = Engine()
    try:
        made.set_up()
        with django_db_blocker.unblock(), database_at(made.home / "pvelite.sqlite3"), layer_at(made.redis):
            yield made
    finally:
        made.close()


@pytest.fixture
def engine(installation: Engine) -> Iterator[Engine]:
    """The installation with its worker running and no VM; whatever a test leaves is removed."""
    if installation.redis_process is None:
        installation.start_redis()
    if installation.process is None or installation.process.poll() is not None:
        installation.start()
    yield installation
    wipe(installation)


@pytest.fixture
def tiny(engine: Engine) -> Iterator[Any]:
    """A storage on a file system of 96 MiB of its own, of which 64 stay free by rule."""
    from vms.models import Storage

    folder = engine.home / "tiny"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=711", "tmpfs", str(folder)], check=True)
    storage = Storage.objects.create(name="tiny", path=str(folder), content=["images"])
    try:
        yield storage
    finally:
        wipe(engine)
        storage.delete()
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small(engine: Engine) -> Iterator[Path]:
    """The storage ``small`` on a file system of 256 MiB of its own; the folder."""
    from vms.models import Storage

    folder = engine.home / "small"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=711", "tmpfs", str(folder)], check=True)
    storage = Storage.objects.create(name="small", path=str(folder), content=["images"])
    try:
        yield folder
    finally:
        wipe(engine)
        storage.delete()
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def parcels(engine: Engine) -> Iterator[None]:
    """What travels beside the rows goes through the engine's Redis."""
    from pvelite.settings import CACHES

    parcels = {**CACHES["parcels"], "LOCATION": engine.redis}
    plain = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "KEY_PREFIX": "pvelite"}
    plain["OPTIONS"] = {"serializer": "vms.tasks.parcel.Plain"}  # type: ignore[assignment]
    with override_settings(CACHES={**CACHES, "parcels": {**parcels, **plain}}):
        yield
