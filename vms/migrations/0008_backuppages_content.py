"""Backups: a content of its own, taken by every directory that takes disks."""

from django.db import migrations


def take_backups(apps, schema_editor):
    """Let the directories that take disks and ISO images take backups as well."""
    storages = apps.get_model("vms", "Storage")
    for storage in storages.objects.filter(kind="dir"):
        if "images" in storage.content and "iso" in storage.content and "backup" not in storage.content:
            storage.content = [*storage.content, "backup"]
            storage.save(update_fields=["content"])


class Migration(migrations.Migration):
    dependencies = [("vms", "0007_backups")]

    operations = [migrations.RunPython(take_backups, migrations.RunPython.noop)]
