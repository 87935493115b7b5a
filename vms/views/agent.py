"""Questions to a guest's agent: a dialog each (a page without JavaScript); an answer has its own address."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from vms.errors import AccessError, ConfigError, VMError
from vms.hardware.guest import windows_version
from vms.models import VM, Task
from vms.operations import agent
from vms.operations.agentcommands import AUDIT, COMMANDS, EXEC_TIMEOUT, HOLD, decoded
from vms.views.agentcard import MENU, refusal
from vms.views.doors import sentence, signed_in, vm_or_404, wants_fragment

QUERIES = tuple(
    command for command in COMMANDS.values() if command.privilege == AUDIT and command.name != "ping"
)
SHOWN = 256 << 10
"""Bytes of a file that a page shows; the whole of it is there to be saved."""
OK = {
    "exec": "Run", "file-read": "Read", "file-write": "Write", "set-user-password": "Set password",
    "fstrim": "Trim", "fsfreeze-freeze": "Freeze", "query": "Ask",
}  # fmt: skip


@signed_in
@require_http_methods(["GET", "POST"])
def agent_ask(request: HttpRequest, vmid: int, command: str) -> HttpResponse:
    """What to ask; by POST it is asked, and what comes of it is shown."""
    vm = vm_or_404(request, vmid)
    if command not in MENU and command != "exec-status":
        raise Http404
    if request.method == "GET":
        return question(request, vm, command)
    try:
        wanted, given = request_of(request, vm, command)
        task = agent.ask(wanted, vm=vm, user=request.user, **given)
    except VMError as error:
        code = 403 if isinstance(error, AccessError) else 422 if isinstance(error, ConfigError) else 409
        return question(request, vm, command, said=sentence(error), status=code)
    if wants_fragment(request) and request.headers.get("HX-Target") == "agent-answer":
        return render(request, "vms/agent/_answer.html", answer(request.user, vm, task))
    return go_to(request, vm, task)


def go_to(request: HttpRequest, vm: VM, task: Task) -> HttpResponse:
    """To the answer's own page."""
    response = redirect("vms:agent_answer", vmid=vm.vmid, pk=task.pk)
    if wants_fragment(request):
        return HttpResponse(status=204, headers={"HX-Redirect": response["Location"]})
    return response


def question(
    request: HttpRequest, vm: VM, command: str, *, said: str = "", status: int = 200
) -> HttpResponse:
    """The dialog or page; what was typed stays, a password does not."""
    known = COMMANDS.get(command)
    context = {
        "vm": vm, "tab": "summary", "command": command, "said": said, "queries": QUERIES,
        "title": known.label if known else "Ask for details", "ok": OK.get(command, "Ask"),
        "reason": "" if said or command == "exec-status" else refusal(request.user, vm, command),
        "given": request.POST, "timeout": EXEC_TIMEOUT, "hold": HOLD, "windows": windows_guest(vm),
    }  # fmt: skip
    if wants_fragment(request) and said:
        text = {"text": said, "tone": "error"}
        return render(request, "components/toast.html", text, status=status)
    name = "dialog" if wants_fragment(request) else "ask"
    return render(request, f"vms/agent/{name}.html", context, status=status)


def windows_guest(vm: VM) -> bool:
    """Whether its commands are Windows'."""
    return bool(windows_version(vm.ostype))


def request_of(request: HttpRequest, vm: VM, command: str) -> tuple[str, dict[str, Any]]:
    """The command and what it is given. Raises :class:`ConfigError` on the field that cannot stand."""
    form = request.POST
    if command == "query":
        wanted = str(form.get("query", ""))
        if wanted not in {each.name for each in QUERIES}:
            raise ConfigError("query", "choose one of the list")
        return wanted, {}
    if command == "exec":
        text = form.get("input", "").replace("\r\n", "\n")
        argv = words_of(str(form.get("line", "")), shell="shell" in form, windows=windows_guest(vm))
        return command, {
            "argv": argv, "input": text.encode(), "timeout": form.get("timeout") or EXEC_TIMEOUT,
        }  # fmt: skip
    fields = {
        "exec-status": ("pid",), "file-read": ("file",), "file-write": ("file",),
        "set-user-password": ("username", "password", "crypted"), "fsfreeze-freeze": ("hold",),
    }.get(command, ())  # fmt: skip
    given: dict[str, Any] = {name: form[name] for name in fields if form.get(name)}
    if command == "file-write":
        given["content"] = form.get("content", "").replace("\r\n", "\n").encode()
    if command == "set-user-password" and form.get("password") != form.get("again"):
        raise ConfigError("again", "the two passwords are not the same")
    return command, given


def words_of(line: str, *, shell: bool, windows: bool) -> list[str]:
    """The program and its arguments. Nothing of ours reads it: with ``shell`` the guest's own does."""
    if not line.strip():
        raise ConfigError("command", "is missing: say which program to run")
    if shell:
        return ["cmd.exe", "/c", line] if windows else ["/bin/sh", "-c", line]
    try:
        return shlex.split(line, posix=not windows)
    except ValueError as error:
        raise ConfigError("command", f"cannot be split into words: {error}") from None


@signed_in
@require_GET
def agent_answer(request: HttpRequest, vmid: int, pk: int) -> HttpResponse:
    """What the agent answered. ``?part=answer`` that alone, ``?save=1`` the file that was read."""
    vm = vm_or_404(request, vmid)
    task = Task.objects.filter(pk=pk, vm=vm, type=agent.TYPE).first()
    if task is None:
        raise Http404("There is no such answer, or you may not see it.")
    context = answer(request.user, vm, task)
    if request.GET.get("save") and context["raw"] is not None:
        name = {"Content-Disposition": f'attachment; filename="guest-file-{task.pk}"'}
        return HttpResponse(context["raw"], content_type="application/octet-stream", headers=name)
    part = request.GET.get("part") == "answer"
    return render(request, f"vms/agent/{'_answer' if part else 'answer'}.html", context)


def answer(user: Any, vm: VM, task: Task) -> dict[str, Any]:
    """What the answer's template shows. Raises :class:`PermissionDenied` unless the user may ask the same."""
    task.refresh_from_db()
    try:
        found = agent.answer_of(task, user)
        lost = ""
    except AccessError as error:
        raise PermissionDenied(str(error)) from error
    except VMError as error:
        found, lost = None, sentence(error)
    command = str(task.params.get("command"))
    result = found["result"] if found else None
    raw = decoded(result["content"]) if result and command == "file-read" else None
    text, words = told(command, result, raw) if found else ("", "")
    return {
        "vm": vm, "tab": "summary", "task": task, "command": command, "result": result, "found": bool(found),
        "text": text, "words": words, "raw": raw, "lost": lost,
        "about": task.params.get("subject", ""), "title": COMMANDS[command].label,
        "failed": task.status in (Task.Status.ERROR, Task.Status.CANCELLED),
    }  # fmt: skip


def told(command: str, result: Any, raw: bytes | None) -> tuple[str, str]:
    """The answer as text to copy, and a sentence about it."""
    if raw is not None:
        return file_text(result, raw)
    if command in ("exec", "exec-status"):
        return "", ended(result)
    sentences: Mapping[str, str] = {
        "ping": "It answers.",
        "set-user-password": "The password is set.",
        "fsfreeze-status": f"The file systems are {result}.",
        "fsfreeze-freeze": f"{result} file systems frozen.",
        "fsfreeze-thaw": f"{result} file systems thawed.",
    }  # fmt: skip
    if command == "file-write":
        return "", f"{result['bytes-written']} bytes were written."
    if command in sentences:
        return "", sentences[command]
    return json.dumps(result, indent=2, ensure_ascii=False)[:SHOWN], ""


def file_text(result: Mapping[str, Any], raw: bytes) -> tuple[str, str]:
    """A file's beginning as text, when it is text."""
    size = f"{result['bytes-read']} bytes"
    words = f"The first {size}; there are more." if result["truncated"] else f"{size}."
    try:
        text = raw[:SHOWN].decode(errors="strict" if len(raw) <= SHOWN else "replace")
    except UnicodeDecodeError:
        return "", f"{words} It is not text: save it to look at it."
    return ("", f"{words} It is not text: save it to look at it.") if "\0" in text else (text, words)


def ended(result: Mapping[str, Any]) -> str:
    """How a program ended."""
    if not result.get("exited"):
        return f"It runs as process {result.get('pid')} of the guest."
    if "signal" in result:
        return f"It was ended by signal {result['signal']}."
    return f"It ended with exit code {result.get('exitcode', 'unknown')}."
