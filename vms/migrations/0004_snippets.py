"""Texts of somebody's own for cloud-init, kept with their versions; what a cloud-init drive was made from."""

import django.db.models.deletion
import vms.models.storage
from django.conf import settings
from django.db import migrations, models


def take_snippets(apps, schema_editor):
    """Let the storages that take ISO images take snippets as well."""
    storages = apps.get_model("vms", "Storage")
    for storage in storages.objects.filter(kind="dir"):
        if "iso" in storage.content and "snippets" not in storage.content:
            storage.content = [*storage.content, "snippets"]
            storage.save(update_fields=["content"])


class Migration(migrations.Migration):

    dependencies = [
        ('vms', '0003_snapshots'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='vm',
            name='seed',
            field=models.JSONField(blank=True, default=dict, editable=False),
        ),
        migrations.AlterField(
            model_name='storage',
            name='content',
            field=models.JSONField(default=vms.models.storage.default_content, help_text='What may lie here: ["images", "iso", "import", "snippets"].'),
        ),
        migrations.CreateModel(
            name='Snippet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=120)),
                ('role', models.CharField(choices=[('user', 'User data'), ('network', 'Network settings'), ('vendor', 'Vendor data'), ('meta', 'Metadata')], default='user', max_length=7)),
                ('created', models.DateTimeField(auto_now_add=True)),
                ('modified', models.DateTimeField(auto_now=True)),
                ('storage', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='snippets', to='vms.storage')),
            ],
            options={
                'ordering': ['storage', 'name'],
            },
        ),
        migrations.CreateModel(
            name='SnippetFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('size', models.BigIntegerField(default=0)),
                ('sha256', models.CharField(blank=True, max_length=64)),
                ('problem', models.CharField(blank=True, max_length=300)),
                ('node', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='snippet_files', to='vms.node')),
                ('storage', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='snippet_files', to='vms.storage')),
            ],
            options={
                'ordering': ['storage', 'name'],
            },
        ),
        migrations.CreateModel(
            name='SnippetVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('text', models.TextField()),
                ('sha256', models.CharField(max_length=64)),
                ('size', models.PositiveIntegerField(help_text='Bytes.')),
                ('comment', models.CharField(blank=True, max_length=200)),
                ('username', models.CharField(blank=True, max_length=150)),
                ('created', models.DateTimeField(auto_now_add=True)),
                ('author', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('snippet', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='vms.snippet')),
            ],
            options={
                'ordering': ['snippet', '-number'],
            },
        ),
        migrations.AddConstraint(
            model_name='snippet',
            constraint=models.UniqueConstraint(fields=('storage', 'name'), name='one_snippet_per_name'),
        ),
        migrations.AddConstraint(
            model_name='snippetfile',
            constraint=models.UniqueConstraint(fields=('storage', 'node', 'name'), name='one_snippet_file_per_name'),
        ),
        migrations.AddConstraint(
            model_name='snippetversion',
            constraint=models.UniqueConstraint(fields=('snippet', 'number'), name='one_version_per_number'),
        ),
        migrations.RunPython(take_snippets, migrations.RunPython.noop),
    ]
