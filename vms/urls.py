"""The addresses of the pages."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, register_converter

from vms.views import (
    agent,
    backupjobforms,
    backupjobs,
    backupnow,
    backups,
    bulk,
    busmove,
    clone,
    cloudinit,
    dashboard,
    device_forms,
    disks,
    fleet,
    graphs,
    hardware,
    importconf,
    menu,
    nodes,
    notes,
    options,
    picture,
    power,
    prometheus,
    prune,
    removal,
    restore,
    shell,
    snapshots,
    snippet_forms,
    snippets,
    storage,
    storages,
    tags,
    tasks,
    trash,
    upload,
    vm,
)
from vms.wizard.urls import urlpatterns as wizard_urls


class VmidConverter:
    """Nine digits at most: longer ones are no VM and would be no number to the database either."""

    regex = "[0-9]{1,9}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(VmidConverter, "vmid")

app_name = "vms"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", dashboard.dashboard, name="dashboard"),
    path("vms/bulk", bulk.bulk, name="bulk"),
    path("tree", shell.tree, name="tree"),
    path("vms/<vmid:vmid>", vm.vm_summary, name="vm_summary"),
    path("vms/<vmid:vmid>/hardware", hardware.vm_hardware, name="vm_hardware"),
    path("vms/<vmid:vmid>/hardware/add/<slug:kind>", device_forms.hardware_add, name="hardware_add"),
    path("vms/<vmid:vmid>/hardware/bus", busmove.hardware_bus, name="hardware_bus"),
    path("vms/<vmid:vmid>/hardware/fix", removal.hardware_fix, name="hardware_fix"),
    path("vms/<vmid:vmid>/hardware/import-disk", disks.disk_import, name="disk_import"),
    path("vms/<vmid:vmid>/hardware/<slug:row>/resize", disks.disk_resize, name="disk_resize"),
    path("vms/<vmid:vmid>/hardware/<slug:row>/move", disks.disk_move, name="disk_move"),
    path("vms/<vmid:vmid>/hardware/<slug:row>/reassign", disks.disk_reassign, name="disk_reassign"),
    path("vms/<vmid:vmid>/hardware/<slug:row>/edit", device_forms.hardware_edit, name="hardware_edit"),
    path("vms/<vmid:vmid>/hardware/<slug:row>/remove", removal.hardware_remove, name="hardware_remove"),
    path("vms/<vmid:vmid>/hardware/<slug:row>/revert", removal.hardware_revert, name="hardware_revert"),
    path("vms/<vmid:vmid>/options", options.vm_options, name="vm_options"),
    path("vms/<vmid:vmid>/options/<slug:key>", options.option_edit, name="option_edit"),
    path("vms/<vmid:vmid>/options/<slug:key>/revert", options.option_revert, name="option_revert"),
    path("vms/<vmid:vmid>/notes", notes.vm_notes, name="vm_notes"),
    path("vms/<vmid:vmid>/tags", tags.vm_tags, name="vm_tags"),
    path("vms/<vmid:vmid>/clone", clone.vm_clone, name="vm_clone"),
    path("clones/<vmid:pk>", clone.cloning, name="cloning"),
    path("vms/<vmid:vmid>/cloudinit", cloudinit.vm_cloudinit, name="vm_cloudinit"),
    path("vms/<vmid:vmid>/cloudinit/edit/<slug:row>", cloudinit.cloudinit_edit, name="cloudinit_edit"),
    path("vms/<vmid:vmid>/cloudinit/add", cloudinit.cloudinit_add, name="cloudinit_add"),
    path("vms/<vmid:vmid>/cloudinit/regenerate", cloudinit.cloudinit_regenerate, name="cloudinit_regenerate"),
    path("vms/<vmid:vmid>/cloudinit/show/<slug:role>", cloudinit.cloudinit_dump, name="cloudinit_dump"),
    path("metrics", prometheus.prometheus, name="prometheus"),
    path("vms/<vmid:vmid>/series", graphs.vm_series, name="vm_series"),
    path("vms/<vmid:vmid>/usage", graphs.vm_usage, name="vm_usage"),
    path("nodes/<str:name>/series", graphs.node_series, name="node_series"),
    path("vms/<vmid:vmid>/snapshots", snapshots.vm_snapshots, name="vm_snapshots"),
    path("vms/<vmid:vmid>/snapshots/take", snapshots.snapshot_take, name="snapshot_take"),
    path("vms/<vmid:vmid>/snapshots/<slug:name>/<slug:verb>", snapshots.snapshot_ask, name="snapshot_ask"),
    path("vms/<vmid:vmid>/backup", backups.vm_backup, name="vm_backup"),
    path("vms/<vmid:vmid>/backup/now", backupnow.backup_now, name="backup_now"),
    path("backups/<vmid:pk>/restore", restore.backup_restore, name="backup_restore"),
    path("backups/<vmid:pk>/config", restore.backup_config, name="backup_config"),
    path("backups/<vmid:pk>/do/<slug:verb>", backups.backup_do, name="backup_do"),
    path("backups/<vmid:pk>/<slug:verb>", backups.backup_ask, name="backup_ask"),
    path("backup-jobs", backupjobs.backup_jobs, name="backup_jobs"),
    path("backup-jobs/new", backupjobforms.backup_job_new, name="backup_job_new"),
    path("backup-jobs/preview", backupjobforms.backup_job_preview, name="backup_job_preview"),
    path("backup-jobs/<vmid:pk>", backupjobforms.backup_job_edit, name="backup_job_edit"),
    path("backup-jobs/<vmid:pk>/remove", backupjobs.backup_job_remove, name="backup_job_remove"),
    path("backup-jobs/<vmid:pk>/<slug:verb>", backupjobs.backup_job_do, name="backup_job_do"),
    path("vms/<vmid:vmid>/agent/answers/<vmid:pk>", agent.agent_answer, name="agent_answer"),
    path("vms/<vmid:vmid>/agent/<slug:command>", agent.agent_ask, name="agent_ask"),
    path("vms/<vmid:vmid>/screen", picture.vm_screen, name="vm_screen"),
    path("vms/<vmid:vmid>/screen.png", picture.vm_thumbnail, name="vm_thumbnail"),
    path("vms/<vmid:vmid>/screenshot", picture.screenshot, name="screenshot"),
    path("vms/<vmid:vmid>/screenshots/<vmid:pk>", picture.screenshot_taken, name="screenshot_taken"),
    path("vms/<vmid:vmid>/menu", menu.vm_menu, name="vm_menu"),
    path("vms/<vmid:vmid>/tasks", vm.vm_tasks, name="vm_tasks"),
    path("vms/<vmid:vmid>/ask/<slug:verb>", power.vm_ask, name="vm_ask"),
    path("vms/<vmid:vmid>/do/<slug:verb>", power.vm_action, name="vm_action"),
    path("trash", trash.trash, name="trash"),
    path("trash/<vmid:vmid>/remove", trash.trash_ask, name="trash_ask"),
    path("trash/<vmid:vmid>/<slug:verb>", trash.trash_action, name="trash_action"),
    path("vms/import", importconf.importconf, name="importconf"),
    path("tasks", tasks.tasks, name="tasks"),
    path("tasks/log", tasks.task_log, name="task_log"),
    path("tasks/<vmid:pk>", tasks.task, name="task"),
    path("tasks/<vmid:pk>/cancel", tasks.task_cancel, name="task_cancel"),
    path("nodes/<str:name>", nodes.node, name="node"),
    path("nodes/<str:name>/bulk/<slug:verb>", fleet.node_bulk, name="node_bulk"),
    path("storages", storages.storages_page, name="storages"),
    path("storages/add", storages.storage_add, name="storage_add"),
    path("storage/<str:name>", storage.storage, name="storage"),
    path("storage/<str:name>/edit", storages.storage_edit, name="storage_edit"),
    path("storage/<str:name>/remove", storages.storage_remove, name="storage_remove"),
    path("storage/<str:name>/prune", prune.storage_prune, name="storage_prune"),
    path("storage/<str:name>/upload", upload.upload, name="upload"),
    path("storage/<str:name>/rescan", storage.rescan, name="storage_rescan"),
    path("storage/<str:name>/delete", storage.delete, name="volume_delete"),
    path("snippets", snippets.snippets_page, name="snippets"),
    path("snippets/new", snippet_forms.snippet_new, name="snippet_new"),
    path("snippets/<str:storage>/<str:name>", snippets.snippet, name="snippet"),
    path("snippets/<str:storage>/<str:name>/edit", snippet_forms.snippet_edit, name="snippet_edit"),
    path("snippets/<str:storage>/<str:name>/file", snippets.snippet_file, name="snippet_file"),
    path("snippets/<str:storage>/<str:name>/remove", snippets.snippet_remove, name="snippet_remove"),
    path("snippets/<str:storage>/<str:name>/restore", snippets.snippet_restore, name="snippet_restore"),
    path(
        "snippets/<str:storage>/<str:name>/versions/<vmid:number>",
        snippets.snippet_version,
        name="snippet_version",
    ),
    *wizard_urls,
]
