"""``engine`` of the engine's own tests: a running worker with an empty home."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[1] / "engine"
sys.path.insert(0, str(ENGINE))

_spec = importlib.util.spec_from_file_location("engine_fixtures", ENGINE / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
installation, engine = _module.installation, _module.engine
