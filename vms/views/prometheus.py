"""``/metrics``: what was measured last, for Prometheus.

For whoever may audit the whole installation, or brings the token an operator has put into the environment
(``PVELITE_METRICS_TOKEN``) as ``Authorization: Bearer``. Each answer costs three queries whatever there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from vms import access
from vms.models import VM, Node, StorageStatus
from vms.views.graphs import fresh

VM_GAUGES = {
    "cpu": ("pvelite_vm_cpu_share", "Used share of the VM's CPUs, 0 to 1."),
    "maxcpu": ("pvelite_vm_cpus", "Virtual CPUs of the VM."),
    "mem": ("pvelite_vm_memory_guest_bytes", "Memory in use as the guest sees it."),
    "maxmem": ("pvelite_vm_memory_max_bytes", "Memory the VM may have."),
    "memhost": ("pvelite_vm_memory_host_bytes", "Memory the VM's process takes on its node."),
    "balloon": ("pvelite_vm_memory_balloon_bytes", "Memory the guest lives with now."),
    "diskread": ("pvelite_vm_disk_read_bytes_per_second", "Read from the VM's drives."),
    "diskwrite": ("pvelite_vm_disk_write_bytes_per_second", "Written to the VM's drives."),
    "netin": (
        "pvelite_vm_network_in_bytes_per_second",
        "Received by the guest: counted at its bridges, else told by its agent.",
    ),
    "netout": (
        "pvelite_vm_network_out_bytes_per_second",
        "Sent by the guest: counted at its bridges, else told by its agent.",
    ),
    "uptime": ("pvelite_vm_uptime_seconds", "Since the VM's process began."),
}
NODE_GAUGES = {
    "cpu": ("pvelite_node_cpu_share", "Used share of the node's processors, 0 to 1."),
    "iowait": ("pvelite_node_iowait_share", "Share of the time the processors wait for disks, 0 to 1."),
    "loadavg": ("pvelite_node_load", "Load average of one minute."),
    "memused": ("pvelite_node_memory_used_bytes", "Memory in use on the node."),
    "memtotal": ("pvelite_node_memory_bytes", "Memory of the node."),
    "vcpus": ("pvelite_node_vcpus", "Virtual CPUs of the guests that run."),
    "netin": ("pvelite_node_network_in_bytes_per_second", "Received over the node's links."),
    "netout": ("pvelite_node_network_out_bytes_per_second", "Sent over the node's links."),
    "diskread": ("pvelite_node_disk_read_bytes_per_second", "Read from the node's disks."),
    "diskwrite": ("pvelite_node_disk_write_bytes_per_second", "Written to the node's disks."),
}
STORAGE_GAUGES = {
    "total": ("pvelite_storage_bytes", "Size of the storage as the node sees it."),
    "used": ("pvelite_storage_used_bytes", "What is used of it, by whomever."),
    "available": ("pvelite_storage_available_bytes", "What is free for new volumes."),
}


class Measured:
    """A collector that reads the rows when it is asked."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every gauge with a value for each VM or node that has one."""
        labels = ["vmid", "name", "node"]
        vms = VM.objects.select_related("node").only(
            "vmid", "name", "status", "usage", "template", "node__name"
        )
        rows = [(vm, [str(vm.vmid), vm.name, vm.node.name], fresh(vm.usage)) for vm in vms]
        up = GaugeMetricFamily("pvelite_vm_up", "Whether the VM has a process.", labels=labels)
        for vm, values, _ in rows:
            up.add_metric(values, float(vm.running))
        yield up
        yield from gauges(VM_GAUGES, labels, [(values, usage) for _, values, usage in rows])
        nodes = list(Node.objects.only("name", "heartbeat", "usage"))
        online = GaugeMetricFamily(
            "pvelite_node_up", "Whether the node's worker is heard of.", labels=["node"]
        )
        for node in nodes:
            online.add_metric([node.name], float(node.online))
        yield online
        yield from gauges(NODE_GAUGES, ["node"], [([node.name], fresh(node.usage)) for node in nodes])
        yield from storages()


def storages() -> Iterator[GaugeMetricFamily]:
    """Every storage that is switched on, as each node saw it last; one out of use has no sizes."""
    labels = ["storage", "node"]
    rows = [
        (row, [row.storage.name, row.node.name])
        for row in StorageStatus.objects.filter(storage__enabled=True)
        .select_related("storage", "node")
        .order_by("storage__name", "node__name")
    ]
    up = GaugeMetricFamily("pvelite_storage_up", "Whether the node can use the storage.", labels=labels)
    for row, values in rows:
        up.add_metric(values, float(not row.error))
    yield up
    sizes = ("total", "used", "available")
    known = [(values, {name: getattr(row, name) for name in sizes}) for row, values in rows if not row.error]
    yield from gauges(STORAGE_GAUGES, labels, known)


def gauges(
    kinds: dict[str, tuple[str, str]], labels: list[str], rows: list[tuple[list[str], dict[str, Any]]]
) -> Iterator[GaugeMetricFamily]:
    """One family for each quantity; what is not known has no line."""
    for quantity, (name, text) in kinds.items():
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, usage in rows:
            if quantity in usage:
                family.add_metric(values, float(usage[quantity]))
        yield family


def allowed(request: HttpRequest) -> bool:
    """By right, or by the operator's token."""
    if request.user.is_authenticated and access.may(request.user, "Sys.Audit", "/"):
        return True
    wanted = settings.CONF.metrics_token
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return bool(wanted) and scheme.lower() == "bearer" and constant_time_compare(token.strip(), wanted)


@require_GET
def prometheus(request: HttpRequest) -> HttpResponse:
    """The text Prometheus scrapes; 401 for everybody else."""
    if not allowed(request):
        text = "Sys.Audit on / or the token of PVELITE_METRICS_TOKEN is wanted.\n"
        return HttpResponse(
            text, status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"}
        )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Measured())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
