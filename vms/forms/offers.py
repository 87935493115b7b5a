"""What this node and this user's rights really offer: storages, images, bridges, pools, CPU models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vms import access
from vms.models import VM, Node, Pool, Snippet, SnippetFile, Storage, StorageStatus, Volume
from vms.models.promised import promised
from vms.models.usage import facts_in_use
from vms.operations import snippets
from vms.operations.images import images_to_import

GIB = 1 << 30
USER_MODE = ""
"""A network card without a bridge uses QEMU's own user-mode network."""


def gib(size: int) -> str:
    """Bytes in words: ``38 GiB``, ``1.5 GiB``, ``658 MiB``."""
    if size < GIB:
        return f"{size / (1 << 20):.0f} MiB"
    return f"{size / GIB:.1f}".removesuffix(".0") + " GiB"


@dataclass(frozen=True)
class Place:
    """A storage as this draft may use it. Sizes in bytes, 0 while nobody has measured them.

    ``formats`` is what a disk can be there, ``promised`` what its disks may grow to together.
    """

    name: str
    content: tuple[str, ...]
    available: int
    total: int
    error: str
    may_allocate: bool
    formats: tuple[str, ...] = ("qcow2", "raw")
    promised: int = 0

    @property
    def label(self) -> str:
        """What stands in the list: name, how much room there is, and when more is promised than there is."""
        if self.error:
            return f"{self.name} (not usable: {self.error[:60]})"
        if not self.total:
            return self.name
        more = f", {gib(self.promised)} promised" if self.promised > self.total else ""
        return f"{self.name} ({gib(self.available)} free of {gib(self.total)}{more})"


class Offers:
    """Everything there is to choose from, each list read once. What ``besides`` has itself is free for it."""

    def __init__(self, node: Node, user: Any, besides: VM | None = None) -> None:
        self.node = node
        self.user = user
        self.facts = facts_in_use(node, besides)

    @cached_property
    def places(self) -> list[Place]:
        """The enabled storages the user may see, by name."""
        measured = {row.storage_id: row for row in StorageStatus.objects.filter(node=self.node)}
        sums = promised(self.node)
        return [self._place(row, measured.get(row.pk), sums.get(row.pk, 0)) for row in self.rows]

    @cached_property
    def rows(self) -> list[Storage]:
        return access.visible_storages(self.user)

    def _place(self, row: Storage, status: StorageStatus | None, sums: int) -> Place:
        return Place(
            row.name, tuple(row.content), status.available if status else 0, status.total if status else 0,
            status.error if status else "",
            access.may(self.user, "Datastore.AllocateSpace", f"/storage/{row.name}"),
            formats=row.spec.formats, promised=sums,
        )  # fmt: skip

    def format_on(self, storage: str, wanted: str) -> str:
        """``wanted`` where a disk on ``storage`` can be that, else what it will be."""
        place = self.place(storage)
        return wanted if place is None or wanted in place.formats else place.formats[0]

    def only_format(self, storage: str) -> str:
        """Why there is no choice of a format on a storage, as a sentence; empty where there is."""
        place = self.place(storage)
        if place is None or len(place.formats) > 1:
            return ""
        return f"'{storage}' holds {place.formats[0]} disks only."

    def place(self, name: str) -> Place | None:
        return next((place for place in self.places if place.name == name), None)

    @property
    def disk_places(self) -> list[Place]:
        """Where the user may make disks."""
        return [place for place in self.places if "images" in place.content and place.may_allocate]

    @property
    def iso_places(self) -> list[Place]:
        return [place for place in self.places if "iso" in place.content]

    @cached_property
    def isos(self) -> list[Volume]:
        """The ISO images on this node's storages, those that vanished included."""
        names = [place.name for place in self.iso_places]
        rows = Volume.objects.select_related("storage").filter(
            content=Volume.Content.ISO, storage__name__in=names
        )
        return [row for row in rows if row.node_id in (None, self.node.pk)]

    def iso(self, volid: str) -> Volume | None:
        return next((row for row in self.isos if row.volid == volid), None)

    @cached_property
    def images(self) -> list[Volume]:
        """The images disks can be made from."""
        return images_to_import(self.node, self.user)

    def image(self, volid: str) -> Volume | None:
        return next((row for row in self.images if row.volid == volid), None)

    @property
    def image_places(self) -> list[str]:
        """The storages that hold images, by name."""
        return list(dict.fromkeys(row.storage.name for row in self.images))

    def image_choices(self, storage: str, chosen: str) -> list[tuple[str, str]]:
        """The images on ``storage`` (on all of them for ""); a chosen one that vanished says so."""
        here = [row for row in self.images if storage in ("", row.storage.name)]
        found = [(row.volid, f"{row.label} ({row.format}, {gib(row.size)})") for row in here]
        if chosen and chosen not in dict(found):
            found.append((chosen, f"{chosen.rpartition('/')[2]} (no longer there)"))
        return [("", "Choose an image" if found else "No image here yet"), *found]

    @cached_property
    def snippets(self) -> dict[str, str]:
        """The cloud-init texts the user may give a VM here, volume id → label; unversioned files too."""
        return texts_for(self.user, self.node)

    @cached_property
    def nodes(self) -> list[Node]:
        return list(Node.objects.all())

    @cached_property
    def pools(self) -> list[Pool]:
        """The pools the user may put a machine into."""
        rows = Pool.objects.all()
        return [row for row in rows if access.may(self.user, "VM.Allocate", f"/pool/{row.name}")]

    @property
    def storage_choices(self) -> list[tuple[str, str]]:
        return [(place.name, place.label) for place in self.disk_places]

    def iso_choices(self, storage: str, chosen: str) -> list[tuple[str, str]]:
        """The images on ``storage``; a chosen one that vanished stays in the list, and says so."""
        here = [row for row in self.isos if row.storage.name == storage]
        found = [(row.volid, f"{row.label} ({gib(row.size)})") for row in here if row.present]
        if chosen and chosen not in dict(found) and chosen.startswith(f"{storage}:"):
            found.append((chosen, f"{chosen.rpartition('/')[2]} (no longer there)"))
        return [("", "Choose an image" if found else "No image here yet"), *found]

    @cached_property
    def bridges(self) -> list[str]:
        """The bridges the user may plug into (``SDN.Use``), by name."""
        names = sorted(str(bridge["name"]) for bridge in self.facts.bridges)
        return [name for name in names if access.may(self.user, "SDN.Use", f"/sdn/zones/localnetwork/{name}")]

    @property
    def bridge_choices(self) -> list[tuple[str, str]]:
        """The node's bridges, then user-mode networking, which every box has."""
        found = []
        for name in self.bridges:
            bridge = self.facts.bridge(name) or {}
            down = "" if bridge.get("active", True) else " (down)"
            found.append((name, f"{name}{down}"))
        return [*found, (USER_MODE, "No bridge: user-mode networking (NAT)")]


def texts_for(user: Any, node: Node) -> dict[str, str]:
    """The snippets ``user`` may give a VM of ``node``, volume id → label; unversioned files there too."""
    found = {}
    rows = [row for row in Snippet.objects.select_related("storage") if row.storage.enabled]
    for snippet in rows:
        if snippets.may(user, snippets.READ, snippet.storage.name):
            found[snippet.volid] = f"{snippet.volid} ({snippet.get_role_display()})"
    files = SnippetFile.objects.filter(node=node, problem="").select_related("storage")
    for file in files:
        volid = f"{file.storage.name}:snippets/{file.name}"
        if volid not in found and snippets.may(user, snippets.READ, file.storage.name):
            found[volid] = f"{volid} (a file)"
    return found
