"""Tags on a VM's title line: one more, one less."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from vms.errors import AccessError, ConfigError, VMError
from vms.forms.fields import sentence as field_sentence
from vms.operations import configure
from vms.schema.types import normal_tags, split_tags
from vms.views.asking import done, full_vm, refused
from vms.views.doors import sentence, signed_in


@signed_in
@require_POST
def vm_tags(request: HttpRequest, vmid: int) -> HttpResponse:
    """``add`` takes one or several tags, ``remove`` one. The VM's tags at that moment are what is changed."""
    vm = full_vm(request, vmid)
    try:
        with transaction.atomic():
            now = configure.locked(vm).tags
            tags = wanted(now, request.POST.get("add", ""), request.POST.get("remove", ""))
            if tags == now:
                text = "Nothing was changed: write a tag that is not there yet."
                return refused(request, vm, text, 422, tab="summary")
            task = configure.change(vm, request.user, set={"tags": tags})
    except ConfigError as error:
        return refused(request, vm, field_sentence(error), 422, tab="summary")
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 409
        return refused(request, vm, sentence(error), code, tab="summary")
    return done(request, vm, "Tags: saved.", task, tab="summary")


def wanted(now: str, added: str, removed: str) -> str:
    """The tags after that, as they are stored. Raises :class:`ConfigError` for a word that is no tag."""
    try:
        found = split_tags(normal_tags(f"{now};{added}"))
    except ValueError as error:
        raise ConfigError("tags", str(error)) from None
    return ";".join(tag for tag in found if tag != removed)
