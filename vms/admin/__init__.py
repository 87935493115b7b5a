"""The Django admin, for operators.

Rows are edited here under the same rules as everywhere: a VM's configuration goes through
:func:`vms.models.configuration.save_config`, and every verb is a submitted operation.
"""

from vms.admin import access, backups, inventory, snippets, tasks, vm

__all__ = ["access", "backups", "inventory", "snippets", "tasks", "vm"]
