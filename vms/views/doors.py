"""What every page asks first: who is it, and may they see the object. Missing and forbidden answer alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import resolve_url

from vms import access
from vms.errors import VMError
from vms.models import VM, Node, Storage, Task

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]
"""A function view; the request is its first argument, by position."""


def wants_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks, so that a part of a page is the right answer."""
    return bool(getattr(request, "htmx", False))


def signed_in(view: View[P]) -> View[P]:
    """Send strangers to the login. A fragment of an expired session sends the whole page there."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if request.user.is_authenticated:
            response = view(request, *args, **kwargs)
            response.headers.setdefault("Cache-Control", "no-store, private")
            return response
        if wants_fragment(request):
            return page_to_login(request)
        back = request.get_full_path() if request.method == "GET" else resolve_url("/")
        return redirect_to_login(back)

    return wrapped


def page_to_login(request: HttpRequest) -> HttpResponse:
    """Send the page that asked for a fragment to the login, and back to where it was."""
    page = urlsplit(request.headers.get("HX-Current-URL", "/"))
    login = redirect_to_login(page.path + (f"?{page.query}" if page.query else "")).url
    return HttpResponse(status=401, headers={"HX-Redirect": login})


def vm_or_404(request: HttpRequest, vmid: int) -> VM:
    """A VM the user may see, its node and pool with it."""
    vm = access.visible_vms(request.user).select_related("node", "pool").filter(vmid=vmid).first()
    if vm is None:
        raise Http404(f"There is no VM {vmid}, or you may not see it.")
    return vm


def trashed_or_404(request: HttpRequest, vmid: int) -> VM:
    """A VM in the trash that the user may see."""
    thrown = VM.everything.filter(stage=VM.Stage.TRASH).select_related("node", "pool")
    vm = access.visible_vms(request.user, thrown).filter(vmid=vmid).first()
    if vm is None:
        raise Http404(f"There is no VM {vmid} in the trash, or you may not see it.")
    return vm


def storage_or_404(request: HttpRequest, name: str) -> Storage:
    """A storage the user may see or use."""
    storage = Storage.objects.filter(name=name, enabled=True).first()
    if storage is None or not any(
        privilege.startswith("Datastore.")
        for privilege in access.privileges(request.user, f"/storage/{storage.name}")
    ):
        raise Http404("There is no such storage, or you may not see it.")
    return storage


def node_or_404(request: HttpRequest, name: str) -> Node:
    """A node the user may look at (``Sys.Audit``)."""
    node = Node.objects.filter(name=name).first()
    if node is None or not access.may(request.user, "Sys.Audit", f"/nodes/{node.name}"):
        raise Http404("There is no such node, or you may not see it.")
    return node


def this_node() -> Node | None:
    """The node this web server runs on: it sees the same folders."""
    return Node.objects.filter(name=settings.CONF.node).first()


def sentence(error: VMError) -> str:
    """What went wrong and what to do next, as whole sentences."""
    text = str(error).strip()
    text = text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
    return f"{text} {error.hint}".strip()


def sees_all_tasks(user: Any, node: Node | None = None) -> bool:
    """Whether the user may see tasks that are not theirs (``Sys.Audit`` on the node)."""
    return access.may(user, "Sys.Audit", f"/nodes/{node.name}" if node is not None else "/nodes")


def task_or_404(request: HttpRequest, pk: int) -> Task:
    """A task of the user's own, of a VM they may see, or any for who audits the node."""
    task = Task.objects.select_related("node", "vm").filter(pk=pk).first()
    if task is None or not may_see_task(request.user, task):
        raise Http404("There is no such task, or you may not see it.")
    return task


def may_see_task(user: Any, task: Task) -> bool:
    """Own tasks, tasks of visible VMs; with ``Sys.Audit`` on the node all of it."""
    if task.user_id is not None and task.user_id == user.pk:
        return True
    if sees_all_tasks(user, task.node):
        return True
    return task.vmid is not None and access.visible_vms(user).filter(vmid=task.vmid).exists()
