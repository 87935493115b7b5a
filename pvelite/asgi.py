"""The web role's one application: pages to Django, browser hints to Channels.

Consoles never come here: :class:`console.mux.ConsoleMux` pipes their upgrade to the console proxy first.
"""

from __future__ import annotations

from typing import Any, cast

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.urls import re_path

from pvelite.http import Bridge, Message, Receive, Send
from pvelite.wsgi import application as wsgi

from vms.routing import websocket_urlpatterns  # isort: skip  (models load only after wsgi has set Django up)


async def nowhere(scope: Message, receive: Receive, send: Send) -> None:
    """Refuses a WebSocket to an address we do not have: the handshake ends in a 403."""
    await receive()
    await send({"type": "websocket.close"})


http = Bridge(wsgi)
fallback: Any = nowhere  # the stubs of re_path know views only
routes = URLRouter([*websocket_urlpatterns, cast("Any", re_path(r"", fallback))])
websocket: Any = OriginValidator(AuthMiddlewareStack(routes), settings.PUBLIC_ORIGINS)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Routes one connection. A WebSocket from an origin that is not ours is refused before any consumer."""
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        await lifespan(receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop of the server: nothing of ours waits for either."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
