"""The rows. One noun a module; :mod:`vms.models.configuration` is the only writer of a VM's configuration."""

from vms.models.access import AclEntry, AuditEntry
from vms.models.backup import BackupJob
from vms.models.disk import Disk
from vms.models.metric import Metric
from vms.models.nic import Nic
from vms.models.node import Node
from vms.models.pool import Pool
from vms.models.snapshot import Snapshot
from vms.models.snippet import Snippet, SnippetFile, SnippetVersion
from vms.models.storage import Storage, StorageStatus, Volume
from vms.models.task import Task, TaskLogLine
from vms.models.vm import VM

__all__ = [
    "VM",
    "AclEntry",
    "AuditEntry",
    "BackupJob",
    "Disk",
    "Metric",
    "Nic",
    "Node",
    "Pool",
    "Snapshot",
    "Snippet",
    "SnippetFile",
    "SnippetVersion",
    "Storage",
    "StorageStatus",
    "Task",
    "TaskLogLine",
    "Volume",
]
