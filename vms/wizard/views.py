"""The wizard's pages. GET shows, POST saves and goes on; htmx gets the same page's inner part."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from vms import access
from vms.errors import VMError
from vms.models import VM, Node
from vms.wizard import actions, life, presets, templates
from vms.wizard.drafts import Draft
from vms.wizard.duplicate import duplicate as copy_of
from vms.wizard.page import advanced_cookie, page
from vms.wizard.panels import Panels
from vms.wizard.tabs import SLUGS


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """The drafts to resume, and what the values in the address would begin with; POST begins."""
    allowed = access.may_somewhere(request.user, "VM.Allocate")
    if request.method == "GET":
        return _start_page(request, allowed)
    name = request.POST.get("node") or settings.CONF.node
    node = Node.objects.filter(name=name[:63]).first() or Node.objects.first()
    if node is None:
        raise Http404("There is no node yet.")
    try:
        with transaction.atomic():
            vm = life.begin(request.user, node, request.POST.get("preset", ""), presets.asked(request.POST))
    except VMError as error:
        return _start_page(request, allowed, str(error), status=403 if not allowed else 400)
    return redirect(tab_url(vm.vmid, SLUGS[0]))


def _start_page(request: HttpRequest, allowed: bool, error: str = "", status: int = 200) -> HttpResponse:
    found = life.drafts_of(request.user)
    given = request.GET if request.method == "GET" else request.POST
    context = {
        "drafts": [(vm, tab_url(vm.vmid, life.place_of(vm)), tab_url(vm.vmid, SLUGS[0])) for vm in found],
        "allowed": allowed, "error": error, "nodes": Node.objects.all(), "presets": presets.PRESETS.items(),
        "values": presets.judged(request.user, presets.asked(given)),
        "preset": given.get("preset") if given.get("preset") in presets.PRESETS else "",
        "templates": templates.offered(request.user) if allowed else [],
    }  # fmt: skip
    return render(request, "wizard/start.html", context, status=status)


@login_required
@require_POST
def duplicate(request: HttpRequest, vmid: int) -> HttpResponse:
    """A draft with an existing machine's configuration."""
    source = access.visible_vms(request.user).select_related("node", "pool").filter(vmid=vmid).first()
    if source is None:
        raise Http404(f"There is no VM {vmid}, or you may not see it.")
    try:
        with transaction.atomic():
            vm = copy_of(request.user, source)
    except VMError as error:
        return render(request, "components/toast.html", {"text": str(error), "tone": "error"}, status=403)
    return _go(request, tab_url(vm.vmid, SLUGS[0]))


@login_required
@require_GET
def resume(request: HttpRequest, draft: int) -> HttpResponse:
    """Where its maker left a draft."""
    vm = _draft_or_404(request.user, draft)
    return redirect(tab_url(vm.vmid, life.place_of(vm)))


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def wizard_tab(request: HttpRequest, draft: int, tab: str) -> HttpResponse:
    """One tab of a draft."""
    if tab not in SLUGS:
        raise Http404("There is no such tab.")
    if request.method == "POST":
        return _post(request, draft, tab)
    vm = life.find(request.user, draft)
    if vm is None or vm.lock:
        return _no_draft(request, draft, vm)
    if vm.vmid != draft:
        return redirect(tab_url(vm.vmid, tab))
    found = Draft(vm, request.user)
    life.place_failures(found)
    panels = Panels(found, tab)
    if panels.blocking(tab):
        return redirect(tab_url(vm.vmid, panels.farthest()))
    return render(request, "wizard/tab.html", page(request, panels, request.GET.get("slot", "")))


def _post(request: HttpRequest, draft: int, tab: str) -> HttpResponse:
    """Save, then show the same tab again (htmx) or go to the next one."""
    with transaction.atomic():
        vm = life.find(request.user, draft, lock=True)
        if vm is None or vm.lock:
            return _no_draft(request, draft, vm)
        found = Draft(vm, request.user)
        life.place_failures(found)
        target = actions.perform(found, tab, request.POST)
    if target.gone:
        return redirect("vms:create")
    url = tab_url(found.vm.vmid, target.slug, target.slot)
    if getattr(request, "htmx", False) and not target.done and target.slug == tab:
        context = page(request, Panels(found, tab), target.slot)
        response = render(request, "wizard/part.html", context)
        response["HX-Replace-Url"] = url
    else:
        response = _go(request, url)
    return advanced_cookie(request, response)


def _go(request: HttpRequest, url: str) -> HttpResponse:
    if getattr(request, "htmx", False):
        return HttpResponse(status=204, headers={"HX-Redirect": url})
    return HttpResponseRedirect(url, status=303)


def _no_draft(request: HttpRequest, number: int, vm: VM | None) -> HttpResponse:
    """A draft being made shows how far it is; one that became a machine leads to it."""
    if vm is not None:
        task = life.creating(vm)
        lines = task.lines.all() if task else ()
        part = "wizard/creating_part.html" if getattr(request, "htmx", False) else "wizard/creating.html"
        return render(request, part, {"vm": vm, "task": task, "lines": lines, "url": request.path})
    if access.visible_vms(request.user).filter(vmid=number).exists():
        return _go(request, reverse("vms:vm_summary", args=[number]))
    raise Http404("There is no such draft, or it is not yours.")


def _draft_or_404(user: Any, number: int) -> VM:
    vm = life.find(user, number)
    if vm is None:
        raise Http404("There is no such draft, or it is not yours.")
    return vm


def tab_url(vmid: int, slug: str, slot: str = "") -> str:
    """The address of a tab, and of the drive or card on it."""
    url = reverse("vms:wizard_tab", args=[vmid, slug])
    return f"{url}?{urlencode({'slot': slot})}" if slot else url
