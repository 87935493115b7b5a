"""Tab by tab, without JavaScript: what Proxmox's wizard makes of untouched defaults, and of choices."""

from __future__ import annotations

from tests.web.wizard.conftest import Hand


def test_untouched_defaults_are_proxmox(hand: Hand) -> None:
    hand.to("confirm")
    assert hand.config == {
        "cores": "1", "cpu": "x86-64-v2-AES", "ide2": "none,media=cdrom", "memory": "2048",
        "net0": "virtio,bridge=vmbr0,firewall=1", "numa": "0", "ostype": "l26",
        "scsi0": "local:32,format=qcow2,iothread=1", "scsihw": "virtio-scsi-single", "sockets": "1",
    }  # fmt: skip
