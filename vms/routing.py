"""WebSocket addresses of the pages. Consoles have a door of their own (:mod:`console.mux`)."""

from __future__ import annotations

from typing import Any

from django.urls import path

from vms.consumers import Hints

hints: Any = Hints.as_asgi()
websocket_urlpatterns: list[Any] = [path("ws/hints", hints)]
