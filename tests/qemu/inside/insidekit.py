"""From the wizard's forms to what a guest sees: ask tab by tab, start what was asked, look from inside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guestkit.facts import GuestFacts
from guestkit.guest import Guest
from guestkit.lab import Lab
from guestkit.wires import Wires

from vms.config.creation import complete
from vms.config.vmconfig import VMConfig
from vms.forms.hardware import compose, decompose
from vms.qemu.cmdline import command

if TYPE_CHECKING:
    from tests.web.wizard.conftest import Hand

GIB = 1 << 30
BRIDGE = {"name": "vmbr0", "mtu": 1500, "active": True, "vlan_aware": True}
VMID = 250
Presses = Sequence[tuple[str, Mapping[str, str | None]]]
"""Buttons of a tab in their order, each with the fields changed before; ``None`` unticks a box."""

LOOK = r"""
echo "arch $(uname -m)"
echo "numa_nodes $(ls -d /sys/devices/system/node/node[0-9]* | wc -l)"
for node in /sys/devices/system/node/node[0-9]*; do
    echo "numa_${node##*/} $(cat $node/cpulist) $(awk '/MemTotal/ {print $4}' $node/meminfo)"
done
for nic in /sys/class/net/*; do
    echo "queues_${nic##*/} $(ls -d $nic/queues/rx-* | wc -l)"
done
"""
"""What the guest's own ``facts`` program leaves out."""


@dataclass
class Seen:
    """One machine: the configuration the wizard made, and what its guest said."""

    config: dict[str, str]
    facts: GuestFacts
    notes: dict[str, Any] = field(default_factory=dict)

    def word(self, name: str) -> str:
        """A single fact."""
        return self.facts.words[name]

    def disk(self, size: float) -> dict[str, str]:
        """The one block device of ``size`` GiB."""
        return self.block(round(size * GIB))

    def block(self, size: int) -> dict[str, str]:
        """The one block device of ``size`` bytes."""
        found = [row for row in self.facts.disks.values() if int(row["bytes"]) == size]
        assert len(found) == 1, f"{size} bytes: the guest sees {self.facts.disks}"
        return found[0]

    def has_pci(self, ident: str) -> bool:
        """Whether a PCI function with that vendor and device is there."""
        return any(row["id"] == ident for row in self.facts.pci.values())


# ---- asking


@contextmanager
def wizard(facts: Mapping[str, Any], images: Mapping[str, Path]) -> Iterator[Hand]:
    """The operator's hand on a fresh draft of a node with ``facts``; nothing of it stays in the database.

    ``images`` maps a volume's name (``iso/guest.iso``, ``import/guest.raw``) to its file.
    """
    from django.contrib.auth import get_user_model
    from django.db import transaction
    from django.test import Client

    from tests.web.wizard.conftest import Hand
    from vms.models import Node, Storage, StorageStatus, Volume

    with transaction.atomic():
        told = {**facts, "threads": 64, "bridges": [BRIDGE], "storages": {"local": {"path": "/nowhere"}}}
        node = Node.objects.create(name="inside", facts=told)
        storage = Storage.objects.create(name="local", path="/nowhere")
        StorageStatus.objects.create(storage=storage, node=node, total=100 * GIB, available=100 * GIB)
        for name, file in images.items():
            kind, form = name.partition("/")[0], name.rpartition(".")[2]
            Volume.objects.create(
                storage=storage, node=node, name=name, content=kind, format=form, size=file.stat().st_size
            )
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("inside", password="x"))
        yield Hand(client).begin()
        transaction.set_rollback(True)


def ask(hand: Hand, tabs: Mapping[str, Presses]) -> dict[str, str]:
    """Walk the whole wizard, do on each tab what ``tabs`` says, press Create; the configuration asked for."""
    from vms.models import Task
    from vms.wizard.tabs import SLUGS

    for slug in SLUGS[:-1]:
        assert hand.tab == slug, f"{slug}: the wizard stays on {hand.tab}"
        for button, fields in tabs.get(slug, (("next", {}),)):
            hand.press(button, **fields)
    config = hand.config
    hand.client.post(hand.url, {**hand.fields(), "go": "create"})
    objections = re.findall(r'class="sr">block: </span>([^<]*)<', hand.html)
    assert Task.objects.filter(type="qmcreate").exists(), objections or hand.open(hand.url).html
    return config


# ---- starting


async def make_volumes(lab: Lab, config: Mapping[str, str], images: Mapping[str, Path]) -> dict[str, str]:
    """``config`` with every volume it wishes for made on the bench, as creation does."""
    found = dict(config)
    for key, _index, drive in VMConfig.parse(config).drives():
        store, _, name = drive.file.partition(":")
        if name.startswith("iso/"):
            lab.iso(images[name])
        elif store == "local":
            source = decompose(key, config[key]).get("import-from", "").partition(":")[2]
            copy = images[source] if source else None
            size = round(float(name) * GIB)
            volume = await lab.disk(VMID, size, copy=copy)
            found[key] = compose(key, {"file": volume, "format": "", "import-from": ""}, config[key])
    if efi := config.get("efidisk0"):
        keys = decompose("efidisk0", efi).get("pre-enrolled-keys") == "1"
        found["efidisk0"] = await lab.efi_disk(VMID, keys=keys)
    if "tpmstate0" in config:
        found["tpmstate0"] = await lab.tpm_state(VMID)
    return found


async def start(lab: Lab, config: Mapping[str, str], extra: Sequence[str] = ()) -> Guest:
    """Start a complete configuration on the bench, its cards on taps that lead nowhere."""
    lab.facts = dataclasses.replace(lab.facts, bridges=(BRIDGE,))
    from vms.operations.start import unplugged

    parsed = VMConfig.parse(config)
    if "tpmstate0" in config:
        await lab.start_tpm(VMID, lab.storage.path(config["tpmstate0"].split(",")[0]))
    with Wires(parsed) as wires:
        context = dataclasses.replace(lab.context(VMID), taps=wires.taps)
        argv = [*command(parsed, context), *extra, "-S"]
        guest = await lab.start_argv(VMID, argv, pass_fds=wires.fds)
    for key in unplugged(config):  # as every start does before the guest runs
        await guest.monitor.set_link(key, up=False)
    await guest.monitor.cont()
    return guest


async def live(
    node: Mapping[str, Any],
    images: Mapping[str, Path],
    wish: Mapping[str, str],
    *,
    extra: Sequence[str] = (),
    limit: float = 90,
    further: Callable[[Lab, Guest, Seen], Any] | None = None,
) -> Seen:
    """Start what the wizard wrote, collect what the guest sees within ``limit`` seconds; end the guest.

    ``further`` may look and try more while the guest runs.
    """
    lab = Lab(node)
    try:
        config = await make_volumes(lab, complete(wish, lab.facts), images)
        guest = await start(lab, config, extra)
        await guest.agent_answers(limit)
        facts = GuestFacts.parse(await guest.run("/bin/facts", timeout=limit))
        facts.words |= GuestFacts.parse(await guest.shell(LOOK)).words
        seen = Seen(config, facts)
        if further is not None:
            await further(lab, guest, seen)
        return seen
    finally:
        await lab.close()
