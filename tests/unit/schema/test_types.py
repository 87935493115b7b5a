"""Sizes, addresses, volumes and the rest: what is accepted, what is said otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vms.errors import ConfigError
from vms.hardware.buses import ScsiDrive
from vms.hardware.net import Net
from vms.schema import types
from vms.schema.describe import help_text, json_schema, part_schema
from vms.schema.option import option_table


@given(st.integers(0, (1 << 59)))
def test_sizes_round_trip(number: int) -> None:
    assert types.Size.parse(str(types.Size(number))).bytes == number


@pytest.mark.parametrize(
    ("text", "short"), [("1536M", "1536M"), ("32768M", "32G"), ("540672", "528K"), ("1.5G", "1536M")]
)
def test_sizes_print_short(text: str, short: str) -> None:
    assert str(types.Size.parse(text)) == short


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (types.mac_address, "01:00:00:00:00:00"),
        (types.mac_address, "BC:24:11:00:00"),
        (types.volume, "local:../../etc/shadow"),
        (types.volume, "/dev/../etc/shadow"),
        (types.volume, "shadow"),
        (types.dns_name, "web_01"),
        (types.dns_name, "-a"),
        (types.cpu_set, "4-1"),
        (types.tag_list, "a b$"),
        (types.uuid, "12345678-abcd-1234-efgh-123456789abc"),
    ],
)
def test_wrong_values_are_refused(check: object, wrong: str) -> None:
    assert callable(check)
    with pytest.raises(ValueError, match=r"\w"):
        check(wrong)


def test_tags_are_normal() -> None:
    assert types.normal_tags("Web, prod;web") == "prod;web"


def test_a_card_is_read_and_written() -> None:
    net = Net.parse("virtio=BC:24:11:00:00:01,tag=20,bridge=vmbr0,firewall=yes", "net0")
    assert net.format() == "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag=20"
    with pytest.raises(ConfigError, match="given twice"):
        Net.parse("virtio=BC:24:11:00:00:01,macaddr=BC:24:11:00:00:02", "net0")


def test_bytes_per_second_become_megabytes() -> None:
    assert ScsiDrive.parse("local:1,bps=1572864", "scsi0").mbps == 1.5


@pytest.mark.parametrize(
    "text", ["local:1,mbps=1,mbps_rd=1", "local:1,mbps_max=2", "local:1,iops_max_length=2"]
)
def test_limits_that_contradict_each_other(text: str) -> None:
    with pytest.raises(ConfigError):
        ScsiDrive.parse(text, "scsi0")


def test_an_option_describes_itself() -> None:
    tag = option_table(Net)["tag"]
    assert json_schema(tag)["maximum"] == 4094
    assert "1 … 4094" in help_text(tag)
    assert part_schema(Net)["required"] == ["model"]
