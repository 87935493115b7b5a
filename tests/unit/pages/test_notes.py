"""Notes: Markdown that people know, and nothing a hostile one could do with it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vms.templatetags.notes import LEAVES, SHAPES, allowed, markdown

TAGS = set(re.findall(r"<([a-z]+)", " ".join([*SHAPES.values(), *LEAVES.values()])))
TAGS |= {"p", "a", *(f"h{level}" for level in range(3, 7))}


class Looker(HTMLParser):
    """Collects every element and attribute a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def look(html: str) -> list[tuple[str, dict[str, str | None]]]:
    looker = Looker()
    looker.feed(html)
    looker.close()
    return looker.seen


def harmless(html: str) -> None:
    """Only our elements, only our attributes, only links that may be."""
    for tag, attributes in look(html):
        assert tag in TAGS, html
        assert set(attributes) <= {"href", "rel", "class", "scope"}, html
        if tag == "a":
            assert allowed(str(attributes["href"])), html
            assert attributes["rel"] == "noopener noreferrer nofollow"
        if "class" in attributes:
            assert attributes["class"] in ("table-wrap", "table")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Plain **bold** *soft* ~~gone~~ `code`",
         "<p>Plain <strong>bold</strong> <em>soft</em> <s>gone</s> <code>code</code></p>"),
        ("# Top\n\n##### Deep", "<h3>Top</h3><h6>Deep</h6>"),
        ("- one\n- two\n\n1. a", "<ul><li>one</li><li>two</li></ul><ol><li>a</li></ol>"),
        ("- one\n\n- two", "<ul><li><p>one</p></li><li><p>two</p></li></ul>"),
        ("> said\n\n---", "<blockquote><p>said</p></blockquote><hr>"),
        ("line\nby line", "<p>line<br>by line</p>"),
        ("```sh\nrm -rf <x>\n```", "<pre><code>rm -rf &lt;x&gt;\n</code></pre>"),
        ("[w](https://example.org/?a=1&b=2)",
         '<p><a href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow">w</a></p>'),
        ("[in](/vms/100)", '<p><a href="/vms/100" rel="noopener noreferrer nofollow">in</a></p>'),
        ("<mailto:a@b.c>",
         '<p><a href="mailto:a@b.c" rel="noopener noreferrer nofollow">mailto:a@b.c</a></p>'),
        ("|a|b|\n|-|-|\n|1|2|",
         '<div class="table-wrap"><table class="table"><thead><tr><th scope="col">a</th>'
         '<th scope="col">b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>'),
        ("", ""),
    ],
)  # fmt: skip
def test_markdown_that_people_know(text: str, html: str) -> None:
    assert markdown(text) == html
    harmless(html)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        '<p style="position:fixed">x</p>',
        "<style>body{display:none}</style>",
        "<iframe src=https://evil.example></iframe>",
        "<!-- <script>alert(1)</script> -->",
        "</div></section><form action=https://evil.example><input name=p>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "`<script>`",
        '```"><script>alert(1)</script>\nx\n```',
        "# <svg onload=alert(1)>",
        "[<b onclick=alert(1)>](https://example.org)",
        '[x](https://example.org "onmouseover=alert(1)")',
        '[x](https://example.org/"onmouseover="alert(1))',
        "{{ 7|add:7 }} {% load ui %}",
        "\x00<\x00script>",
    ],
)
def test_what_is_no_markdown_is_shown_as_text(text: str) -> None:
    html = markdown(text)
    harmless(html)
    assert "<script" not in html.lower()


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java&#x73;cript:alert(1)", "&#106;avascript:alert(1)",
        "javascript&colon;alert(1)", "%6Aavascript:alert(1)", "vbscript:msgbox(1)", "file:///etc/passwd",
        "data:text/html,<script>alert(1)</script>", "data:image/svg+xml;base64,PHN2Zz4=", "blob:x",
        "//evil.example/x", "/\\evil.example", "\\\\evil.example", "x:y", "relative/page", "#fragment",
        "http://[broken", "java\\\nscript:alert(1)", "<javascript:alert(1)>",
    ],
)  # fmt: skip
def test_links_that_may_not_be(address: str) -> None:
    for text in (
        f"[words]({address})",
        f"![words]({address})",
        f"<{address}>",
        f"[words]: {address}\n\n[words]",
    ):
        harmless(markdown(text))
        assert not any(
            str(found.get("href", "")).lower().lstrip().startswith(("javascript", "data", "vbscript", "//"))
            for _, found in look(markdown(text))
        )


def test_a_picture_from_elsewhere_is_not_fetched() -> None:
    html = markdown("![a cat](https://elsewhere.example/cat.png)")
    assert html == (
        '<p><a href="https://elsewhere.example/cat.png" rel="noopener noreferrer nofollow">a cat</a></p>'
    )


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("<>\"'&;:/\\()[]!`*_~#|-\n\tjavscriptonerhtp=x1 \x00é"), max_size=120)
)
def test_whatever_is_written(text: str) -> None:
    harmless(markdown(text))


def test_nesting_without_end_is_no_burden() -> None:
    for text in ("> " * 4000, "- " * 4000, "*" * 8000, "[" * 8000, "![" * 4000 + "](/)" * 100):
        harmless(markdown(text))
