"""A machine with LVM, ZFS and Ceph, played: their programs answer as the real ones and keep their state here.

Each volume is a file, and where the machine has loop devices also a block device, so that all that reads and
writes it is real. Everything else that is run is run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guestkit import grounds

from vms.errors import CommandError
from vms.host.command import CommandResult
from vms.host.command import run as really

POOL = 8 << 30
"""Bytes of the pool that is played."""


@dataclass
class Lump:
    """A volume that is played."""

    size: int
    file: Path
    device: str = ""
    lower: str = ""
    number: int = 0
    readonly: bool = False
    active: bool = True
    shots: dict[str, Path] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)


class Refused(Exception):
    """What the program says when it will not."""


class Machine:
    """The played programs. ``dev`` is where devices appear, ``said`` what was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lumps"
        self.dev = folder / "dev"
        self.folder.mkdir()
        self.dev.mkdir(exist_ok=True)
        for one in (folder, self.folder, self.dev):
            one.chmod(0o755)
        self.real_devices = grounds.loops(folder)
        self.lumps: dict[str, Lump] = {}
        self.counter = 0
        self.said: list[tuple[str, ...]] = []
        self.programs: dict[str, Callable[[list[str]], str]] = {}
        self.clutter: dict[str, Lump] = {}

    async def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
        """Stands for :func:`vms.host.command.run`."""
        self.said.append(tuple(argv))
        if argv[0] == "qemu-img":
            return await really([self.translated(word) for word in argv], **options)
        program = self.programs.get(argv[0])
        if program is None:
            return await really(argv, **options)
        try:
            text = program(list(argv[1:]))
        except Refused as refusal:
            raise CommandError(argv, 5, f"  {refusal}") from None
        return CommandResult(tuple(argv), 0, text.encode(), b"", 0)

    def translated(self, word: str) -> str:
        """A word of qemu-img's, with a file in the place of what only a cluster has."""
        return word

    # ---- volumes

    def get(self, name: str) -> Lump:
        if name not in self.lumps:
            raise Refused(f'Failed to find logical volume "{name}"')
        return self.lumps[name]

    def add(self, name: str, size: int, source: Path | None = None, lower: str = "") -> Lump:
        """A new volume, empty or with what another file holds."""
        if name in self.lumps:
            raise Refused(f'Logical Volume "{name}" already exists')
        self.counter += 1
        file = self.folder / f"{self.counter}.img"
        if source is None:
            file.touch()
        else:
            subprocess.run(["cp", "--sparse=always", str(source), str(file)], check=True)
        os.truncate(file, size)
        made = Lump(size=size, file=file, lower=lower, number=self.counter)
        if self.real_devices:
            made.device = grounds.attach(file)
        else:
            file.chmod(0o666)
        self.lumps[name] = made
        self.show(name)
        return made

    def place(self, name: str) -> Path:
        """Where the volume's device appears."""
        return self.dev / name

    def show(self, name: str) -> None:
        place, lump = self.place(name), self.lumps[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(lump.device or lump.file)

    def drop(self, name: str) -> None:
        lump = self.get(name)
        self.place(name).unlink()
        if lump.device:
            grounds.detach(lump.device)
        lump.file.unlink()
        for shot in lump.shots.values():
            shot.unlink()
        del self.lumps[name]

    def rename(self, before: str, after: str) -> None:
        lump = self.get(before)
        if after in self.lumps:
            raise Refused(f'Logical Volume "{after}" already exists')
        self.place(before).unlink()
        self.lumps[after] = self.lumps.pop(before)
        for other in self.lumps.values():
            other.lower = after if other.lower == before else other.lower
        self.show(after)
        del lump

    def grow(self, name: str, size: int) -> None:
        lump = self.get(name)
        os.truncate(lump.file, size)
        if lump.device:
            subprocess.run(["losetup", "--set-capacity", lump.device], check=True)
        lump.size = size

    def pour(self, source: Path, name: str) -> None:
        """Make a volume what a file holds."""
        lump = self.get(name)
        with source.open("rb") as lower, open(lump.device or lump.file, "r+b") as upper:
            shutil.copyfileobj(lower, upper)

    def keep(self, name: str, shot: str) -> None:
        """A snapshot: a copy of the file."""
        lump = self.get(name)
        if shot in lump.shots:
            raise Refused("dataset already exists")
        self.counter += 1
        lump.shots[shot] = self.folder / f"{self.counter}.shot"
        subprocess.run(["cp", "--sparse=always", str(lump.file), str(lump.shots[shot])], check=True)

    def used(self, lump: Lump) -> int:
        return lump.file.stat().st_blocks * 512

    def close(self) -> None:
        """End every device."""
        for name in list(self.lumps):
            self.drop(name)


def parsed(words: list[str], flags: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options and the rest; ``flags`` take no value."""
    found: dict[str, str] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word in flags:
            found[word] = ""
        elif word.startswith("-"):
            found[word] = queue.pop(0)
        else:
            rest.append(word)
    return found, rest


class LvmMachine(Machine):
    """A volume group with a thin pool ``data``, and a root volume that is nobody's business."""

    metadata = 1.5

    def __init__(self, folder: Path, *, group: str = "vg0", dev: Path | None = None) -> None:
        """``dev``: where the group's devices appear, in the place of ``/dev``."""
        super().__init__(folder)
        self.group = group
        self.dev = dev or self.dev
        names = ("vgs", "lvs", "lvcreate", "lvremove", "lvrename", "lvextend", "lvchange")
        self.programs = {name: getattr(self, name) for name in names}

    def place(self, name: str) -> Path:
        return self.dev / self.group / name

    def vgs(self, words: list[str]) -> str:
        options, groups = parsed(words, ("--nosuffix",))
        assert (options["--units"], groups) == ("b", [])
        row = {"vg_name": self.group, "vg_size": str(POOL + (10 << 30)), "vg_free": "0"}
        assert options["--options"].split(",") == list(row)
        return json.dumps({"report": [{"vg": [row]}]})

    def lvs(self, words: list[str]) -> str:
        options, groups = parsed(words, ("--nosuffix", "--"))
        assert options["--reportformat"] == "json"
        assert options.get("--units", "b") == "b"
        if groups != [self.group]:
            raise Refused(f'Volume group "{groups[0]}" not found')
        data = 100 * sum(self.used(lump) for lump in self.lumps.values()) / POOL
        rows = [
            self.row("root", 10 << 30, thin_id=""),
            self.row("data", POOL, data_percent=f"{data:.2f}", metadata_percent=f"{self.metadata:.2f}"),
        ]
        for name, lump in sorted(self.lumps.items()):
            percent = 100 * self.used(lump) / lump.size
            rows.append(self.row(
                name, lump.size, pool_lv="data", origin=lump.lower, data_percent=f"{percent:.2f}",
                thin_id=str(lump.number),
            ))  # fmt: skip
        fields = options["--options"].split(",")
        return json.dumps({"report": [{"lv": [{key: row[key] for key in fields} for row in rows]}]})

    @staticmethod
    def row(name: str, size: int, **more: str) -> dict[str, str]:
        empty = dict.fromkeys(("pool_lv", "origin", "data_percent", "metadata_percent", "thin_id"), "")
        empty["lv_attr"] = (
            "twi-aotz--" if name == "data" else "Vwi-a-tz--" if more.get("pool_lv") else "-wi-ao----"
        )
        return {"lv_name": name, "lv_size": str(size), **empty, **more}

    def leaf(self, path: str) -> str:
        group, _, name = path.partition("/")
        if group != self.group or "/" in name:
            raise Refused(f'"{path}": Invalid path for Logical Volume.')
        return name

    def lvcreate(self, words: list[str]) -> str:
        options, rest = parsed(words, ("--yes", "--snapshot"))
        if "--snapshot" in options:
            lower = self.leaf(rest[0])
            source = self.get(lower)
            self.add(options["--name"], source.size, source.file, lower)
            self.lumps[options["--name"]].readonly = options["--permission"] == "r"
            return ""
        assert self.leaf(options["--thinpool"]) == "data"
        size = int(options["--virtualsize"].removesuffix("b"))
        self.add(options["--name"], -(-size // (4 << 20)) * (4 << 20))
        return ""

    def lvremove(self, words: list[str]) -> str:
        _, rest = parsed(words, ("--yes", "--force"))
        name = self.leaf(rest[0])
        self.drop(name)
        for other in self.lumps.values():
            other.lower = "" if other.lower == name else other.lower
        return ""

    def lvrename(self, words: list[str]) -> str:
        assert words[0] == self.group
        self.rename(words[1], words[2])
        return ""

    def lvextend(self, words: list[str]) -> str:
        options, rest = parsed(words, ())
        self.grow(self.leaf(rest[0]), int(options["--size"].removesuffix("b")))
        return ""

    def lvchange(self, words: list[str]) -> str:
        options, rest = parsed(words, ("--ignoreactivationskip",))
        lump = self.get(self.leaf(rest[0]))
        if "--permission" in options:
            lump.readonly = options["--permission"] == "r"
        return ""


class ZfsMachine(Machine):
    """A data set ``tank/vms``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.programs = {"zfs": self.zfs}

    def place(self, name: str) -> Path:
        return self.dev / "tank" / "vms" / name

    def leaf(self, path: str) -> str:
        if not path.startswith("tank/vms/"):
            raise Refused(f"cannot open '{path}': dataset does not exist")
        return path.removeprefix("tank/vms/")

    def zfs(self, words: list[str]) -> str:
        verb, rest = words[0], words[1:]
        played: dict[str, Callable[[list[str]], str]] = {
            "list": self.list, "create": self.create, "destroy": self.destroy, "rename": self.renamed,
            "set": self.set, "clone": self.clone, "snapshot": self.snapshot, "rollback": self.rollback,
        }  # fmt: skip
        return played[verb](rest)

    def list(self, words: list[str]) -> str:
        options, names = parsed(words, ("-H", "-p"))
        if options.get("-t") == "filesystem":
            return "tank\ntank/vms\n"
        (what,) = names
        if options.get("-t") == "snapshot":
            name = self.leaf(what)
            return "".join(f"{what}@{shot}\n" for shot in self.get(name).shots)
        if what != "tank/vms":
            raise Refused(f"cannot open '{what}': dataset does not exist")
        if options["-o"] == "used,available":
            used = sum(self.used(lump) for lump in self.lumps.values())
            return f"{used}\t{POOL - used}\n"
        assert options["-o"] == "name,volsize,used,origin"
        return "".join(
            f"tank/vms/{name}\t{lump.size}\t{self.used(lump)}\t"
            f"{f'tank/vms/{lump.lower}@__base__' if lump.lower else '-'}\n"
            for name, lump in sorted(self.lumps.items())
        )

    def create(self, words: list[str]) -> str:
        options, (path,) = parsed(words, ("-s",))
        self.add(self.leaf(path), int(options["-V"]))
        return ""

    def destroy(self, words: list[str]) -> str:
        options, (path,) = parsed(words, ("-r",))
        name, _, shot = self.leaf(path).partition("@")
        lump = self.get(name)
        if any(other.lower == name for other in self.lumps.values()):
            raise Refused(f"cannot destroy '{path}': snapshot has dependent clones")
        if shot:
            lump.shots.pop(shot).unlink()
        elif lump.shots and "-r" not in options:
            raise Refused(f"cannot destroy '{path}': volume has children")
        else:
            self.drop(name)
        return ""

    def renamed(self, words: list[str]) -> str:
        self.rename(self.leaf(words[0]), self.leaf(words[1]))
        return ""

    def set(self, words: list[str]) -> str:
        key, _, value = words[0].partition("=")
        name = self.leaf(words[1])
        lump = self.get(name)
        if key == "volsize":
            self.grow(name, int(value))
        elif key == "snapdev":
            for shot, file in lump.shots.items():
                self.reveal(f"{name}@{shot}", file, value == "visible")
        else:
            assert key == "readonly"
            lump.readonly = value == "on"
        return ""

    def reveal(self, name: str, file: Path, visible: bool) -> None:
        """A snapshot's device comes or goes."""
        place = self.place(name)
        if name in self.clutter:
            device = self.clutter.pop(name).device
            if device:
                grounds.detach(device)
            place.unlink()
        if visible:
            device = grounds.attach(file) if self.real_devices else ""
            file.chmod(0o644)
            self.clutter[name] = Lump(size=0, file=file, device=device)
            place.symlink_to(device or file)

    def clone(self, words: list[str]) -> str:
        lower, _, shot = self.leaf(words[0]).partition("@")
        source = self.get(lower)
        if shot not in source.shots:
            raise Refused(f"cannot open '{words[0]}': dataset does not exist")
        self.add(self.leaf(words[1]), source.size, source.shots[shot], lower)
        return ""

    def snapshot(self, words: list[str]) -> str:
        name, _, shot = self.leaf(words[0]).partition("@")
        self.keep(name, shot)
        return ""

    def rollback(self, words: list[str]) -> str:
        name, _, shot = self.leaf(words[0]).partition("@")
        shots = self.get(name).shots
        if shot not in shots or list(shots)[-1] != shot:
            raise Refused(f"cannot rollback to '{words[0]}': more recent snapshots or bookmarks exist")
        self.pour(shots[shot], name)
        return ""


class RbdMachine(Machine):
    """A cluster with a pool ``guests``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.real_devices = False
        self.programs = {"rbd": self.rbd, "ceph": self.ceph}

    def place(self, name: str) -> Path:
        return self.dev / name

    def translated(self, word: str) -> str:
        if not word.startswith("rbd:guests/"):
            return word
        name, _, shot = word.removeprefix("rbd:guests/").partition(":")[0].partition("@")
        lump = self.get(name)
        return str(lump.shots[shot] if shot else lump.file)

    def ceph(self, words: list[str]) -> str:
        assert words[:5] == ["df", "--id", "vms", "--conf", "/etc/ceph/ceph.conf"]
        used = sum(self.used(lump) for lump in self.lumps.values())
        stats = {"stored": used, "bytes_used": 3 * used, "max_avail": POOL - used}
        return json.dumps({"pools": [{"name": "rbd", "stats": {}}, {"name": "guests", "stats": stats}]})

    def rbd(self, words: list[str]) -> str:
        options, rest = parsed(words, ("--long", "--no-progress"))
        assert (options["--id"], options["--conf"]) == ("vms", "/etc/ceph/ceph.conf")
        verb = rest.pop(0)
        if verb == "snap":
            return self.snap(rest.pop(0), rest[0].removeprefix("guests/"))
        if verb == "ls":
            return self.ls(rest[0])
        name = rest[0].removeprefix("guests/")
        size = int(options.get("--size", "0M").removesuffix("M")) << 20
        if verb == "create":
            self.add(name, size)
        elif verb == "rm":
            if self.get(name).shots:
                raise Refused("image has snapshots - these must be deleted with 'rbd snap purge'")
            self.drop(name)
        elif verb == "rename":
            self.rename(name, rest[1].removeprefix("guests/"))
        elif verb == "resize":
            self.grow(name, size)
        else:
            assert verb == "clone"
            lower, _, shot = name.partition("@")
            source = self.get(lower)
            if shot not in source.protected:
                raise Refused("librbd: parent snapshot must be protected")
            self.add(rest[1].removeprefix("guests/"), source.size, source.shots[shot], lower)
        return ""

    def ls(self, pool: str) -> str:
        if pool != "guests":
            raise Refused(f"error opening pool '{pool}': (2) No such file or directory")
        rows: list[dict[str, Any]] = []
        for name, lump in sorted(self.lumps.items()):
            parent = {"pool": "guests", "image": lump.lower, "snapshot": "__base__"}
            rows.append(
                {"image": name, "size": lump.size, "format": 2, **({"parent": parent} if lump.lower else {})}
            )
            rows += [{"image": name, "snapshot": shot, "size": lump.size} for shot in lump.shots]
        return json.dumps(rows)

    def snap(self, verb: str, place: str) -> str:
        name, _, shot = place.partition("@")
        lump = self.get(name)
        if verb == "ls":
            return json.dumps([
                {"id": number, "name": shot, "protected": str(shot in lump.protected).lower()}
                for number, shot in enumerate(lump.shots, 4)
            ])  # fmt: skip
        if verb == "create":
            self.keep(name, shot)
        elif verb == "rollback":
            self.pour(lump.shots[shot], name)
        elif verb in ("protect", "unprotect"):
            if verb == "unprotect" and any(other.lower == name for other in self.lumps.values()):
                raise Refused("librbd: snapshot has children")
            (lump.protected.add if verb == "protect" else lump.protected.discard)(shot)
        else:
            gone = list(lump.shots) if verb == "purge" else [shot]
            if lump.protected & set(gone):
                raise Refused("librbd: snapshot is protected")
            for one in gone:
                lump.shots.pop(one).unlink()
        return ""
