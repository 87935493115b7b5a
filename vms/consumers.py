"""Hints to browsers over one WebSocket a tab: which topics changed, never what they hold.

The page asks again through ordinary views, so a hint can only cost a request. A consumer still passes on
only topics of what its user may see, and ends with its session.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib import import_module
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.utils.crypto import constant_time_compare

from vms import access
from vms.models import Task
from vms.tasks.notify import GROUP

SIGNED_OUT = 4401
"""Close code that makes the page reload, and so ask for a login."""
BEAT = 15.0
"""Seconds between two signs of life; each also checks that the session still stands."""
VIEW_LIFE = 5.0
"""Seconds a consumer trusts what it knows about its user's rights."""
VIEW_LIFE_STRANGER = 0.25
"""The same when a VM is named that they were not known to see: it may be new."""
OPEN = frozenset({"tasks", "tree", "storage", "node"})
"""Topics that tell nothing by themselves: the views they lead to filter."""
TASKS_REMEMBERED = 500


class Hints(AsyncJsonWebsocketConsumer):
    """``ws/hints``: says ``{"topics": ["vm-101", "tasks"]}``."""

    user: Any = None
    all_seen = False
    vmids: frozenset[int] = frozenset()
    read_at = 0.0
    heart: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept a signed-in user; others are closed with :data:`SIGNED_OUT`.

        Listening comes before the accept: the page asks everything again once it is accepted, so what
        changes before that is in the answers and what changes later is heard.
        """
        self.tasks_seen: dict[int, bool] = {}
        if not await self.refresh():
            await self.accept()
            await self.close(SIGNED_OUT)
            return
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()
        self.heart = asyncio.create_task(self.beat())
        await self.send_json({"topics": []})

    async def disconnect(self, code: int) -> None:
        """Leave the group and stop the heart."""
        if self.heart is not None:
            self.heart.cancel()
        with contextlib.suppress(ConnectionError, OSError):
            await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """A page has nothing to say here."""

    async def beat(self) -> None:
        """Sign of life, and the end for a session that no longer stands."""
        while True:
            await asyncio.sleep(BEAT)
            if not await self.refresh():
                await self.close(SIGNED_OUT)
                return
            await self.send_json({"topics": []})

    async def hint(self, event: dict[str, Any]) -> None:
        """A hint from the layer: pass on what this user may see."""
        topics = [str(topic) for topic in event.get("topics", ())]
        stale = time.monotonic() - self.read_at > (VIEW_LIFE_STRANGER if self.strange(topics) else VIEW_LIFE)
        if ("access" in topics or stale) and not await self.refresh():
            await self.close(SIGNED_OUT)
            return
        allowed = [topic for topic in topics if await self.may_hear(topic)]
        if allowed:
            await self.send_json({"topics": allowed})

    def strange(self, topics: list[str]) -> bool:
        """Whether there is a VM among ``topics`` that this user may not see, or only since a moment ago."""
        numbers = (topic.removeprefix("vm-") for topic in topics if topic.startswith("vm-"))
        return not self.all_seen and any(n.isdigit() and int(n) not in self.vmids for n in numbers)

    async def may_hear(self, topic: str) -> bool:
        """Whether ``topic`` concerns something this user may see."""
        if topic in OPEN:
            return True
        kind, _, number = topic.partition("-")
        if not number.isdigit():
            return False
        if self.all_seen:
            return kind in ("vm", "task")
        if kind == "vm":
            return int(number) in self.vmids
        return kind == "task" and await self.may_see_task(int(number))

    async def may_see_task(self, pk: int) -> bool:
        """Asked once a task: neither its owner nor its VM changes."""
        if pk not in self.tasks_seen:
            if len(self.tasks_seen) >= TASKS_REMEMBERED:
                self.tasks_seen.clear()
            self.tasks_seen[pk] = await database_sync_to_async(self.read_task)(pk)
        return self.tasks_seen[pk]

    def read_task(self, pk: int) -> bool:
        row = Task.objects.filter(pk=pk).values_list("user_id", "vmid", "node__name").first()
        if row is None:
            return False
        owner, vmid, node = row
        return (
            owner == self.user.pk
            or vmid in self.vmids
            or access.may(self.user, "Sys.Audit", f"/nodes/{node}")
        )

    async def refresh(self) -> bool:
        """Read the session and the user's rights anew. False when there is nobody signed in any more."""
        return await database_sync_to_async(self.read)()

    def read(self) -> bool:
        user = self.session_user()
        if user is None:
            return False
        self.user = user
        self.all_seen = bool(user.is_superuser)
        seen = () if self.all_seen else access.visible_vms(user).order_by().values_list("vmid", flat=True)
        self.vmids = frozenset(seen)
        self.read_at = time.monotonic()
        return True

    def session_user(self) -> Any:
        """Who the session belongs to *now*: the cookie's session must still exist and be of this password."""
        key = getattr(self.scope.get("session"), "session_key", None)
        if not key:
            return None
        stored = import_module(settings.SESSION_ENGINE).SessionStore(key).load()
        if BACKEND_SESSION_KEY not in stored or SESSION_KEY not in stored:
            return None
        user = get_user_model().objects.filter(pk=stored[SESSION_KEY], is_active=True).first()
        if user is None or not constant_time_compare(
            stored.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()
        ):
            return None
        return user
