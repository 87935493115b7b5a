"""How long the server takes over the wizard: each tab's save with its next picture, and the command preview.

    python benchmarks/wizard.py [-n COUNT]

In one process on an installation's own embedded database, through every layer below the socket (middleware,
session, transaction, templates). A save changes a field of the tab, as a browser with JavaScript sends it.
Exit code 1 when the 95th percentile of any tab misses the aim.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import installation

AIM = 0.060
"""Seconds, 95th percentile, for a save with the next picture of its tab."""
CHANGES: dict[str, tuple[str, str, str]] = {
    "general": ("name", "web-01", "web-02"),
    "os": ("ostype", "l26", "l24"),
    "system": ("vga.type", "", "virtio"),
    "disks": ("cache", "", "writeback"),
    "cpu": ("cores", "1", "2"),
    "memory": ("memory.current", "2048", "4096"),
    "network": ("tag", "", "7"),
}
"""Tab → the field that is changed, and the two values it takes in turns."""


def timed(count: int, act: Callable[[int], object]) -> list[float]:
    """Seconds each call of ``act`` takes; the first three are left out."""
    taken = []
    for number in range(count + 3):
        begun = time.perf_counter()
        act(number)
        taken.append(time.perf_counter() - begun)
    return taken[3:]


def p95(taken: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(taken, n=20)[-1]


def line(name: str, taken: list[float], judged: bool = True) -> bool:
    """Print a row; whether it is within the aim."""
    good = p95(taken) <= AIM or not judged
    values = (statistics.median(taken), p95(taken), max(taken))
    print(
        f"{name:<20}" + "".join(f"{value * 1e3:>10.1f}" for value in values) + ("" if good else "   missed")
    )
    return good


def measure(count: int) -> bool:
    """Every tab of one draft; whether all are within the aim."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    from vms.models import VM, Node
    from vms.models.configuration import with_parts
    from vms.wizard import life, preview
    from vms.wizard.drafts import Draft
    from vms.wizard.panels import Panels
    from vms.wizard.tabs import SLUGS

    user = get_user_model().objects.filter(is_superuser=True).first()
    made = life.begin(user, Node.objects.get())
    VM.everything.filter(pk=made.pk).update(
        draft={**made.draft, "visited": list(SLUGS), "stash": {"medium": "none"}}
    )
    client = Client(headers={"HX-Request": "true", "Host": "127.0.0.1"})
    client.force_login(user)
    base = {"medium": "none"}
    print(f"{'ms':<20}{'median':>10}{'p95':>10}{'max':>10}")
    good = True
    for tab, (name, first, second) in CHANGES.items():
        url = f"/vms/create/{made.vmid}/{tab}"
        slot = {"disks": "scsi0", "network": "net0"}.get(tab, "")

        def save(number: int, url: str = url, name: str = name, slot: str = slot) -> None:
            value = (first, second)[number % 2]  # noqa: B023  (called before the loop goes on)
            answer = client.post(url, {**base, name: value, "slot": slot})
            if answer.status_code != 200 or b'id="wizard"' not in answer.content:
                raise RuntimeError(f"{url} answered {answer.status_code}")

        good &= line(f"save {tab}", timed(count, save))
    confirm = f"/vms/create/{made.vmid}/confirm"
    good &= line("page confirm", timed(count, lambda _number: client.get(confirm)))
    draft = Draft(with_parts(VM.everything.filter(pk=made.pk)).get(), user)
    panels = Panels(draft, "cpu")
    good &= line("preview", timed(count, lambda _number: preview.command(panels)))
    return good


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=100, dest="count", help="saves a tab (default: 100)")
    count = max(20, parser.parse_args().count)
    with installation.running():
        good = measure(count)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
