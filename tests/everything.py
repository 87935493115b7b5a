"""Every check and test in the order a developer runs them; ``./up test`` calls this.

With arguments it is ``pytest ARGUMENTS``. Every phase is bounded in time, its report lands in
``test-results/``, and all phases run even when one failed, so one run shows everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "test-results"
BIN = Path(sys.executable).parent

CHECKS: list[tuple[str, list[str]]] = [
    ("ruff check", [str(BIN / "ruff"), "check", "."]),
    ("ruff format", [str(BIN / "ruff"), "format", "--check", "."]),
    ("mypy", [sys.executable, "-m", "mypy"]),
    ("import-linter", [str(BIN / "lint-imports")]),
    ("manage.py check", [sys.executable, "manage.py", "check"]),
    ("migrations", [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"]),
]
CHECK_LIMIT = 240

PHASES: list[tuple[str, list[str], int]] = [
    ("fast", ["tests/unit", "tests/golden", "tests/web", "-n", "2", "--dist", "loadfile"], 720),
    ("qemu", ["tests/qemu", "-n", "2", "--dist", "loadfile"], 1300),
    ("e2e", ["tests/e2e"], 800),
]
"""Name, pytest's arguments, seconds at most. Browser and guest share two cores: no two at a time there."""


def main(arguments: list[str]) -> int:
    """The exit code: 0 only when everything passed."""
    os.chdir(ROOT)
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pvelite-test-") as home:
        os.chmod(home, 0o711)  # QEMU's user passes through
        environ = {**os.environ, "PVELITE_HOME": f"{home}/home", "PVELITE_LOG": "WARNING"}
        for name in (
            "DATABASE_URL",
            "REDIS_URL",
            "PVELITE_ORIGINS",
            "PVELITE_BIND",
            "PVELITE_ADMIN_PASSWORD",
        ):
            environ.pop(name, None)
        if arguments:
            return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environ).returncode
        failed = [name for name, argv in CHECKS if not passes(name, argv, environ)]
        failed += [phase[0] for phase in PHASES if not tested(*phase, environ)]
    if failed:
        print(f"\nFAILED: {', '.join(failed)}  (reports: {RESULTS})", flush=True)
    return 1 if failed else 0


def passes(name: str, argv: list[str], environ: dict[str, str]) -> bool:
    """Run one check; its words are shown only when it fails."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            env=environ,
            timeout=CHECK_LIMIT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        good, words = done.returncode == 0, done.stdout
    except subprocess.TimeoutExpired:
        good, words = False, f"still running after {CHECK_LIMIT} s"
    print(f"{name:16} {'ok' if good else 'FAILED':6} {time.monotonic() - begun:5.1f} s", flush=True)
    if not good:
        print("\n".join(words.splitlines()[-60:]), flush=True)
    return good


def tested(name: str, arguments: list[str], limit: int, environ: dict[str, str]) -> bool:
    """Run one phase of pytest in the open. A phase past its limit is interrupted, so pytest still reports."""
    print(f"\n{name}: pytest {' '.join(arguments)}", flush=True)
    report = f"--junitxml={RESULTS / name}.xml"
    argv = [sys.executable, "-m", "pytest", "--no-header", "--durations=5", report, *arguments]
    with subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL) as process:
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            print(f"\n{name}: still running after {limit} s, interrupted", flush=True)
            process.send_signal(2)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
            code = -1
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
