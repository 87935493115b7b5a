"""Whether a drive may use a storage at all: it is switched on, and takes what the drive wants of it."""

from __future__ import annotations

from collections.abc import Iterable

from vms.errors import ConfigError
from vms.models import Storage

WORDS = {"images": "disk images", "iso": "ISO images", "import": "images to import"}


def place_errors(files: Iterable[tuple[str, str]]) -> list[ConfigError]:
    """One error for each drive that may not. ``files``: a drive's key and the first part of its value
    (``local:32``, ``local:iso/debian.iso``); what names no storage of ours is somebody else's to judge."""
    wanted = [(key, *file.partition(":")[::2]) for key, file in files if ":" in file]
    rows = {row.name: row for row in Storage.objects.filter(name__in={name for _, name, _ in wanted})}
    errors = []
    for key, name, volume in wanted:
        row = rows.get(name)
        content = next((one for one in ("iso", "import") if volume.startswith(f"{one}/")), "images")
        if row is None:
            continue
        if not row.enabled:
            text = f"storage '{name}' is switched off; choose another"
            errors.append(ConfigError(key, text, part="file"))
        elif content not in row.content:
            errors.append(ConfigError(key, f"storage '{name}' takes no {WORDS[content]}", part="file"))
    return errors
