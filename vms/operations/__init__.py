"""Every verb. Importing this package registers them in :data:`vms.operations.base.OPERATIONS`."""

from vms.operations import cloudinit, configure, create, destroy, fleet, power, start, trash, volumes

__all__ = ["cloudinit", "configure", "create", "destroy", "fleet", "power", "start", "trash", "volumes"]
