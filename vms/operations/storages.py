"""Storages as an operator defines them: added once they were tried, changed, switched off, taken away.

What lies on a storage is never touched here: taking one away forgets it and leaves its files and volumes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import transaction

from vms import access
from vms.errors import ConfigError, ConfigErrors, StateError, StorageError
from vms.models import AuditEntry, Disk, Node, Storage, Volume
from vms.models.storage import storage_name
from vms.operations.base import submit_on
from vms.schema.option import options_of
from vms.storage import open_storage
from vms.storage.base import StorageStatus
from vms.storage.kinds import KINDS, StorageKind
from vms.tasks import notify

PRIVILEGE = "Datastore.Allocate"
CONTENTS = ("images", "iso", "import", "snippets", "backup")
"""What may lie on a storage, in the order of every list of it."""
CONTENT_WORDS = {
    "images": "Disk images", "iso": "ISO images", "import": "Images to import", "snippets": "Snippets",
    "backup": "Backups",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A storage as somebody wants it. ``options`` are texts under PVE's names, ``path`` among them."""

    name: str
    kind: str
    options: Mapping[str, str]
    content: tuple[str, ...]
    shared: bool = False
    enabled: bool = True


def authorise(user: Any) -> None:
    """Raise :class:`AccessError` unless ``user`` may define storages. ``None`` is the system."""
    if user is not None:
        access.require(user, PRIVILEGE, "/storage")


def kind_named(name: str) -> StorageKind:
    """The kind of that name. Raises :class:`ConfigError`."""
    if name not in KINDS:
        raise ConfigError("type", f"'{name[:40]}' is no kind of storage; there are: {', '.join(KINDS)}")
    return KINDS[name]


def checked(wish: Wish) -> dict[str, Any]:
    """The options of a wish, parsed. Raises :class:`ConfigErrors`, each on its field."""
    kind = kind_named(wish.kind)
    errors: list[ConfigError] = []
    try:
        storage_name(wish.name)
        if len(wish.name) > 63:
            raise ValidationError("A storage's name has at most 63 characters.")
    except ValidationError as error:
        errors.append(ConfigError("storage", error.messages[0]))
    odd = [content for content in wish.content if content not in kind.contents]
    if odd:
        able = ", ".join(kind.contents)
        errors.append(ConfigError("content", f"'{odd[0]}' cannot lie on {kind.label}, only {able}"))
    if not wish.content:
        errors.append(ConfigError("content", "is empty: say what may lie there"))
    options: dict[str, Any] = {}
    try:
        options = kind.read(wish.options)
    except ConfigErrors as found:
        errors += found.errors
    if errors:
        raise ConfigErrors(errors)
    return options


def check_new(wish: Wish, options: Mapping[str, Any], besides: Storage | None = None) -> None:
    """Raise :class:`ConfigError` when another storage has the name, or is the same place."""
    others = Storage.objects.exclude(pk=besides.pk) if besides else Storage.objects.all()
    if others.filter(name=wish.name).exists():
        raise ConfigError("storage", f"storage ID '{wish.name}' already defined")
    first = options_of(KINDS[wish.kind].options)[0].name
    for row in others:
        if place_of(row.facts()) == place_of({**options, "type": wish.kind}):
            raise ConfigError(first, f"storage '{row.name}' lies there already")


def place_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a storage the one it is: two of the same would give the same disk twice."""
    if facts.get("path"):
        return ("path", str(facts["path"]).rstrip("/"))
    names = ("type", "vgname", "thinpool", "pool", "namespace", "conf")
    return tuple(str(facts.get(name) or "") for name in names)


def attempt(wish: Wish, options: Mapping[str, Any]) -> StorageStatus:
    """Try the storage from here, now. Raises :class:`ConfigError` on its first option when it is no use."""
    kind = KINDS[wish.kind]
    facts = {**kind.always, **options, "type": wish.kind}
    driver = open_storage(wish.name, facts)

    async def tried() -> StorageStatus:
        with contextlib.suppress(OSError, StorageError):  # what is wrong with it, status() says
            await driver.prepare()
        return await driver.status()

    status = async_to_sync(tried)()
    if not status.active:
        raise ConfigError(options_of(kind.options)[0].name, status.text)
    return status


def add(user: Any, wish: Wish, *, force: bool = False) -> Storage:
    """Define a storage that was tried. ``force``: although it is of no use now.

    Raises :class:`AccessError`, :class:`ConfigError` or :class:`ConfigErrors`.
    """
    authorise(user)
    options = checked(wish)
    check_new(wish, options)
    if wish.enabled and not force:
        attempt(wish, options)
    with transaction.atomic():
        row = Storage(name=wish.name, kind=wish.kind)
        _fill(row, wish, options)
        row.save()
        _note(user, "storage-add", row)
    _seen(row)
    return row


def change(user: Any, row: Storage, wish: Wish, *, force: bool = False) -> Storage:
    """Change a storage's definition. Where its volumes lie stays, once there are some."""
    authorise(user)
    if (wish.name, wish.kind) != (row.name, row.kind):
        raise ConfigError("storage", "a storage keeps its name and its kind")
    options = checked(wish)
    check_new(wish, options, row)
    moved = place_of({**options, "type": row.kind}) != place_of(row.facts())
    if moved and in_use(row):
        first = options_of(row.spec.options)[0].name
        raise ConfigError(first, f"volumes of '{row.name}' are in use; they would not be found there")
    _check_content(row, wish)
    if wish.enabled and not force:
        attempt(wish, options)
    with transaction.atomic():
        _fill(row, wish, options)
        row.save()
        _note(user, "storage-change", row)
    _seen(row)
    return row


def remove(user: Any, row: Storage) -> None:
    """Forget a storage. Raises :class:`StateError` while a VM has something on it."""
    authorise(user)
    users = in_use(row)
    if users:
        raise StateError(
            f"storage '{row.name}' is in use by {', '.join(users[:5])}",
            hint="Move or remove what lies there first.",
        )
    with transaction.atomic():
        _note(user, "storage-remove", row)
        Volume.objects.filter(storage=row).delete()
        row.delete()
    notify.changed("storage", "tree")


def in_use(row: Storage) -> list[str]:
    """Who would miss the storage: ``VM 101``, in drives and drafts, and owners of volumes of their own."""
    drives = Disk.objects.filter(storage=row).values_list("vm__vmid", flat=True)
    held = Disk.objects.filter(volume__storage=row).values_list("vm__vmid", flat=True)
    owned = Volume.objects.filter(storage=row, content=Volume.Content.IMAGES, vmid__isnull=False)
    numbers = {*drives, *held, *owned.values_list("vmid", flat=True)}
    return [f"VM {number}" for number in sorted(number for number in numbers if number)]


def _check_content(row: Storage, wish: Wish) -> None:
    """Raise :class:`ConfigError` when something lies there that would not be allowed to any more."""
    there = set(Volume.objects.filter(storage=row).values_list("content", flat=True).distinct())
    missed = sorted(there - set(wish.content))
    if "images" in missed and in_use(row):
        raise ConfigError("content", f"disk images of {in_use(row)[0]} lie there")


def _fill(row: Storage, wish: Wish, options: Mapping[str, Any]) -> None:
    row.path = str(options.get("path", ""))
    row.options = {key: value for key, value in options.items() if key != "path"}
    row.content = [content for content in CONTENTS if content in wish.content]
    row.shared, row.enabled = wish.shared, wish.enabled


def _note(user: Any, action: str, row: Storage) -> None:
    username = user.get_username() if user is not None else "system"
    AuditEntry.objects.create(username=username, action=action, target=f"storage {row.name}"[:200])


def _seen(row: Storage) -> None:
    """Have every node look at it."""
    notify.changed("storage", "tree")
    if row.enabled:
        for node in Node.objects.all():
            submit_on("storagescan", node=node, user=None, params={"storage": row.name})


def wish_of(row: Storage, changed: Mapping[str, str] | None = None, gone: Iterable[str] = ()) -> Wish:
    """A storage's definition as texts, with some of its options ``changed`` and others ``gone``."""
    texts = texts_of(row) | dict(changed or {})
    return Wish(
        name=row.name, kind=row.kind, content=tuple(row.content), shared=row.shared, enabled=row.enabled,
        options={key: text for key, text in texts.items() if key not in set(gone)},
    )  # fmt: skip


def texts_of(row: Storage) -> dict[str, str]:
    """A storage's options as texts, by PVE's names; those nobody set are absent."""
    given = {"path": row.path, **row.options}
    return {
        option.name: option.format(given[option.name])
        for option in options_of(row.spec.options)
        if given.get(option.name) not in (None, "")
    }
