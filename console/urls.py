"""The consoles' addresses."""

from __future__ import annotations

from django.urls import path

from console import clipboard, keyboard, spiceviews, views

app_name = "console"

urlpatterns = [
    path("vms/<int:vmid>/console", views.vm_console, name="vm_console"),
    path("vms/<int:vmid>/console/window", views.window, name="window"),
    path("vms/<int:vmid>/terminal/<int:port>", views.terminal, name="terminal"),
    path("vms/<int:vmid>/terminal/<int:port>/window", views.terminal_window, name="terminal_window"),
    path("vms/<int:vmid>/spice", spiceviews.spice, name="spice"),
    path("vms/<int:vmid>/spice/window", spiceviews.spice_window, name="spice_window"),
    path("vms/<int:vmid>/spice/viewer", spiceviews.viewer_file, name="viewer_file"),
    path("vms/<int:vmid>/console/type", keyboard.type_page, name="type"),
    path("vms/<int:vmid>/console/type/<int:pk>", keyboard.type_state, name="type_state"),
    path("vms/<int:vmid>/console/clipboard", clipboard.clipboard, name="clipboard"),
    path("console/keys", keyboard.keys, name="keys"),
    path("vms/<int:vmid>/console/state", views.state, name="state"),
    path("vms/<int:vmid>/console/ticket", views.ticket, name="ticket"),
    path("vms/<int:vmid>/vncwebsocket", views.socket, name="socket"),
]
