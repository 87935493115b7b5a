"""In a worker that has this folder on its path: LVM is played (:mod:`scripted`), its devices are real.

``PVELITE_TEST_LVM`` is ``GROUP:FOLDER``; the devices appear in ``/dev/GROUP``.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parents[2]


class Played(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Puts the played machine into ``vms.host.command`` as soon as that is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "vms.host.command":
            return None
        sys.meta_path.remove(self)
        self.real = importlib.util.find_spec(fullname)
        return importlib.util.spec_from_loader(fullname, self, origin=self.real.origin if self.real else None)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        assert self.real is not None
        return importlib.util.module_from_spec(self.real)

    def exec_module(self, module: ModuleType) -> None:
        assert self.real is not None
        assert self.real.loader is not None
        self.real.loader.exec_module(module)
        sys.path += [str(HERE), str(HERE / "drivers")]
        from scripted import LvmMachine

        group, _, folder = os.environ["PVELITE_TEST_LVM"].partition(":")
        module.run = LvmMachine(Path(folder), group=group, dev=Path("/dev")).run  # type: ignore[attr-defined]


if "PVELITE_TEST_LVM" in os.environ:
    sys.meta_path.insert(0, Played())
