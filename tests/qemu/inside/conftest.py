"""Three machines asked for in the wizard, each booted once: what their guests saw, for the tests of all tabs.

``linux``    everything a Linux machine can be given, many disks and cards; boots the cloud kernel directly
``uefi``     OVMF with Secure Boot and a TPM; boots the disk the wizard's Import button made
``windows``  the hardware an older Windows gets; boots Debian's full kernel directly
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import machines_inside as machines
from guestkit.media import Media, build_media
from insidekit import Presses, Seen, ask, live, wizard

Asker = Callable[[Mapping[str, Path], Mapping[str, Presses]], dict[str, str]]
FULL_LIMIT, UEFI_LIMIT = 180, 180
"""Seconds a boot may take on a busy box; on an idle one both take fewer than twenty."""


@pytest.fixture(scope="session")
def asker(django_db_setup: None, django_db_blocker: Any, node_facts: dict[str, Any]) -> Asker:
    """``asker(images, tabs)`` goes through the wizard and answers the configuration it wrote."""

    def asked(images: Mapping[str, Path], tabs: Mapping[str, Presses]) -> dict[str, str]:
        with django_db_blocker.unblock(), wizard(node_facts, images) as hand:
            return ask(hand, tabs)

    return asked


@pytest.fixture(scope="session")
def linux(node_facts: dict[str, Any], guest_media: Media, asker: Asker) -> Seen:
    """The machine with the most of everything."""
    wish, boot = asker({}, machines.LINUX), guest_media.direct_boot()
    return asyncio.run(live(node_facts, {}, wish, extra=boot, further=machines.try_linux))


@pytest.fixture(scope="session")
def uefi(node_facts: dict[str, Any], guest_media: Media, asker: Asker) -> Seen:
    """The machine with modern firmware."""
    images = {"import/guest.raw": guest_media.disk}
    wish = asker(images, machines.UEFI)
    return asyncio.run(live(node_facts, images, wish, limit=UEFI_LIMIT))


@pytest.fixture(scope="session")
def windows(node_facts: dict[str, Any], asker: Asker) -> Seen:
    """The machine with devices every system has drivers for."""
    full = build_media("full")
    images = {"iso/guest.iso": full.iso, "iso/memtest86+x64.iso": full.memtest_iso}
    wish, boot = asker(images, machines.WINDOWS), full.direct_boot()
    return asyncio.run(live(node_facts, images, wish, extra=boot, limit=FULL_LIMIT))
