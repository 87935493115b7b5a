"""A cloud image instead of an installer: the first disk is made from it, and its drive tells it who it is.

The disk, the cloud-init drive and the settings come and go together with the medium.
"""

from __future__ import annotations

from django import forms

from vms.config import sshkeys
from vms.config.seeds import ROLES, seed_slot
from vms.errors import ConfigError
from vms.forms import disks
from vms.forms.cloudinit import CUSTOM_LABELS, KeysText
from vms.forms.editing import Texts
from vms.forms.fields import Choices, sentence
from vms.forms.hardware import compose, decompose
from vms.forms.panel import Fields, hide
from vms.wizard.drafts import Draft

CUSTOMS = {f"cicustom.{role}": CUSTOM_LABELS[role] for role in ROLES}
"""The texts that stand for ours, with their labels."""
KEYS = (
    *("ciuser", "cipassword", "sshkeys", "ipconfig0.ip", "ipconfig0.gw", "ipconfig0.ip6", "ipconfig0.gw6"),
    *("nameserver", "searchdomain", "ciupgrade"),
    *CUSTOMS,
)
"""The fields of the OS tab that only a cloud image reads."""
FIELDS = ("cloud_image", *KEYS)
_STASHED = ("ciuser", "sshkeys", "ipconfig0", "nameserver", "searchdomain", "ciupgrade", "cicustom")


def is_cloud(draft: Draft) -> bool:
    """Whether the machine has a cloud-init drive."""
    return bool(seed_at(draft))


def seed_at(draft: Draft) -> str:
    """The slot of the cloud-init drive; "" without one."""
    texts = draft.mapping.items()
    return next((slot for slot, text in texts if text.partition(",")[0].endswith(":cloudinit")), "")


def place_seed(draft: Draft, store: str = "") -> None:
    """Put the cloud-init drive where the guest's kernel finds it, on ``store`` if it is new."""
    slot = seed_at(draft)
    text = draft.mapping.pop(slot, "") if slot else f"{store}:cloudinit,media=cdrom"
    if slot or store:
        wanted = seed_slot(draft.mapping)
        if slot.startswith("scsi") and wanted.startswith("scsi"):
            wanted = slot
        draft.mapping[wanted] = text
        if wanted != "ide2":
            draft.mapping.setdefault("ide2", "none,media=cdrom")


def disk_of(draft: Draft, image: str = "") -> str:
    """The disk made from ``image`` (any image without one); "" when there is none."""
    for slot in disks.disk_slots(draft):
        source = decompose(slot, draft.mapping[slot]).get("import-from", "")
        if source and source == (image or source):
            return slot
    return ""


def attach(draft: Draft, image: str) -> None:
    """Make the first disk from ``image`` and give the machine its cloud-init drive."""
    places = draft.offers.disk_places
    if not places:
        return
    old = draft.stash.get("cloud_image", "")
    slot = (disk_of(draft, old) if old else "") or next(iter(disks.disk_slots(draft)), "")
    slot = slot or disks.add_disk(draft)
    store = decompose(slot, draft.mapping[slot])["file"].partition(":")[0] or places[0].name
    changes = {"file": f"{store}:0", "import-from": image}
    draft.mapping[slot] = compose(slot, changes, draft.mapping[slot])
    place_seed(draft, store)
    draft.stash["cloud_image"] = image
    for key in _STASHED:
        if f"ci:{key}" in draft.stash:
            draft.mapping.setdefault(key, draft.stash.pop(f"ci:{key}"))


def detach(draft: Draft) -> None:
    """An empty disk again, and no settings nobody would read; they come back with the next image."""
    slot = disk_of(draft, draft.stash.get("cloud_image", "")) if "cloud_image" in draft.stash else ""
    if slot:
        store = decompose(slot, draft.mapping[slot])["file"].partition(":")[0]
        changes = {"file": f"{store}:{disks.DEFAULT_SIZE}", "import-from": ""}
        draft.mapping[slot] = compose(slot, changes, draft.mapping[slot])
    draft.stash.pop("cloud_image", None)
    for key in _STASHED:
        if key in draft.mapping:
            draft.stash[f"ci:{key}"] = draft.mapping.pop(key)
    draft.mapping.pop("cipassword", None)
    draft.mapping.pop(seed_at(draft), None)


def values(draft: Draft, found: Texts) -> Texts:
    """What the cloud fields show; a password is never shown again."""
    slot = disk_of(draft) if is_cloud(draft) else ""
    image = decompose(slot, draft.mapping[slot]).get("import-from", "") if slot else ""
    return found | {"cloud_image": image, "cipassword": ""}


def texts(draft: Draft, chosen: str) -> Choices:
    """The texts that can stand for one of ours; a chosen one that vanished says so."""
    found = dict(draft.offers.snippets)
    if chosen and chosen not in found:
        found[chosen] = f"{chosen} (no longer there)"
    return [("", "Generated"), *sorted(found.items())]


def shape(draft: Draft, fields: Fields, shown: bool) -> None:
    """Their controls, or none of them."""
    if not shown:
        hide(fields, *FIELDS)
        return
    if not draft.offers.snippets and "cicustom" not in draft.mapping:
        hide(fields, *CUSTOMS)
    fields["sshkeys"].widget = KeysText(attrs={"rows": 3, "spellcheck": "false", "class": "mono"})
    fields["cipassword"].widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    if draft.mapping.get("cipassword"):
        fields["cipassword"].note = "One is set; write another to replace it."
    fields["ipconfig0.ip"].widget.attrs["placeholder"] = "dhcp"


def posted(found: Texts) -> Texts:
    """Keys as they are kept: URL-encoded, lines parted by a line feed."""
    if "sshkeys" in found:
        found["sshkeys"] = sshkeys.encode(found["sshkeys"])
    return found


def check(draft: Draft, values: Texts) -> Texts:
    """What of the cloud fields cannot stand together."""
    found: Texts = {}
    volid = values.get("cloud_image", "")
    if not draft.offers.disk_places:
        found["cloud_image"] = "No storage takes disks of yours; a cloud image needs one."
    elif volid and draft.offers.image(volid) is None:
        found["cloud_image"] = f"'{volid.rpartition('/')[2]}' is not there any more; choose another."
    try:
        sshkeys.check(values.get("sshkeys", ""))
    except ConfigError as error:
        found["sshkeys"] = sentence(error)
    for version in ("", "6"):
        if values.get(f"ipconfig0.gw{version}") and not values.get(f"ipconfig0.ip{version}"):
            found[f"ipconfig0.gw{version}"] = "A gateway needs an address; set the address too."
    return found


def reachable(draft: Draft) -> bool:
    """Whether somebody could log in: a password or a key is set."""
    return bool(sshkeys.lines_of(draft.mapping.get("sshkeys", "")) or draft.mapping.get("cipassword"))
