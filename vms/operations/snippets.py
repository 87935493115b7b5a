"""Texts of somebody's own for cloud-init: kept, changed, taken back, and given to the seeds that name them.

The rows are the truth, the file in the storage's folder is their image. Who may do what follows from the
storage, as with ISO images: ``Datastore.Audit`` sees names and versions; whoever may put things of the
storage into a VM (``AllocateSpace``, ``AllocateTemplate``, ``Allocate``) reads the text too, since a guest of
theirs could read it anyway; ``AllocateTemplate`` or ``Allocate`` changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from vms import access
from vms.config import seeds
from vms.config import snippets as rules
from vms.config.seeds import Role
from vms.config.vmconfig import VMConfig
from vms.config.yamlread import Remark
from vms.errors import AccessError, ConfigError, NotFound, StateError, StorageError
from vms.models import VM, AuditEntry, Node, Snapshot, Snippet, SnippetFile, SnippetVersion, Storage
from vms.storage import snippets as folder
from vms.tasks import notify

log = logging.getLogger(__name__)

KEPT = 100
"""Versions that are kept of one text; older ones go."""
LIST = frozenset(
    {"Datastore.Audit", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Allocate"}
)
READ = LIST - {"Datastore.Audit"}
WRITE = READ - {"Datastore.AllocateSpace"}


def may(user: Any, rights: frozenset[str], storage: str) -> bool:
    """Whether ``user`` holds one of ``rights`` on the storage. The system (None) may everything."""
    return user is None or bool(rights & access.privileges(user, f"/storage/{storage}"))


def require(user: Any, rights: frozenset[str], storage: str) -> None:
    """Raises :class:`AccessError` naming the least of ``rights``."""
    if not may(user, rights, storage):
        least = "AllocateTemplate" if rights == WRITE else "AllocateSpace" if rights == READ else "Audit"
        raise AccessError(f"Permission check failed (/storage/{storage}, Datastore.{least})")


def authorise(user: Any, mapping: Mapping[str, str]) -> None:
    """Raise :class:`AccessError` unless ``user`` may read every text a configuration names."""
    if "cicustom" in mapping:
        for volid in seeds.named(VMConfig.parse({"cicustom": mapping["cicustom"]})).values():
            require(user, READ, volid.partition(":")[0])


def here() -> Node | None:
    """The node this process runs on: it sees the folders that its worker sees."""
    return Node.objects.filter(name=settings.CONF.node).first()


def find(storage: str, name: str) -> Snippet:
    """The snippet. Raises :class:`NotFound`."""
    found = Snippet.objects.select_related("storage").filter(storage__name=storage, name=name).first()
    if found is None:
        raise NotFound(f"There is no snippet '{storage}:snippets/{name}'.")
    return found


def current(snippet: Snippet) -> SnippetVersion:
    """The version in use."""
    return snippet.versions.order_by("-number")[0]


# ---- changing


def save(
    storage: Storage, name: str, role: Role, text: str, user: Any, *, base: int, comment: str = ""
) -> tuple[SnippetVersion, list[Remark]]:
    """Keep ``text`` as a new version; answers it and what there is to say about it.

    ``base``: the version the text began as, 0 for a new snippet. A text that is no other makes no version.
    Raises :class:`AccessError`, :class:`ConfigError` on ``name`` or ``text``, and :class:`StateError` when
    somebody else was faster.
    """
    require(user, WRITE, storage.name)
    _takes(storage)
    rules.check_name(name)
    remarks = rules.check(role, text)
    refusal = rules.refused(remarks)
    if refusal is not None:
        raise refusal
    version, made = _stored(storage, name, role, text, user, base, comment)
    if made:
        tell(user, "snippet-save", f"{storage.name}:snippets/{name} version {version.number}")
    write_file(version.snippet)
    return version, remarks


def _takes(storage: Storage) -> None:
    if "snippets" not in storage.content:
        raise StorageError(
            f"storage '{storage.name}' takes no snippets", hint="An operator switches that on in its content."
        )


def _stored(
    storage: Storage, name: str, role: Role, text: str, user: Any, base: int, comment: str
) -> tuple[SnippetVersion, bool]:
    try:
        with transaction.atomic():
            if base == 0:
                snippet = Snippet.objects.create(storage=storage, name=name, role=role)
                last = None
            else:
                snippet = Snippet.objects.select_for_update().get(storage=storage, name=name)
                last = current(snippet)
                if last.number != base:
                    raise StateError(
                        f"'{snippet.volid}' has version {last.number} by {last.username} meanwhile.",
                        hint="Look at what changed, then make your change again.",
                    )
                if last.text == text and snippet.role == role:
                    return last, False
                snippet.role = role
                snippet.save(update_fields=["role", "modified"])
            made = SnippetVersion.objects.create(
                snippet=snippet, number=base + 1, text=text, sha256=rules.fingerprint(text),
                size=len(text.encode()), comment=comment[:200], author=user,
                username=user.get_username() if user is not None else "system",
            )  # fmt: skip
            snippet.versions.filter(number__lte=made.number - KEPT).delete()
    except IntegrityError:
        raise StateError(
            f"There is a snippet called '{name}' on storage '{storage.name}' already.",
            hint="Open it and change it, or choose another name.",
        ) from None
    except Snippet.DoesNotExist:
        raise NotFound(f"There is no snippet '{storage.name}:snippets/{name}' any more.") from None
    return made, True


def restore(snippet: Snippet, number: int, user: Any) -> SnippetVersion:
    """Make an old version the newest one. Raises :class:`NotFound` and what :func:`save` raises."""
    require(user, WRITE, snippet.storage.name)
    old = snippet.versions.filter(number=number).first()
    if old is None:
        raise NotFound(f"'{snippet.volid}' has no version {number}.")
    base, comment = current(snippet).number, f"Version {number} again"
    role: Any = snippet.role
    return save(snippet.storage, snippet.name, role, old.text, user, base=base, comment=comment)[0]


def remove(snippet: Snippet, user: Any) -> None:
    """Delete a snippet with all its versions and its file. Raises :class:`StateError` while it is used."""
    require(user, WRITE, snippet.storage.name)
    used = users_of(snippet.volid)
    if used:
        raise StateError(
            f"'{snippet.volid}' is used by {', '.join(used[:6])}{' and others' if len(used) > 6 else ''}.",
            hint="Take it out of their Cloud-Init settings first.",
        )
    volid, storage, name = snippet.volid, snippet.storage, snippet.name
    snippet.delete()
    tell(user, "snippet-remove", volid)
    remove_file(storage, name)


def users_of(volid: str) -> list[str]:
    """Who names the snippet: ``VM 101``, ``draft 103``, ``snapshot one of VM 101``."""
    found = []
    rows = VM.everything.only("vmid", "stage", "options", "pending").order_by("vmid")
    for vm in rows.filter(options__has_key="cicustom") | rows.filter(pending__has_key="cicustom"):
        texts = (vm.options.get("cicustom"), vm.pending.get("cicustom"))
        if any(_names(text, volid) for text in texts):
            found.append(f"{'draft' if vm.stage == VM.Stage.DRAFT else 'VM'} {vm.vmid}")
    for snapshot in Snapshot.objects.filter(config__has_key="cicustom").select_related("vm"):
        if _names(snapshot.config.get("cicustom"), volid):
            found.append(f"snapshot {snapshot.name} of VM {snapshot.vm.vmid}")
    return found


def _names(text: object, volid: str) -> bool:
    return any(part.partition("=")[2] == volid for part in str(text or "").split(","))


def tell(user: Any, action: str, target: str) -> None:
    """Note who did what, and hint the pages."""
    username = user.get_username() if user is not None else "system"
    AuditEntry.objects.create(username=username, action=action, target=target[:200])
    notify.changed("storage")


# ---- the file that mirrors it


def write_file(snippet: Snippet) -> None:
    """Write a snippet's file on this node. What cannot be written is logged; the next scan tries again."""
    node = here()
    if node is None:
        return
    text = current(snippet).text
    try:
        folder.write(Path(snippet.storage.path), snippet.name, text)
    except StorageError as error:
        log.error("the file of snippet %s was not written: %s", snippet.volid, error)
        return
    note_file(snippet.storage, node, folder.Found(snippet.name, len(text.encode()), rules.fingerprint(text)))


def remove_file(storage: Storage, name: str) -> None:
    """Remove a snippet's file on this node."""
    try:
        folder.remove(Path(storage.path), name)
    except StorageError as error:
        log.error("the file of snippet %s:snippets/%s was not removed: %s", storage.name, name, error)
        return
    SnippetFile.objects.filter(storage=storage, node=here(), name=name).delete()


def note_file(storage: Storage, node: Node, found: folder.Found) -> bool:
    """Keep what was found of a file; answers whether that is new."""
    values = {"size": found.size, "sha256": found.sha256, "problem": found.problem[:300]}
    rows = SnippetFile.objects.filter(storage=storage, node=node, name=found.name)
    if rows.filter(**values).exists():
        return False
    SnippetFile.objects.update_or_create(storage=storage, node=node, name=found.name, defaults=values)
    return True


def file_text(storage: Storage, name: str, user: Any) -> str:
    """The text of a file somebody put there. Raises :class:`AccessError`, :class:`StorageError`."""
    require(user, READ, storage.name)
    return folder.read(Path(storage.path), name)


def adopt(storage: Storage, name: str, role: Role, user: Any) -> SnippetVersion:
    """Keep a file that somebody put there, or changed, as a version. Raises what :func:`save` raises."""
    require(user, WRITE, storage.name)
    text = folder.read(Path(storage.path), name)
    there = Snippet.objects.filter(storage=storage, name=name).first()
    base = current(there).number if there is not None else 0
    return save(storage, name, role, text, user, base=base, comment="Taken from the file")[0]


# ---- what a seed is made from


def texts(named: Mapping[Role, str]) -> dict[Role, str]:
    """The texts a configuration names, part → text: of the newest version, else of the file on this node.

    Raises :class:`ConfigError` on the part of ``cicustom`` that is not there or cannot be read.
    """
    return {role: _text(role, volid) for role, volid in named.items()}


def checksum(volid: str) -> str:
    """Of the text that a seed written now would get, without looking into it; "" when there is none."""
    try:
        storage, name = rules.split(volid)
        versions = SnippetVersion.objects.filter(snippet__storage__name=storage, snippet__name=name)
        newest = versions.order_by("-number").values_list("sha256", flat=True).first()
        return newest or rules.fingerprint(_unversioned("user", volid, storage, name))
    except ConfigError:
        return ""


def _text(role: Role, volid: str) -> str:
    storage, name = rules.split(volid)
    versions = SnippetVersion.objects.filter(snippet__storage__name=storage, snippet__name=name)
    newest = versions.order_by("-number").values_list("text", flat=True).first()
    if newest is None:
        newest = _unversioned(role, volid, storage, name)
    refusal = rules.refused(rules.check(role, newest))
    if refusal is not None:
        raise ConfigError("cicustom", f"'{volid}' cannot be the {role} data: {refusal.text}", part=role)
    return newest


def _unversioned(role: Role, volid: str, storage: str, name: str) -> str:
    row = Storage.objects.filter(name=storage, enabled=True).first()
    try:
        if row is None or "snippets" not in row.content:
            raise NotFound(f"there is no storage '{storage}' that takes snippets")
        return folder.read(Path(row.path), name)
    except (NotFound, StorageError, ConfigError) as error:
        said = error.text if isinstance(error, ConfigError) else str(error)
        text = f"there is no snippet '{volid}' ({said})"
        raise ConfigError("cicustom", text, part=role, hint="Write one on the page Snippets.") from None
