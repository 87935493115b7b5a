"""The hints' WebSocket: who hears what, from which origin, and that it ends with the session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from pvelite.asgi import websocket
from vms.consumers import SIGNED_OUT
from vms.models import AclEntry
from vms.tasks.notify import GROUP

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = settings.PUBLIC_ORIGINS[0]


def dial(client: Client | None, origin: str | None = ORIGIN) -> WebsocketCommunicator:
    headers = [(b"host", b"testserver")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if client is not None:
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
        headers.append((b"cookie", cookie.encode()))
    return WebsocketCommunicator(websocket, "/ws/hints", headers=headers)


async def hint(*topics: str) -> None:
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send(GROUP, {"type": "hint", "topics": list(topics)})


async def opened(client: Client) -> WebsocketCommunicator:
    link = dial(client)
    connected, _ = await link.connect(timeout=5)
    assert connected
    assert await link.receive_json_from(timeout=5) == {"topics": []}
    return link


async def browser(name: str, **roles: str) -> tuple[Any, Client]:
    user = await sync_to_async(person)(name, **roles)
    return user, await sync_to_async(signed_in)(user)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, ORIGIN.replace("http", "https")])
async def test_foreign_origins_are_refused(scene: Scene, origin: str | None) -> None:
    _, client = await browser("anna", root="Administrator")
    link = dial(client, origin)
    connected, _ = await link.connect(timeout=5)
    assert not connected


async def test_strangers_are_closed_at_once(scene: Scene) -> None:
    link = dial(None)
    await link.connect(timeout=5)
    assert await closing(link) == SIGNED_OUT


async def test_only_topics_of_what_one_may_see(scene: Scene) -> None:
    await sync_to_async(scene.add_vms)(2)
    _, client = await browser("bob", vms__200="PVEVMUser")
    link = await opened(client)
    await hint("vm-101", "vm-200", "vm-201", f"task-{scene.task.pk}", "tree", "nonsense", "vm-x", "secret-1")
    assert await link.receive_json_from(timeout=5) == {"topics": ["vm-200", "tree"]}
    await hint("vm-101")
    assert await link.receive_nothing(timeout=0.3)
    await link.disconnect()


async def test_an_operator_hears_all(scene: Scene) -> None:
    user = await sync_to_async(get_user_model().objects.create_superuser)("root", password="x")
    link = await opened(await sync_to_async(signed_in)(user))
    await hint("vm-101", f"task-{scene.task.pk}", "tasks")
    assert await link.receive_json_from(timeout=5) == {"topics": ["vm-101", f"task-{scene.task.pk}", "tasks"]}
    await link.disconnect()


async def test_a_right_taken_away_is_silence(scene: Scene) -> None:
    user, client = await browser("bob", vms__101="PVEVMUser")
    link = await opened(client)
    await hint("vm-101")
    assert await link.receive_json_from(timeout=5) == {"topics": ["vm-101"]}
    await AclEntry.objects.filter(user=user).adelete()
    await hint("access", "vm-101")
    assert await link.receive_nothing(timeout=0.3)
    await link.disconnect()


async def closing(link: WebsocketCommunicator) -> int:
    """The close code, whatever was said before it."""
    async with asyncio.timeout(5):
        while True:
            message = await link.receive_output(timeout=5)
            if message["type"] == "websocket.close":
                return int(message["code"])


@pytest.mark.parametrize("how", ["logout", "inactive", "password"])
async def test_it_ends_with_the_session(scene: Scene, how: str) -> None:
    user, client = await browser("bob", vms__101="PVEVMUser")
    link = await opened(client)
    if how == "logout":
        assert (await sync_to_async(client.post)("/logout")).status_code == 302
    elif how == "inactive":
        await get_user_model().objects.filter(pk=user.pk).aupdate(is_active=False)
    else:
        await sync_to_async(user.set_password)("another")
        await user.asave()
    await hint("access")
    assert await closing(link) == SIGNED_OUT
