"""Every field of the wizard, touched in a browser by its role and its label.

Labels, kinds and groups come from the wizard's own list of fields; the tour below only says what to put in.
A field that the tour does not touch fails ``test_the_tour_touches_every_field`` or, when it stands on the
page without being declared, the test of its tab.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hands import Wizard
from house import House
from playwright.sync_api import Browser, Locator, Page, expect

from vms.wizard.panels import PANELS
from vms.wizard.tabs import BY_SLUG, SLUGS

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGm0kVkI0cVbXQ2s4sXQnH1Lk1kq9vH6S0PZtq0Hk8s1 anna@desk"
SHOWN = object()
"""The value of a field that only shows something."""
SLOTS = {"disks": "scsi0", "network": "net0"}
"""Where the options of a list's fields are declared."""

TOUR: Mapping[str, Sequence[tuple[str, Any]]] = {
    "general": (
        ("node", None), ("vmid", "321"), ("name", "every-field"), ("pool", "lab"), ("onboot", True),
        ("startup.order", "2"), ("startup.up", "30"), ("startup.down", "120"), ("arch", "x86_64"),
        ("tags", "prod;web"),
    ),
    "os": (
        ("medium", "cloud"), ("cloud_image", "local:import/cloud.raw"), ("ciuser", "anna"),
        ("cipassword", "Zimt-7-und"), ("sshkeys", KEY), ("ipconfig0.ip", "192.0.2.7/24"),
        ("ipconfig0.gw", "192.0.2.1"), ("ipconfig0.ip6", "2001:db8::7/64"), ("ipconfig0.gw6", "2001:db8::1"),
        ("nameserver", "192.0.2.53"), ("searchdomain", "example.org"), ("ciupgrade", False),
        ("cicustom.user", "local:snippets/user.yaml"), ("cicustom.network", "local:snippets/network.yaml"),
        ("cicustom.vendor", "local:snippets/vendor.yaml"), ("cicustom.meta", "local:snippets/meta.yaml"),
        ("medium", "cdrom"), ("medium", "none"), ("medium", "iso"), ("iso_storage", "local"),
        ("iso", "local:iso/system.iso"), ("ostype_group", "Microsoft Windows"), ("ostype", "w2k8"),
        ("drivers", True), ("drivers_iso", "local:iso/drivers.iso"),
    ),
    "system": (
        ("vga.type", "qxl"), ("machine.type", "q35"), ("bios", "ovmf"), ("efi", False), ("efi", True),
        ("efi_storage", "local"), ("efi_format", "raw"), ("efidisk0.pre-enrolled-keys", False),
        ("scsihw", "virtio-scsi-single"), ("agent.enabled", True), ("tpm", True), ("tpm_storage", "local"),
        ("tpmstate0.version", "v1.2"), ("machine_version", "7.2"),
    ),
    "disks": (
        ("import", "button"), ("import_storage", "local"), ("image", "local:import/second.raw"),
        ("bus", "sata"), ("bus", "scsi"), ("index", "7"), ("controller", SHOWN),
        ("add", "button"), ("storage", "local"), ("size", "1.5"), ("format", "raw"), ("cache", "writeback"),
        ("discard", True), ("iothread", False), ("ssd", True), ("ro", True), ("backup", False),
        ("skip_replication", True), ("aio", "threads"), ("mbps_rd", "50"), ("mbps_rd_max", "100"),
        ("mbps_wr", "40"), ("mbps_wr_max", "80"), ("iops_rd", "500"), ("iops_rd_max", "900"),
        ("iops_wr", "400"), ("iops_wr_max", "800"),
    ),
    "cpu": (
        ("sockets", "2"), ("cores", "4"), ("cpu.cputype", "host"), ("total", SHOWN), ("vcpus", "6"),
        ("cpulimit", "1.5"), ("affinity", "0-1"), ("cpuunits", "200"), ("numa", True),
        ("flag.nested-virt", "+"), ("flag.md-clear", "-"), ("flag.pcid", "+"), ("flag.spec-ctrl", "-"),
        ("flag.ssbd", "+"), ("flag.ibpb", "-"), ("flag.virt-ssbd", "+"), ("flag.amd-ssbd", "-"),
        ("flag.amd-no-ssb", "+"), ("flag.pdpe1gb", "+"), ("flag.hv-tlbflush", "-"), ("flag.hv-evmcs", "-"),
        ("flag.aes", "-"),
    ),
    "memory": (
        ("memory.current", "1024"), ("ballooning", False), ("ballooning", True), ("balloon", "512"),
        ("shares", "2000"), ("allow-ksm", False),
    ),
    "network": (
        ("none", True), ("none", False), ("bridge", "vmbr0"), ("tag", "20"), ("firewall", False),
        ("model", "virtio"), ("macaddr", "BC:24:11:00:00:01"), ("link_down", True), ("mtu", "1400"),
        ("rate", "12.5"), ("queues", "4"),
    ),
    "confirm": (("start", True),),
}  # fmt: skip

BESIDE = {
    "network": {"none": "No network device"}, "confirm": {"start": "Start after created"},
    "disks": {"import": "Import a disk from an image", "add": "Add disk"},
}  # fmt: skip
"""What is on a tab besides the wizard's list of fields, with its label."""

SETUP = """
from vms.models import Node, Pool, SnippetFile, Storage, StorageStatus, Volume
Pool.objects.create(name="lab")
node, _ = Node.objects.get_or_create(name="pve1")
storage, _ = Storage.objects.get_or_create(name="local", defaults={"path": "/nowhere"})
StorageStatus.objects.update_or_create(
    storage=storage, node=node, defaults={"total": 100 << 30, "available": 50 << 30})
for name, form in (("iso/system.iso", "iso"), ("iso/drivers.iso", "iso"),
                   ("import/cloud.raw", "raw"), ("import/second.raw", "raw")):
    Volume.objects.create(storage=storage, node=node, name=name, content=name.partition("/")[0], format=form,
                          size=1 << 20)
for role in ("user", "network", "vendor", "meta"):
    SnippetFile.objects.create(storage=storage, node=node, name=f"{role}.yaml", size=1)
node.facts = {
    "qemu_version": "7.2.0", "qemu_binary": "/usr/bin/qemu-system-x86_64", "kvm": True, "threads": 8,
    "memory": 16 << 30, "machines": ["pc-q35-7.2", "pc-i440fx-7.2"],
    "bridges": [{"name": "vmbr0", "active": True, "mtu": 1500, "vlan_aware": True}],
    "storages": {"local": {"type": "dir", "path": storage.path}},
}
node.save(update_fields=["facts"])
"""
READ = """
import json
from vms.models import VM
from vms.models.configuration import config_of
print(json.dumps(config_of(VM.everything.get(vmid=321))))
"""


# ---- the product and its page


@pytest.fixture(scope="module")
def furnished() -> Iterator[House]:
    """The product with something to choose in every list, and no worker that would measure the real node."""
    house = House("--roles", "web,redis", environ={"PVELITE_NODE": "pve1"})
    try:
        house.start()
        house.manage("shell", "-c", SETUP)
        yield house
    finally:
        house.close()
    assert house.processes() == []


@pytest.fixture(scope="module")
def wizard(furnished: House, browser: Browser, log_in: Any) -> Iterator[Wizard]:
    """A new draft in one page for the whole tour, with the advanced parts open."""
    context = browser.new_context(base_url=furnished.url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(10_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    log_in(page)
    page.goto("/")
    hand = Wizard(page).begin()
    page.get_by_role("switch", name="Advanced").click()
    expect(page.get_by_role("switch", name="Advanced")).to_have_attribute("aria-checked", "true")
    yield hand
    context.close()
    assert wrong == [], "the page complained"


# ---- the fields, as the wizard declares them


@cache
def declared(slug: str) -> tuple[str, ...]:
    """Every field of a tab by name."""
    return PANELS[slug](SimpleNamespace()).names  # type: ignore[arg-type]


def group_of(slug: str, name: str) -> str:
    """The legend a field stands under; "" for the tab's first group."""
    listed = "flags" if name.startswith("flag.") else name
    section = next(section for section in BY_SLUG[slug].sections if listed in section.names)
    return section.legend or ("Advanced" if section.advanced else "")


def control(page: Page, slug: str, name: str, value: Any) -> Locator:
    """The field on the page, by its role and its label."""
    form = page.locator("#wizard")
    if name in BESIDE.get(slug, {}):
        role: Any = "button" if value == "button" else "checkbox"
        return form.get_by_role(role, name=BESIDE[slug][name], exact=True)
    option = PANELS[slug](SimpleNamespace()).option(name, SLOTS.get(slug, ""))  # type: ignore[arg-type]
    legend = group_of(slug, name)
    around = form.get_by_role("group", name=legend, exact=True) if legend else form
    if name == "medium":
        choice = dict(option.choices)[value]
        return around.get_by_role("group", name=option.label).get_by_role("radio", name=choice)
    if name == "cipassword":  # a password field has no role
        return around.get_by_label(option.label, exact=True)
    role = "checkbox" if isinstance(value, bool) else "combobox" if listed(slug, name) else "textbox"
    return around.get_by_role(role, name=option.label, exact=True)


def listed(slug: str, name: str) -> bool:
    """Whether a field is a list to choose from: by its option, or because the node fills it."""
    option = PANELS[slug](SimpleNamespace()).option(name, SLOTS.get(slug, ""))  # type: ignore[arg-type]
    return option.kind == "enum" or name in FILLED


FILLED = {
    *("node", "pool", "iso_storage", "iso", "cloud_image", "ostype_group", "drivers_iso", "machine.type"),
    *("efi_storage", "tpm_storage", "machine_version", "import_storage", "image", "storage", "cpu.cputype"),
    *("bridge", "model", "bus"),
    *(f"cicustom.{role}" for role in ("user", "network", "vendor", "meta")),
}


# ---- touching


def touch(page: Page, slug: str, name: str, value: Any) -> None:
    """Set a field and wait until the server's answer is on the page."""
    field = control(page, slug, name, value)
    folded = page.locator("#wizard details.fold:not([open])").filter(has=page.locator(f'[name="{name}"]'))
    if folded.count():
        folded.locator("summary").first.click()
    expect(field).to_be_visible()
    if value is SHOWN:
        expect(field).not_to_be_editable()
        assert field.input_value(), f"{name} shows nothing"
        return
    expect(field).to_be_enabled()
    if value is None:
        expect(field.locator("option")).not_to_have_count(0)
        field.focus()
        return
    if holds(field, value):
        field.focus()
        return
    page.evaluate("document.getElementById('wizard').dataset.before = ''")
    if value == "button":
        field.click()
    elif isinstance(value, bool):
        field.set_checked(value)
    elif field.evaluate("field => field.type") == "radio":
        field.check()
    elif field.evaluate("field => field.tagName") == "SELECT":
        field.select_option(value)
    else:
        field.fill(value)
        field.press("Tab")
    if slug == "confirm":
        return
    expect(page.locator("#wizard:not([data-before])")).to_have_count(1)
    if value != "button":
        assert name == "cipassword" or holds(control(page, slug, name, value), value), (
            f"{name}: {value} was lost"
        )


def holds(field: Locator, value: Any) -> bool:
    """Whether the field shows ``value``."""
    if value == "button":
        return False
    if isinstance(value, bool) or field.evaluate("field => field.type") == "radio":
        return field.is_checked() == (value is not False)
    return field.input_value() == value


def on_the_page(page: Page) -> set[str]:
    """The names of every field that is there for a person."""
    return set(
        page.locator("#wizard").evaluate(
            """form => [...form.elements].map((field) => field.type === "hidden" || field.type === "submit"
                 ? "" : field.name).filter(Boolean)"""
        )
    )


def names(slug: str) -> set[str]:
    """What the tour touches on a tab."""
    return {name for name, value in TOUR[slug] if value != "button"}


# ---- the tests


def test_the_tour_touches_every_field() -> None:
    """No field of any tab is left out, and none is in the tour that the wizard does not have."""
    assert set(TOUR) == set(SLUGS)
    for slug in SLUGS:
        assert names(slug) - set(BESIDE.get(slug, {})) == set(declared(slug)), slug


@pytest.mark.parametrize("slug", SLUGS)
def test_every_field_of_a_tab(wizard: Wizard, slug: str) -> None:
    """Each field takes its value, keeps it over a reload, and stands in the tour."""
    page = wizard.page
    assert wizard.tab == slug, f"the wizard stands on {wizard.tab}"
    seen: set[str] = set()
    for name, value in TOUR[slug]:
        touch(page, slug, name, value)
        seen |= on_the_page(page)
    assert seen <= names(slug), f"fields nobody touches: {seen - names(slug)}"
    if slug == "confirm":
        return
    expect(page.locator("#wizard .error")).to_have_count(0)
    page.reload()
    last: dict[str, Any] = {}
    for name, value in TOUR[slug]:
        if value == "button":
            last.clear()  # another drive's fields follow
        elif value not in (SHOWN, None):
            last[name] = value
    for name in last.keys() & on_the_page(page):
        assert holds(control(page, slug, name, last[name]), last[name]), f"{name} after a reload"
    wizard.next()


def test_the_draft_holds_what_was_typed(wizard: Wizard, furnished: House) -> None:
    """The whole configuration after the tour."""
    lines = furnished.manage("shell", "-c", READ).splitlines()
    config = json.loads(next(line for line in lines if line.startswith("{")))
    assert {key: parts(text) for key, text in config.items()} == {k: parts(t) for k, t in EXPECTED.items()}


def parts(text: str) -> list[str]:
    """The parts of a value, whatever their order."""
    return sorted(text.split(","))


EXPECTED = {
    "name": "every-field", "onboot": "1", "startup": "2,up=30,down=120", "arch": "x86_64",
    "tags": "prod;web", "ostype": "w2k8", "ide2": "local:iso/system.iso,media=cdrom,size=1M",
    "ide0": "local:iso/drivers.iso,media=cdrom,size=1M", "vga": "qxl",
    "machine": "pc-q35-7.2", "bios": "ovmf",
    "efidisk0": "local:1,efitype=4m,format=raw,pre-enrolled-keys=0", "scsihw": "virtio-scsi-single",
    "agent": "1", "tpmstate0": "local:1,version=v1.2",
    "scsi0": "local:32,format=qcow2,iothread=1",
    "scsi1": "local:1.5,aio=threads,backup=0,cache=writeback,discard=on,format=raw,iops_rd=500,"
    "iops_rd_max=900,iops_wr=400,iops_wr_max=800,mbps_rd=50,mbps_rd_max=100,mbps_wr=40,mbps_wr_max=80,"
    "replicate=0,ro=1,ssd=1",
    "scsi7": "local:0,format=qcow2,import-from=local:import/second.raw,iothread=1",
    "sockets": "2", "cores": "4", "vcpus": "6", "cpulimit": "1.5", "affinity": "0-1", "cpuunits": "200",
    "numa": "1", "cpu": "host,flags=+nested-virt;-md-clear;+pcid;-spec-ctrl;+ssbd;-ibpb;+virt-ssbd;"
    "-amd-ssbd;+amd-no-ssb;+pdpe1gb;-hv-tlbflush;-hv-evmcs;-aes",
    "memory": "1024", "balloon": "512", "shares": "2000", "allow-ksm": "0",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1,mtu=1400,queues=4,rate=12.5,tag=20",
    "boot": "order=scsi0;ide2;ide0;net0",
}  # fmt: skip
"""What the tour asks for, key by key."""
