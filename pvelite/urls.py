"""Every address: pages and consoles have no prefix, Django's admin lies under ``/admin/``."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from vms.views.session import login_view, logout_view

urlpatterns = [
    path("login", login_view, name="login"),
    path("logout", logout_view, name="logout"),
    path("admin/", admin.site.urls),
    path("", include("console.urls")),
    path("", include("vms.urls")),
]
