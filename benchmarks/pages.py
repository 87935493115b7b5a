"""How long pages take with 10 and with 1,000 VMs, through the real server. Medians of one run.

    python benchmarks/pages.py [-n COUNT]

Each page is asked COUNT times (at least 20) by one logged-in client, before and after 990 VMs are added.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

import installation

PAGES = ("/", "/vms/100", "/vms/100/hardware", "/tree")
FEW, MANY = 10, 1000
AIM = 1.5


class Client:
    """A browser's worth of cookies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        """The page; ``HTTPError`` for anything but a good answer."""
        with self.opener.open(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def log_in(self, user: str, password: str) -> None:
        """Through the form, as a person does."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get("/login"))
        if token is None:
            raise RuntimeError("the login page has no form")
        fields = {"csrfmiddlewaretoken": token[1], "username": user, "password": password}
        data = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.url + "/login", data, {"Referer": self.url + "/login"})
        self.opener.open(request, timeout=30).close()
        if 'name="password"' in self.get("/"):
            raise RuntimeError("the login was refused")

    def median(self, path: str, count: int) -> float:
        """Seconds a page takes, read to its last byte."""
        taken = []
        for _ in range(count + 1):
            begun = time.perf_counter()
            self.get(path)
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken[1:])


def add_vms(first: int, count: int) -> None:
    """Define ``count`` VMs with a disk tray and a card each."""
    from django.db import transaction

    with transaction.atomic():
        for vmid in range(first, first + count):
            mac = f"BC:24:11:{vmid >> 16 & 255:02X}:{vmid >> 8 & 255:02X}:{vmid & 255:02X}"
            config = {
                "name": f"guest-{vmid}",
                "ostype": "l26",
                "cores": "2",
                "memory": "2048",
                "tags": "bench",
                "ide2": "none,media=cdrom",
                "net0": f"virtio={mac}",
            }
            installation.add_vm(vmid, config)


def main() -> int:
    """Command line; exit code 1 when a ratio misses the aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=20, help="requests of each page (20)")
    count = max(20, parser.parse_args().n)
    with installation.running() as house:
        from house import PASSWORD, USER

        client = Client(house.url)
        add_vms(100, FEW)
        client.log_in(USER, PASSWORD)
        few = {path: client.median(path, count) for path in PAGES}
        add_vms(100 + FEW, MANY - FEW)
        many = {path: client.median(path, count) for path in PAGES}
    print(f"{f'median ms, n={count}':24}{f'{FEW} VMs':>10}{f'{MANY} VMs':>10}{'ratio':>8}")
    for path in PAGES:
        print(f"{path:24}{few[path] * 1000:10.1f}{many[path] * 1000:10.1f}{many[path] / few[path]:8.2f}")
    worst = max(many[path] / few[path] for path in PAGES)
    print(f"worst ratio {worst:.2f} (aim ≤ {AIM})")
    return 0 if worst <= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
