"""The pages of snippets: write, check, compare, restore, remove, and files somebody put there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pages_house import Scene, person, signed_in

from vms.models import VM, Snippet, SnippetFile, SnippetVersion
from vms.operations import snippets
from vms.views.differences import LIMIT, difference

pytestmark = pytest.mark.django_db
ONE = "#cloud-config\npackages: [htop]\n"
NEW = {"storage": "local", "name": "web.yaml", "role": "user", "text": ONE, "comment": "", "base": "0"}


def text(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    return answer.content.decode()


def test_write_look_change_compare_restore(cloudy: Scene, boss: Client) -> None:
    assert "No snippets yet" in text(boss, "/snippets")
    answer = boss.post("/snippets/new", NEW | {"go": "check", "text": ONE.replace("packages", "package")})
    assert "did you mean &#x27;packages&#x27;" in answer.content.decode()
    assert not Snippet.objects.exists()
    answer = boss.post("/snippets/new", NEW | {"go": "save"})
    assert answer.headers["Location"] == "/snippets/local/web.yaml"
    page = text(boss, "/snippets/local/web.yaml")
    assert "packages: [htop]" in page
    change = {
        "role": "user",
        "text": ONE + "timezone: UTC\r\n",
        "comment": "the clock",
        "base": "1",
        "go": "save",
    }
    boss.post("/snippets/local/web.yaml/edit", change)
    assert SnippetVersion.objects.get(number=2).text == ONE + "timezone: UTC\n"
    page = text(boss, "/snippets/local/web.yaml/versions/2")
    assert "the clock" in page
    assert "added: </span>timezone: UTC" in page
    answer = boss.post("/snippets/local/web.yaml/edit", change | {"text": ONE + "locale: C\n"})
    assert answer.status_code == 409
    assert "has version 2 by operator meanwhile" in answer.content.decode().replace("&#x27;", "'")
    boss.post("/snippets/local/web.yaml/restore", {"version": "1"})
    assert SnippetVersion.objects.get(number=3).text == ONE
    assert (Path(cloudy.folder) / "snippets" / "web.yaml").read_text() == ONE
    assert "web.yaml" in text(boss, "/snippets")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": "packages: []\n"}, "begins like this"), ({"text": "#cloud-config\na: [\n"}, "line 3"),
        ({"text": ""}, "empty"), ({"name": "../../etc/cron.d/x"}, "cannot be the name"),
        ({"name": "a/b"}, "cannot be the name"), ({"role": "boot"}, "Select a valid choice"),
        ({"storage": "nowhere"}, "Select a valid choice"), ({"name": "x" * 121}, "at most 120"),
        ({"text": "#cloud-config\na: \x01\n"}, "control character"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_said_and_not_lost(
    cloudy: Scene, boss: Client, fields: dict[str, str], words: str
) -> None:
    answer = boss.post("/snippets/new", NEW | fields | {"go": "save"})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in page
    if "text" not in fields:
        assert "packages: [htop]" in page
    assert not Snippet.objects.exists()
    assert not (Path(cloudy.folder) / "snippets").exists()


def test_a_file_can_be_brought(cloudy: Scene, boss: Client) -> None:
    file = SimpleUploadedFile("mine.yaml", b"\xef\xbb\xbf#cloud-config\r\nlocale: C\r\n")
    boss.post("/snippets/new", NEW | {"go": "save", "text": "", "file": file})
    assert SnippetVersion.objects.get().text == "#cloud-config\nlocale: C\n"
    for content, words in ((b"\xff\xfe", "no UTF-8"), (b"#" * ((1 << 20) + 1), "has at most")):
        answer = boss.post(
            "/snippets/new", NEW | {"go": "save", "name": "b", "file": SimpleUploadedFile("b", content)}
        )
        assert answer.status_code == 422
        assert words in answer.content.decode()


def test_markup_stays_text(cloudy: Scene, boss: Client) -> None:
    evil = "#cloud-config\nfinal_message: '</pre><script>alert(1)</script>'\n"
    boss.post("/snippets/new", NEW | {"go": "save", "text": evil, "comment": "<b>x</b>"})
    for path in ("/snippets", "/snippets/local/web.yaml", "/snippets/local/web.yaml/versions/1",
                 "/snippets/local/web.yaml/edit"):  # fmt: skip
        page = text(boss, path)
        assert "<script>alert" not in page
        assert "<b>x</b>" not in page


def test_one_in_use_is_not_removed(cloudy: Scene, boss: Client) -> None:
    boss.post("/snippets/new", NEW | {"go": "save"})
    VM.everything.filter(pk=cloudy.vm.pk).update(
        options={**cloudy.vm.options, "cicustom": "user=local:snippets/web.yaml"}
    )
    assert "VM 101" in text(boss, "/snippets/local/web.yaml/remove")
    boss.post("/snippets/local/web.yaml/remove")
    assert Snippet.objects.count() == 1
    VM.everything.filter(pk=cloudy.vm.pk).update(options={})
    answer = boss.post("/snippets/local/web.yaml/remove")
    assert answer.headers["Location"] == "/snippets"
    assert not Snippet.objects.exists()


def test_files_somebody_put_there(cloudy: Scene, boss: Client) -> None:
    folder = Path(cloudy.folder) / "snippets"
    folder.mkdir()
    (folder / "by-hand.cfg").write_text(ONE)
    for name, problem in (("by-hand.cfg", ""), ("bad", "is a symbolic link")):
        SnippetFile.objects.create(storage=cloudy.storage, node=cloudy.node, name=name, problem=problem)
    assert "Files without versions" in text(boss, "/snippets")
    assert "packages: [htop]" in text(boss, "/snippets/local/by-hand.cfg")
    assert "is a symbolic link" in text(boss, "/snippets/local/bad")
    boss.post("/snippets/local/by-hand.cfg/file", {"go": "adopt", "role": "vendor"})
    assert Snippet.objects.get().role == "vendor"
    SnippetFile.objects.filter(name="by-hand.cfg").update(sha256="0" * 64)
    (folder / "by-hand.cfg").unlink()
    (folder / "by-hand.cfg").write_text(ONE + "# mine\n")
    assert "was changed by hand" in text(boss, "/snippets/local/by-hand.cfg")
    boss.post("/snippets/local/by-hand.cfg/file", {"go": "write"})
    assert (folder / "by-hand.cfg").read_text() == ONE
    text(boss, "/snippets/local/none", 404)


def test_rights_page_by_page(cloudy: Scene) -> None:
    secret = "#cloud-config\npassword: topsecret\n"
    version, _ = snippets.save(cloudy.storage, "web.yaml", "user", secret, None, base=0)
    nobody, auditor, user, keeper = (
        signed_in(person(name, **roles))
        for name, roles in (
            ("nobody", {"vms": "PVEVMAdmin"}), ("auditor", {"storage__local": "PVEAuditor"}),
            ("user", {"storage__local": "PVEDatastoreUser"}),
            ("keeper", {"storage__local": "PVEDatastoreAdmin"}),
        )
    )  # fmt: skip
    assert "web.yaml" not in text(nobody, "/snippets")
    for path in ("", "/edit", "/remove", "/versions/1"):
        text(nobody, f"/snippets/local/web.yaml{path}", 404)
    page = text(auditor, "/snippets/local/web.yaml")
    assert "topsecret" not in page
    assert "a password in the open" not in page
    text(auditor, "/snippets/local/web.yaml/versions/1", 404)
    assert "topsecret" in text(user, "/snippets/local/web.yaml")
    for client in (auditor, user):
        text(client, "/snippets/new", 403)
        text(client, "/snippets/local/web.yaml/edit", 403)
        client.post("/snippets/local/web.yaml/edit", {"role": "user", "text": ONE, "base": "1", "go": "save"})
        client.post("/snippets/local/web.yaml/restore", {"version": "1"})
        client.post("/snippets/local/web.yaml/remove")
        client.post("/snippets/local/web.yaml/file", {"go": "write"})
        client.post("/snippets/local/web.yaml/file", {"go": "adopt"})
    assert [row.pk for row in SnippetVersion.objects.all()] == [version.pk]
    answer = keeper.post(
        "/snippets/local/web.yaml/edit", {"role": "user", "text": ONE, "base": "1", "go": "save"}
    )
    assert answer.status_code == 302


def test_the_list_asks_no_query_a_row(
    cloudy: Scene, boss: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        snippets.save(cloudy.storage, f"s{number}.yaml", "user", ONE, None, base=0)
    with django_assert_max_num_queries(15):
        text(boss, "/snippets?part=rows")


def test_differences() -> None:
    lines = [(line.mark, line.text) for line in difference("a\nb\nc\n", "a\nx\nc\n") or []]
    assert lines == [("", "a"), ("\N{MINUS SIGN}", "b"), ("+", "x"), ("", "c")]
    assert difference("a", "a") == []
    assert difference("x\n" * (LIMIT + 1), "") is None
    far = difference("".join(f"{n}\n" for n in range(40)), "".join(f"{n}\n" for n in range(1, 39)))
    assert [line.mark for line in far or []].count("…") == 1
    assert [line.text for line in difference("--- a\n", "+++ a\n") or []] == ["--- a", "+++ a"]
