"""Coming and going. One generic error whatever was wrong; guessing is throttled; hashing is bounded."""

from __future__ import annotations

import threading

from django.contrib.auth import REDIRECT_FIELD_NAME, login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from vms.models import AuditEntry
from vms.tasks import notify
from vms.views.doors import page_to_login, wants_fragment

HASHES_AT_ONCE = threading.BoundedSemaphore(2)
"""Argon2 takes 100 MiB a check: ten at once would be a gigabyte."""
HASH_WAIT = 10.0
GENERIC = "User name or password is not right."


def after_login(request: HttpRequest) -> str:
    """Where to go: the page that was asked for, if it is one of ours."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME) or "/"
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if ours else "/"


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without this session's token. A page whose session has ended goes to the login; one of an older
    session says so in place."""
    if not wants_fragment(request):
        return render(request, "403_csrf.html", status=403)
    if not request.user.is_authenticated:
        return page_to_login(request)
    text = "Not sent: this page is from an older session. Load it again and repeat it."
    return render(request, "components/toast.html", {"text": text, "tone": "error"}, status=403)


def record(request: HttpRequest, action: str) -> None:
    """Note who came or went, from where."""
    address = str(request.META.get("REMOTE_ADDR") or "")
    AuditEntry.objects.create(username=request.user.get_username(), action=action, address=address)


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def login_view(request: HttpRequest) -> HttpResponse:
    """The login page. Five wrong passwords lock a name and address for six minutes (axes)."""
    if request.user.is_authenticated:
        return redirect(after_login(request))
    context = {"next": after_login(request), "username": request.POST.get("username", "")[:150]}
    if request.method != "POST":
        return render(request, "registration/login.html", context)
    form = AuthenticationForm(request, data=request.POST)
    if not HASHES_AT_ONCE.acquire(timeout=HASH_WAIT):
        context["error"] = "Too many logins at once. Try again in a moment."
        return render(request, "registration/login.html", context, status=503)
    try:
        right = form.is_valid()
    finally:
        HASHES_AT_ONCE.release()
    if not right:
        return render(request, "registration/login.html", {**context, "error": GENERIC}, status=403)
    login(request, form.get_user())
    record(request, "login")
    return redirect(after_login(request))


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: object) -> HttpResponse:
    """What axes answers instead of a login after too many wrong ones (settings.AXES_LOCKOUT_CALLABLE)."""
    context = {"error": "Too many wrong logins. Try again in six minutes.", "next": "/"}
    return render(request, "registration/login.html", context, status=429)


@never_cache
@require_POST
def logout_view(request: HttpRequest) -> HttpResponse:
    """End the session. Open pages of it hear of it at once."""
    if request.user.is_authenticated:
        record(request, "logout")
    logout(request)
    notify.changed("access")
    return redirect("login")
