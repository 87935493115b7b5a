"""Small pictures of screens, for pages: who looks says so, and the worker draws for those alone.

Both travel through Redis under the run's name, and are gone a little after nobody looks. A run's name is made
anew at every start, so no picture outlives its guest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.cache import caches
from redis.exceptions import RedisError

from vms.tasks import parcel

LOOKED = 12
"""Seconds that one look lasts: pages look again every few seconds while somebody sees them."""
KEPT = 60


@dataclass(frozen=True)
class Thumbnail:
    """A PNG, or in words why there is none. ``digest`` names what it shows.

    ``clipboard``: whether somebody in the guest holds the channel that shares the clipboard; None: not known.
    """

    png: bytes
    words: str = ""
    clipboard: bool | None = None

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.png, digest_size=12).hexdigest()


def look(run: str) -> bool:
    """Say that somebody looks at the screen of this run. False when Redis does not answer."""
    try:
        caches["parcels"].set(f"look-{run}", b"1", LOOKED)
    except (OSError, RedisError):
        return False
    return True


def looked(runs: Iterable[str]) -> set[str]:
    """Those somebody looks at; none when Redis does not answer."""
    names = {f"look-{run}": run for run in runs}
    try:
        found = caches["parcels"].get_many(names) if names else {}
    except (OSError, RedisError):
        return set()
    return {names[key] for key in found}


def keep(run: str, thumbnail: Thumbnail) -> None:
    """Leave the picture. Raises :class:`StateError`: no Redis."""
    png = base64.b64encode(thumbnail.png).decode()
    parcel.put(f"thumb-{run}", {"png": png, "words": thumbnail.words, "clipboard": thumbnail.clipboard}, KEPT)


def keep_on(run: str) -> bool:
    """The picture still holds. False when it is gone meanwhile, or Redis does not answer."""
    try:
        return bool(caches["parcels"].touch(f"thumb-{run}", KEPT))
    except (OSError, RedisError):
        return False


def kept(run: str) -> Thumbnail | None:
    """The latest picture. Raises :class:`StateError`: no Redis."""
    found = parcel.get(f"thumb-{run}")
    if found is None:
        return None
    return Thumbnail(base64.b64decode(found["png"]), str(found["words"]), found["clipboard"])
