"""Without a medium a machine is installed over the network: card first, and a random source for UEFI."""

from __future__ import annotations

import pytest

from tests.web.wizard.conftest import Hand
from vms.models import VM
from vms.models.configuration import config_of


@pytest.mark.parametrize(("bios", "source"), [("", None), ("ovmf", "/dev/urandom")])
def test_no_medium_means_the_network_first(hand: Hand, bios: str, source: str | None) -> None:
    hand.to("os").press("save", medium="none")
    if bios:
        hand.to("system").press("save", bios=bios)
    hand.to("confirm")
    response = hand.client.post(hand.url, {**hand.fields(), "go": "create"})
    assert response.status_code == 303, response.content
    made = config_of(VM.everything.get())
    assert made["boot"] == "order=net0;scsi0"
    assert made.get("rng0") == source
