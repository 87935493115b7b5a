"""The thread that sends hints ends with its process: cut off by the interpreter's end it would abort it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vms.tasks.notify import Portal

HINT = """
import django
django.setup()
from vms.tasks import notify
notify.changed("tree")
notify.ring("pve1")
"""


def test_a_closed_portal_has_no_thread() -> None:
    portal = Portal()
    portal.changed(("tree",))
    thread = portal._thread
    assert thread is not None
    portal.close()
    assert not thread.is_alive()
    portal.close()


def test_a_process_that_hints_and_ends_ends_well(tmp_path: Path) -> None:
    """With nobody to hint to as well: no Redis listens there."""
    environ = {
        **os.environ, "DJANGO_SETTINGS_MODULE": "pvelite.settings", "PVELITE_HOME": str(tmp_path),
        "REDIS_URL": f"unix://{tmp_path}/nobody.sock",
    }  # fmt: skip
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", HINT], env=environ, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
