"""A backup job's run: the VMs it covers on a node, one after the other, each by a task of its own.

The run notes on itself which task it asked for each VM, in the transaction in which that is queued, so that a
run whose worker died goes on where it was and backs nothing up twice. Runs on one node take turns. What one
VM's backup comes to keeps no other from its turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from vms import access
from vms.errors import NotFound, StateError, VMError
from vms.models import VM, BackupJob, Node, Task
from vms.operations.base import Context, NodeOperation, Params, operation, submit
from vms.schema.option import opt
from vms.tasks import queue
from vms.tasks.queue import UNFINISHED

TYPE = "backupjob"
CHILD = "vzdump"
WELL = (Task.Status.OK, Task.Status.WARNINGS)


def covered(job: BackupJob) -> QuerySet[VM]:
    """The VMs a job backs up, templates too, by number."""
    if job.all_vms:
        rows = VM.objects.exclude(vmid__in=job.exclude)
    elif job.pool_id is not None:
        rows = VM.objects.filter(pool_id=job.pool_id).exclude(vmid__in=job.exclude)
    else:
        rows = VM.objects.filter(vmid__in=job.vmids)
    if job.node_id is not None:
        rows = rows.filter(node_id=job.node_id)
    return rows.order_by("vmid")


def uncovered(jobs: list[BackupJob]) -> QuerySet[VM]:
    """The VMs no enabled job of these backs up, by number."""
    rows = VM.objects.order_by("vmid")
    for job in jobs:
        if not job.enabled:
            continue
        own = Q(vmid__in=job.vmids)
        if job.all_vms or job.pool_id is not None:
            own = ~Q(vmid__in=job.exclude)
            own &= Q() if job.all_vms else Q(pool_id=job.pool_id, pool__isnull=False)
        if job.node_id is not None:
            own &= Q(node_id=job.node_id)
        rows = rows.exclude(pk__in=VM.objects.filter(own).values("pk"))
    return rows


def covers(job: BackupJob, vm: VM) -> bool:
    """Whether a job backs that VM up, without a query; what :func:`covered` finds for all."""
    if job.node_id not in (None, vm.node_id):
        return False
    if job.all_vms or job.pool_id is not None:
        return vm.vmid not in job.exclude and (job.all_vms or job.pool_id == vm.pool_id)
    return vm.vmid in job.vmids


def child_params(job: BackupJob) -> dict[str, str]:
    """What each VM's backup is told, under PVE's names."""
    params = {"storage": job.storage.name, "mode": job.mode, "compress": job.compress}
    if job.limit:
        params["bwlimit"] = str(job.limit)
    if job.notes:
        params["notes-template"] = job.notes
    if job.keep:
        params["prune-backups"] = job.keep
    if job.fleecing is not None:
        params["fleecing"] = f"enabled=1,storage={job.fleecing.name}"
    return params


def begin(job: BackupJob, user: Any) -> list[Task]:
    """Queue a run of the job on each node that has a VM of it, in the name of ``user``, in the caller's
    transaction. A node where one is under way is passed over.

    Nothing is asked of ``user`` here: the run itself asks, so that a refusal stands in a task's log.
    """
    nodes = list(Node.objects.filter(pk__in=covered(job).order_by().values("node")).order_by("name"))
    if not nodes:
        only = job.node or Node.objects.order_by("name").first()
        nodes = [only] if only is not None else []
    busy = set(unfinished(job).values_list("node_id", flat=True))
    return [
        queue.enqueue(
            TYPE, node=node, vm=None, user=user, params={"job": job.name}, label=f"Backup job {job.name}"
        )
        for node in nodes
        if node.pk not in busy
    ]


def unfinished(job: BackupJob) -> QuerySet[Task]:
    """The runs of a job that are waiting or under way."""
    return Task.objects.filter(type=TYPE, params__job=job.name, status__in=UNFINISHED)


@dataclass(frozen=True, kw_only=True)
class JobParams(Params):
    """Which job."""

    job: str = opt("Job", required=True, max_length=63, help="Its name.")
    asked: str | None = opt(
        "Asked for", hidden=True, pattern=r"([0-9]{1,9}:[0-9]{1,18},?)*", max_length=1 << 20,
        help="Noted by the run itself: VM ID and number of each task it asked for.",
    )  # fmt: skip


@operation(TYPE, privilege="Sys.Modify", label="Backup job", params=JobParams)
class RunJob(NodeOperation):
    """Back up the VMs of a job that are on this node."""

    def authorise_on(self, user: Any, node: Node, params: Any) -> None:
        """Its owner's, and who may change jobs; each VM's own task asks what it needs."""
        if not BackupJob.objects.filter(name=params.job, owner=user).exists():
            access.require(user, self.privilege, "/")

    def check_on(self, node: Node, params: Any) -> None:
        _job(params.job)

    def subject(self, params: Any) -> str:
        return str(params.job)

    async def run(self, ctx: Context) -> None:
        await self._wait(ctx)
        job = await ctx.db(_job, ctx.params.job)
        asked = _asked(ctx.params.asked)
        vms = await ctx.db(lambda: list(covered(job).filter(node=ctx.services.node)))
        if not vms:
            await ctx.log("there is no VM of this job on this node")
        ctx.on_undo("the backup under way", lambda: ctx.db(_cancel, asked))
        failed = 0
        for number, vm in enumerate(vms):
            await ctx.progress(number / len(vms), f"backing up {vm} ({number + 1} of {len(vms)})")
            if vm.vmid not in asked:
                try:
                    task = await ctx.db(_ask, ctx, job, vm, asked)
                except VMError as error:
                    await ctx.warn(f"{vm}: {error}")
                    failed += 1
                    continue
                await ctx.log(f"backing up {vm}: task {task.upid}")
                ctx.step("backup asked for")
            failed += not await self._ended(ctx, vm, asked[vm.vmid])
        if failed and failed == len(vms):
            raise StateError("No VM of this job was backed up.")

    async def _wait(self, ctx: Context) -> None:
        """Until runs that were asked for before on this node have ended."""

        def before() -> list[tuple[int, str]]:
            rows = Task.objects.filter(type=TYPE, node=ctx.services.node, status__in=UNFINISHED)
            return list(rows.filter(pk__lt=ctx.task.pk).order_by("pk").values_list("pk", "label"))

        for pk, label in await ctx.db(before):
            await ctx.progress(None, f"waiting for '{label}'")
            await ctx.services.ended(pk)

    async def _ended(self, ctx: Context, vm: VM, pk: int) -> bool:
        task = await ctx.services.ended(pk)
        if task.status == Task.Status.OK:
            await ctx.log(f"{vm}: done")
        else:
            await ctx.warn(f"{vm}: {task.message or task.get_status_display()}")
        ctx.step("backup ended")
        return task.status in WELL

    async def resume(self, ctx: Context) -> None:
        """Go on where the dead worker was."""
        await ctx.log("the worker was restarted; going on with the VMs that are left")
        await self.run(ctx)


def _job(name: str) -> BackupJob:
    """Raises :class:`NotFound`."""
    job = BackupJob.objects.select_related("storage", "fleecing").filter(name=name).first()
    if job is None:
        raise NotFound(f"There is no backup job '{name}'.")
    return job


def _asked(text: str | None) -> dict[int, int]:
    pairs = (word.partition(":") for word in (text or "").split(",") if word)
    return {int(vmid): int(pk) for vmid, _, pk in pairs}


def still_good(run: Task) -> str:
    """What a run that was cut short noted, as its successor is told it: the backups that ended well."""
    asked = _asked(str(run.params.get("asked", "")))
    good = Task.objects.filter(pk__in=asked.values(), status__in=WELL).values_list("pk", flat=True)
    done = set(good)
    return ",".join(f"{vmid}:{pk}" for vmid, pk in asked.items() if pk in done)


def _ask(ctx: Context, job: BackupJob, vm: VM, asked: dict[int, int]) -> Task:
    """Queue the VM's backup and note it on the run, both or neither."""
    with transaction.atomic():
        task = submit(CHILD, vm=vm, user=ctx.user, params=child_params(job))
        noted = asked | {vm.vmid: task.pk}
        text = ",".join(f"{vmid}:{pk}" for vmid, pk in noted.items())
        Task.objects.filter(pk=ctx.task.pk).update(params={"job": job.name, "asked": text})
    asked[vm.vmid] = task.pk
    return task


def _cancel(asked: dict[int, int]) -> None:
    for task in Task.objects.filter(pk__in=asked.values(), status__in=UNFINISHED).select_related("node"):
        queue.request_cancel(task)
