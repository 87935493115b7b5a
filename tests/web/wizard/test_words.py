"""Every field explains itself; the tables that compare choices stand where they belong."""

from __future__ import annotations

import re

import pytest
from django.template.loader import get_template

from tests.web.wizard.conftest import Hand
from vms.forms.comparisons import COMPARISONS
from vms.models import VM
from vms.wizard.drafts import Draft
from vms.wizard.panels import PANELS

LISTED = {"disks": "scsi0", "network": "net0"}


@pytest.mark.parametrize("slug", [slug for slug in PANELS if slug != "confirm"])
def test_every_field_has_its_three_sentences(hand: Hand, slug: str) -> None:
    panel = PANELS[slug](Draft(VM.everything.get(), None))
    for name in panel.names:
        option = panel.option(name, LISTED.get(slug, ""))
        for words in (option.help, option.otherwise, option.why):
            assert len(words) > 8, name
            assert words.rstrip().endswith("."), (name, words)
        assert option.label, name


@pytest.mark.parametrize(
    ("tab", "name"), [("disks", "cache"), ("disks", "bus"), ("cpu", "cpu.cputype"), ("system", "bios")]
)
def test_a_comparison_opens_in_place(hand: Hand, tab: str, name: str) -> None:
    words, template = COMPARISONS[name]
    hand.to(tab)
    found = re.search(
        rf'<details class="compare" id="compare-{re.escape(name)}">.*?</details>', hand.html, re.S
    )
    assert found
    assert f"<summary>{words}</summary>" in found[0]
    assert found[0].count("<table") == 1
    rows = re.findall(r"<tr>(.*?)</tr>", found[0], re.S)
    assert len({len(re.findall(r"<t[hd]", row)) for row in rows}) == 1
    assert get_template(template)


def test_cache_table_names_every_mode(hand: Hand) -> None:
    hand.to("disks")
    table = hand.html.partition("compare-cache")[2].partition("</details>")[0]
    for label in ("No cache", "Direct sync", "Write through", "Write back", "Write back (unsafe)"):
        assert label in table
