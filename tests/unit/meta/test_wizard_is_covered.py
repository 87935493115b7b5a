"""Nothing of the wizard goes unexplained or untested: held against its own list of fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from vms.forms.extras import REQUIRED
from vms.schema.option import Option
from vms.wizard.panels import PANELS
from vms.wizard.tabs import SLUGS, TABS

TESTS = Path(__file__).resolve().parents[2]
SLOTS = {"disks": "scsi0", "network": "net0"}


def declared(slug: str) -> Iterator[tuple[str, Option]]:
    """Every field of a tab with its declaration."""
    panel = PANELS[slug](SimpleNamespace())  # type: ignore[arg-type]
    for name in panel.names:
        yield name, panel.option(name, SLOTS.get(slug, ""))


def toured() -> dict[str, set[str]]:
    """What the browser test touches, read from its text: tab → names."""
    tree = ast.parse((TESTS / "e2e" / "test_every_field.py").read_text())
    tour = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "TOUR"
    )
    assert isinstance(tour, ast.Dict)
    found = {}
    for key, steps in zip(tour.keys, tour.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(steps, ast.Tuple)
        found[str(key.value)] = {
            ast.literal_eval(step.elts[0]) for step in steps.elts if isinstance(step, ast.Tuple)
        }
    return found


@pytest.mark.parametrize("slug", SLUGS)
def test_every_field_says_what_it_is_what_happens_otherwise_and_why_our_default(slug: str) -> None:
    for name, option in declared(slug):
        for what in ("label", "help", "otherwise", "why"):
            assert getattr(option, what).strip(), f"{slug}: {name} has no {what}"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_browser_touches_every_field(slug: str) -> None:
    assert {name for name, _ in declared(slug)} - toured()[slug] == set()


def test_every_tab_is_looked_at_from_inside_a_guest() -> None:
    tree = ast.parse((TESTS / "qemu" / "inside" / "test_tabs_inside.py").read_text())
    made = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {f"test_{slug}" for slug in SLUGS if slug != "confirm"} - made == set()


def test_what_must_be_filled_in_is_a_field() -> None:
    assert REQUIRED - {name for tab in TABS for name in tab.names} == set()
