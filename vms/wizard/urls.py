"""The wizard's addresses; included by :mod:`vms.urls`."""

from __future__ import annotations

from django.urls import path

from vms.wizard import views

urlpatterns = [
    path("vms/create", views.create, name="create"),
    path("vms/create/from/<int:vmid>", views.duplicate, name="wizard_duplicate"),
    path("vms/create/<int:draft>", views.resume, name="wizard_resume"),
    path("vms/create/<int:draft>/<slug:tab>", views.wizard_tab, name="wizard_tab"),
]
