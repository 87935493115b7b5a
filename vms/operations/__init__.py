"""Every verb. Importing this package registers them in :data:`vms.operations.base.OPERATIONS`."""

from vms.operations import (
    busmove,
    clone,
    cloudinit,
    configure,
    create,
    destroy,
    diskimport,
    fleet,
    hibernate,
    move,
    power,
    rescan,
    resize,
    template,
    trash,
    volumes,
)

__all__ = [
    "busmove",
    "clone",
    "cloudinit",
    "configure",
    "create",
    "destroy",
    "diskimport",
    "fleet",
    "hibernate",
    "move",
    "power",
    "rescan",
    "resize",
    "template",
    "trash",
    "volumes",
]
