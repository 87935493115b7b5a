from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('console', '0002_serial_port'),
    ]

    operations = [
        migrations.AlterField(
            model_name='consoleticket',
            name='kind',
            field=models.CharField(choices=[('vnc', 'Screen'), ('serial', 'Serial line'), ('spice', 'SPICE in the page'), ('viewer', 'SPICE viewer program')], default='vnc', editable=False, max_length=6),
        ),
    ]
