"""What a fresh installation holds: this node, the storage ``local`` and the first operator."""

from __future__ import annotations

import secrets
from pathlib import Path

from django.contrib.auth import get_user_model
from django.db import transaction

from vms.models import Node, Storage

OPERATOR = "admin"


def seed_node(name: str, storage_path: Path) -> Node:
    """The row of this node and of the directory storage ``local``; makes what is missing, changes nothing."""
    with transaction.atomic():
        node, _ = Node.objects.get_or_create(name=name)
        Storage.objects.get_or_create(name="local", defaults={"path": str(storage_path)})
    return node


def seed_operator(password: str = "") -> str | None:
    """Make the first operator when there is no user yet; returns the password to print once, else None.

    ``password`` empty means a random one of 120 bits.
    """
    users = get_user_model().objects
    if users.exists():
        return None
    chosen = password or secrets.token_urlsafe(15)
    users.create_superuser(username=OPERATOR, email="", password=chosen)
    return chosen
