"""The short answer to a button: a sentence in place for htmx, a message on the page it leads back to."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from vms.errors import AccessError, VMError
from vms.models import Task
from vms.views.doors import sentence, wants_fragment


def echo(
    request: HttpRequest, back: str, text: str, *, task: Task | None = None, status: int = 200
) -> HttpResponse:
    """``text``, and the ``task`` that came of it. A ``status`` other than 200 is a refusal."""
    if wants_fragment(request):
        context = {"text": text, "tone": "busy" if status == 200 else "error"}
        if task is not None:
            context |= {"href": reverse("vms:task", args=[task.pk]), "action": "Task log"}
        return render(request, "components/toast.html", context, status=status)
    messages.add_message(request, messages.INFO if status == 200 else messages.ERROR, text)
    return HttpResponseRedirect(back)


def echo_refusal(request: HttpRequest, back: str, error: VMError) -> HttpResponse:
    """Why it was not done."""
    return echo(request, back, sentence(error), status=403 if isinstance(error, AccessError) else 409)
