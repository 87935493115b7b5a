"""The Django application that holds the machines."""

from django.apps import AppConfig


class VmsConfig(AppConfig):
    name = "vms"
    verbose_name = "Virtual machines"

    def ready(self) -> None:
        """Listen to configurations being stored: each VM has a file that follows."""
        from vms.operations import mirror  # noqa: F401
