"""Usage and graphs: the present only while it is the present, gaps as gaps, no more than one may see."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from conftest import Scene, person, signed_in  # type: ignore[import-not-found]
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from vms.models import VM, Node
from vms.models.metric import FRAMES, SLOTS, record

pytestmark = pytest.mark.django_db
USAGE = {
    "cpu": 0.42, "maxcpu": 2.0, "mem": 600 << 20, "maxmem": 2048 << 20, "memhost": 900 << 20,
    "balloon": 1024 << 20, "target": 512 << 20, "minimum": 512 << 20, "shares": 1000.0,
    "diskread": 1536.0, "diskwrite": 0.0, "netin": 2e6, "netout": 0.0,
    "uptime": 90061.0,
}  # fmt: skip


def test_the_summary_shows_the_last_look_while_it_is_fresh(boss: Client, scene: Scene) -> None:
    VM.objects.filter(vmid=101).update(status="running", usage={**USAGE, "at": time.time()})
    text = boss.get("/vms/101/usage").content.decode()
    for word in ("42 % of 2 CPUs", "600 MiB of 2 GiB used", "900 MiB", "Lives with 1 GiB",
                 "Between 512 MiB and 2 GiB, 1000 shares",
                 "on its way to 512 MiB", "1.5 KiB/s read",
                 "up 1 d 1 h"):  # fmt: skip
        assert word in text, word
    VM.objects.filter(vmid=101).update(usage={**USAGE, "at": time.time() - 60})
    assert "42 %" not in boss.get("/vms/101/usage").content.decode()


def test_series_are_columns_with_gaps(boss: Client, scene: Scene) -> None:
    now = int(time.time())
    record(scene.node.pk, [(None, {"cpu": 0.5, "memused": 5.0}), (scene.vm.pk, USAGE)], now)
    found = boss.get("/vms/101/series?frame=day").json()
    assert (found["step"], len(found["time"]), len(found["cpu"])) == (1200, SLOTS, SLOTS)
    assert found["cpu"][-1] == 0.42
    assert found["cpu"][0] is None
    node = boss.get("/nodes/pve1/series?frame=nonsense").json()
    assert (node["step"], node["cpu"][-1], node["loadavg"][-1]) == (60, 0.5, None)


def test_a_series_has_a_fixed_number_of_rows(scene: Scene) -> None:
    from vms.models import Metric

    for moment in range(0, 400 * 60, 60):
        record(scene.node.pk, [(scene.vm.pk, {"cpu": 0.1})], 1_800_000_000 + moment)
    assert Metric.objects.filter(vm=scene.vm).count() == len(FRAMES)
    assert max(len(row.data) for row in Metric.objects.all()) < 10_000


def test_a_stranger_gets_no_series(scene: Scene) -> None:
    bob = signed_in(person("bob"))
    assert bob.get("/vms/101/series").status_code == 404
    assert bob.get("/nodes/pve1/series").status_code == 404


def test_the_node_says_when_it_is_crowded(boss: Client, scene: Scene) -> None:
    Node.objects.update(usage={"vcpus": 13, "at": time.time(), "cpu": 0.5, "loadavg": 1.0})
    text = boss.get("/nodes/pve1").content.decode()
    assert "13 on 4 threads" in text
    assert "3.2 : 1" in text
    assert "beyond 3 to 1" in text


def test_prometheus_reads_what_was_measured(boss: Client, scene: Scene, settings: Any) -> None:
    VM.objects.filter(vmid=101).update(status="running", usage={**USAGE, "at": time.time()})
    scene.add_vms(1)
    text = boss.get("/metrics").content.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (share,) = families["pvelite_vm_cpu_share"].samples
    assert (share.labels, share.value) == ({"vmid": "101", "name": "web-01", "node": "pve1"}, 0.42)
    assert {sample.labels["vmid"]: sample.value for sample in families["pvelite_vm_up"].samples} == {
        "101": 1.0,
        "200": 0.0,
    }
    (free,) = families["pvelite_storage_available_bytes"].samples
    assert (free.labels, free.value) == ({"storage": "local", "node": "pve1"}, 60 << 30)
    assert families["pvelite_storage_up"].samples[0].value == 1
    assert Client().get("/metrics").status_code == 401
    settings.CONF = dataclasses.replace(settings.CONF, metrics_token="tick-tock")
    for given, status in (
        ("Bearer tick-tock", 200),
        ("Bearer tick", 401),
        ("Basic tick-tock", 401),
        ("", 401),
    ):
        assert Client().get("/metrics", headers={"Authorization": given}).status_code == status


def test_prometheus_costs_the_same_with_many_vms(
    boss: Client, scene: Scene, django_assert_max_num_queries: Any
) -> None:
    scene.add_vms(50)
    with django_assert_max_num_queries(8):
        assert boss.get("/metrics").status_code == 200
