"""Every verb. Importing this package registers them in :data:`vms.operations.base.OPERATIONS`."""

from vms.operations import create, destroy, power, start, volumes

__all__ = ["create", "destroy", "power", "start", "volumes"]
