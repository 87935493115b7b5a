"""Images to import: a content of their own, taken by every directory that takes ISO images."""

from django.db import migrations, models

import vms.models.storage


def take_imports(apps, schema_editor):
    """Let the storages that take ISO images take images to import as well."""
    storages = apps.get_model("vms", "Storage")
    for storage in storages.objects.filter(kind="dir"):
        if "iso" in storage.content and "import" not in storage.content:
            storage.content = [*storage.content, "import"]
            storage.save(update_fields=["content"])


class Migration(migrations.Migration):
    dependencies = [("vms", "0001_initial")]

    operations = [
        migrations.AlterField(
            model_name="storage",
            name="content",
            field=models.JSONField(
                default=vms.models.storage.default_content,
                help_text='What may lie here: ["images", "iso", "import"].',
            ),
        ),
        migrations.AlterField(
            model_name="volume",
            name="content",
            field=models.CharField(
                choices=[("images", "Disk image"), ("iso", "ISO image"), ("import", "Image to import")],
                max_length=8,
            ),
        ),
        migrations.RunPython(take_imports, migrations.RunPython.noop),
    ]
