"""The product's settings under pytest: a home of its own, nobody's Redis, cheap password hashes.

pytest-django reads the settings before any conftest, so this module is where a test run is kept away from an
installation on the same machine. A process that a test starts is the product itself: it gets plain settings.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

if "pytest" in sys.modules:
    _home = Path(tempfile.mkdtemp(prefix="pvt-", dir="/tmp"))
    _home.chmod(0o711)
    atexit.register(shutil.rmtree, _home, ignore_errors=True)
    os.environ["PVELITE_HOME"] = str(_home)
    os.environ["PVELITE_NODE"] = "pve1"
    os.environ["PVELITE_TIMEZONE"] = "UTC"
    for _name in ("PVELITE_BIND", "PVELITE_ORIGINS", "PVELITE_ADMIN_PASSWORD", "REDIS_URL", "DATABASE_URL"):
        os.environ.pop(_name, None)
    if os.environ.get("PVELITE_TEST_DATABASE_URL"):
        os.environ["DATABASE_URL"] = os.environ["PVELITE_TEST_DATABASE_URL"]

from pvelite.settings import *  # noqa: F403

if "pytest" in sys.modules:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {
        name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": name}
        for name in ("default", "parcels")
    }
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
