"""What a task is given or answers that no row may hold: passwords, input of programs, what a guest answered.

It travels through Redis, which keeps nothing on disk, under a random number that the task's row knows, and is
gone after a while. Without Redis what needs a parcel is refused; everything else goes on.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping
from typing import Any

from django.core.cache import caches
from redis.exceptions import RedisError

from vms.errors import StateError

INPUT_KEPT = 900
"""Seconds a worker has to fetch what a door sent along."""
ANSWER_KEPT = 3600
"""Seconds an answer can be read."""


class Plain:
    """Bytes stay bytes: Django would pickle them, and what Redis holds is not code to us."""

    def dumps(self, value: bytes) -> bytes:
        return value

    def loads(self, value: bytes) -> bytes:
        return value


def send(content: Mapping[str, Any]) -> str:
    """Leave ``content`` (JSON) for the worker; answers the token. Raises :class:`StateError`: no Redis."""
    name = token()
    put(f"in-{name}", content, INPUT_KEPT)
    return name


def token() -> str:
    """A number for an answer to a question that carries nothing."""
    return secrets.token_hex(16)


def fetch(token: str) -> dict[str, Any]:
    """Take what was sent, once. Raises :class:`StateError` when it is not there any more."""
    found = get(f"in-{token}")
    if found is None:
        raise StateError("What this task was given is not there any more.", hint="Ask for it again.")
    try:
        caches["parcels"].delete(f"in-{token}")
    except (OSError, RedisError) as error:
        raise _unreachable(error) from error
    return found


def answer(token: str, content: Mapping[str, Any]) -> None:
    """Leave the answer for whoever may read it."""
    put(f"out-{token}", content, ANSWER_KEPT)


def answered(token: str) -> dict[str, Any] | None:
    """The answer, as long as it is kept."""
    return get(f"out-{token}")


def put(key: str, content: Mapping[str, Any], seconds: int) -> None:
    """Keep ``content`` (JSON) for so long. Raises :class:`StateError`: no Redis."""
    try:
        caches["parcels"].set(key, zlib.compress(json.dumps(content).encode(), 1), seconds)
    except (OSError, RedisError) as error:
        raise _unreachable(error) from error


def get(key: str) -> dict[str, Any] | None:
    """What is kept. Raises :class:`StateError`: no Redis."""
    try:
        found = caches["parcels"].get(key)
    except (OSError, RedisError) as error:
        raise _unreachable(error) from error
    return None if found is None else dict(json.loads(zlib.decompress(found)))


def _unreachable(error: Exception) -> StateError:
    return StateError(
        f"Redis, which carries what no row may hold, does not take part: {error}.",
        hint="See that redis-server is installed and runs.",
    )
