"""The house as a Django application: it brings the management commands and the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class PveliteConfig(AppConfig):
    name = "pvelite"
    verbose_name = "pvelite"

    def ready(self) -> None:
        """Registers ``manage.py check``'s looks at the host."""
        from pvelite import checks

        checks.register_all()
