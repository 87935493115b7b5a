"""The Django application that shows the machines' screens."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"
    verbose_name = "Consoles"
