"""What every test stands on: a home of its own, nobody's Redis, cheap password hashes."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Before Django reads its settings: no test may touch an installation's state.
_home = Path(tempfile.mkdtemp(prefix="pvt-", dir="/tmp"))
_home.chmod(0o711)
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["PVELITE_HOME"] = str(_home)
os.environ["PVELITE_NODE"] = "pve1"
for _name in ("PVELITE_BIND", "PVELITE_ORIGINS", "PVELITE_ADMIN_PASSWORD", "REDIS_URL"):
    os.environ.pop(_name, None)
os.environ.pop("DATABASE_URL", None)
if os.environ.get("PVELITE_TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = os.environ["PVELITE_TEST_DATABASE_URL"]


def pytest_configure(config: pytest.Config) -> None:
    from django.conf import settings

    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the folder of reference data is not here")
    return path
