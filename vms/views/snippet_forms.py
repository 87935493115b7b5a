"""Writing a snippet: a form with the text, or a file instead of it; it is looked at before it is kept."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from vms.config import snippets as rules
from vms.config.yamlread import Remark
from vms.errors import ConfigError, VMError
from vms.models import Snippet, Storage
from vms.operations import snippets
from vms.views.doors import sentence, signed_in
from vms.views.snippets import NO_WRITE, seen, snippet_or_404, write_reason

STARTS = {
    "user": "#cloud-config\npackages:\n  - htop\nruncmd:\n  - [touch, /etc/hello]\n",
    "vendor": "#cloud-config\n",
    "network": "version: 2\nethernets:\n  eth0:\n    dhcp4: true\n",
    "meta": "instance-id: one\n",
}
"""What a new text begins as."""


class SnippetForm(forms.Form):
    """``storage`` and ``name`` only for a new one."""

    storage = forms.ChoiceField(help_text="Where VMs find it, as STORAGE:snippets/NAME.")
    name = forms.CharField(
        max_length=rules.NAME_LENGTH, help_text="Letters, digits and . _ + -, for example web.yaml."
    )
    role = forms.ChoiceField(
        label="Part",
        choices=Snippet.Role.choices,
        help_text="Which part of a seed it replaces; it is checked as that.",
    )
    text = forms.CharField(
        required=False, strip=False,
        widget=forms.Textarea(attrs={"rows": 18, "spellcheck": "false", "class": "mono", "wrap": "off"}),
        help_text="User and vendor data begin with '#cloud-config' or with '#!' and a program.",
    )  # fmt: skip
    comment = forms.CharField(
        required=False, max_length=200, help_text="What is new in this version, for the history."
    )

    def __init__(
        self, storages: list[Storage], data: Any = None, *, initial: Any = None, fixed: bool = False
    ) -> None:
        super().__init__(data, auto_id="s-%s", initial=initial)
        if fixed:
            del self.fields["storage"], self.fields["name"]
        else:
            self.fields["storage"] = forms.ChoiceField(
                choices=[(row.name, row.name) for row in storages],
                help_text=self.fields["storage"].help_text,
            )


@signed_in
@require_http_methods(["GET", "POST"])
def snippet_new(request: HttpRequest) -> HttpResponse:
    """A new snippet. ``?role=`` and ``?storage=`` begin the form."""
    storages = seen(request.user, snippets.WRITE)
    if not storages:
        return render(request, "vms/snippet_edit.html", {"denied": NO_WRITE}, status=403)
    if request.method == "GET":
        role = request.GET.get("role", "user")
        first = {"role": role, "text": STARTS.get(role, ""), "storage": request.GET.get("storage", "")}
        return shown(request, SnippetForm(storages, initial=first), None)
    return answer(request, SnippetForm(storages, request.POST), None, storages)


@signed_in
@require_http_methods(["GET", "POST"])
def snippet_edit(request: HttpRequest, storage: str, name: str) -> HttpResponse:
    """Another version of a snippet."""
    found = snippet_or_404(request, storage, name)
    denied = write_reason(request.user, found.storage)
    if denied:
        return render(request, "vms/snippet_edit.html", {"denied": denied}, status=403)
    last = snippets.current(found)
    if request.method == "GET":
        first = {"role": found.role, "text": last.text}
        return shown(request, SnippetForm([], initial=first, fixed=True), found, base=last.number)
    return answer(request, SnippetForm([], request.POST, fixed=True), found, [found.storage])


def answer(
    request: HttpRequest, form: SnippetForm, found: Snippet | None, storages: list[Storage]
) -> HttpResponse:
    """Look at the text (``go=check``) or keep it."""
    given = request.POST.get("base", "0")
    base = int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 0
    if not form.is_valid():
        return shown(request, form, found, base=base, status=422)
    try:
        text = text_of(request, form)
        if request.POST.get("go") == "check":
            return shown(
                request, form, found, base=base, remarks=rules.check(form.cleaned_data["role"], text)
            )
        storage = (
            found.storage if found else next(s for s in storages if s.name == form.cleaned_data["storage"])
        )
        name = found.name if found else form.cleaned_data["name"]
        version, _ = snippets.save(
            storage, name, form.cleaned_data["role"], text, request.user,
            base=base if found else 0, comment=form.cleaned_data["comment"],
        )  # fmt: skip
    except ConfigError as error:
        return shown(request, form, found, base=base, error=error, status=422)
    except VMError as error:
        return shown(request, form, found, base=base, said=sentence(error), status=409)
    messages.info(request, f"{name} is kept as version {version.number}.")
    return redirect("vms:snippet", storage.name, name)


def text_of(request: HttpRequest, form: SnippetForm) -> str:
    """The text: of the file when one was chosen, else of the field. Raises :class:`ConfigError`."""
    file = request.FILES.get("file")
    if file is not None:
        text = rules.decode(file.read())
        sent = request.POST.copy()
        sent["text"] = text  # so that the form shows what was brought
        form.data = sent
        return text
    return rules.decode(form.cleaned_data["text"].encode(errors="surrogatepass"))


def shown(
    request: HttpRequest, form: SnippetForm, found: Snippet | None, *, base: int = 0,
    remarks: list[Remark] | None = None, error: ConfigError | None = None, said: str = "", status: int = 200,
) -> HttpResponse:  # fmt: skip
    """The form, with what there is to say about the text."""
    if error is not None:
        if error.key == "name" and "name" in form.fields:
            form.add_error("name", sentence(ConfigError("name", error.text, hint=error.hint)))
        else:
            role = form.cleaned_data.get("role", "user")
            remarks = rules.check(role, str(form.data.get("text", "")))
            form.add_error("text", error.text[:1].upper() + error.text[1:] + ".")
    context = {
        "form": form, "snippet": found, "base": base, "remarks": remarks, "said": said,
        "looked": remarks is not None and error is None,
        "fine": remarks is not None and not [r for r in remarks if r.severity != "info"],
    }  # fmt: skip
    return render(request, "vms/snippet_edit.html", context, status=status)
