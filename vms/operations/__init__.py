"""Every verb. Importing this package registers them in :data:`vms.operations.base.OPERATIONS`."""

from vms.operations import (
    clone,
    cloudinit,
    configure,
    create,
    destroy,
    fleet,
    hibernate,
    power,
    template,
    trash,
    volumes,
)

__all__ = [
    "clone",
    "cloudinit",
    "configure",
    "create",
    "destroy",
    "fleet",
    "hibernate",
    "power",
    "template",
    "trash",
    "volumes",
]
