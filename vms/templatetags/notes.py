"""Notes in Markdown, made safe by construction.

Nothing a person wrote is ever marked as safe. markdown-it-py only *parses*; the page is built here, node by
node, with ``format_html``, which escapes every text it is given. So what can appear is what stands in the
tables below: no raw HTML, no attribute but a checked ``href``, no picture (a picture is shown as a link).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

register = template.Library()

_parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])

SCHEMES = frozenset({"http", "https", "mailto"})
SHAPES = {
    "root": "{}", "inline": "{}",
    "blockquote": "<blockquote>{}</blockquote>",
    "strong": "<strong>{}</strong>", "em": "<em>{}</em>", "s": "<s>{}</s>",
    "bullet_list": "<ul>{}</ul>", "ordered_list": "<ol>{}</ol>", "list_item": "<li>{}</li>",
    "table": '<div class="table-wrap"><table class="table">{}</table></div>', "thead": "<thead>{}</thead>",
    "tbody": "<tbody>{}</tbody>", "tr": "<tr>{}</tr>", "th": '<th scope="col">{}</th>', "td": "<td>{}</td>",
}  # fmt: skip
"""Node type → its element, around what is inside."""
LEAVES = {
    "text": "{}", "text_special": "{}", "html_inline": "{}", "html_block": "{}", "softbreak": "<br>",
    "hardbreak": "<br>", "hr": "<hr>", "code_inline": "<code>{}</code>",
    "code_block": "<pre><code>{}</code></pre>", "fence": "<pre><code>{}</code></pre>",
}  # fmt: skip
"""Node type → its element, around the text itself."""
TOP, DEEPEST = 3, 6
"""A note's own heading is of this level: the page and its card have the two above."""


@register.filter
def markdown(text: str) -> SafeString:
    """Markdown as HTML."""
    return _node(SyntaxTreeNode(_parser.parse(text or "")))


def _node(node: SyntaxTreeNode) -> SafeString:
    if node.type in LEAVES:
        return format_html(LEAVES[node.type], node.content)
    if node.type in SPECIAL:
        return SPECIAL[node.type](node)
    return format_html(SHAPES.get(node.type, "{}"), _inside(node))


def _inside(node: SyntaxTreeNode) -> SafeString:
    return format_html_join("", "{}", ((_node(child),) for child in node.children))


def _paragraph(node: SyntaxTreeNode) -> SafeString:
    """The items of a list without blank lines between them hold no paragraphs."""
    return format_html("{}" if node.hidden else "<p>{}</p>", _inside(node))


def _heading(node: SyntaxTreeNode) -> SafeString:
    level = min(TOP - 1 + int(node.tag[1:]), DEEPEST)
    return format_html("<h{0}>{1}</h{0}>", level, _inside(node))


def _link(node: SyntaxTreeNode) -> SafeString:
    return anchor(str(node.attrs.get("href", "")), _inside(node))


def _image(node: SyntaxTreeNode) -> SafeString:
    """A picture would be fetched by everybody who opens the page; a link is fetched by who wants it."""
    address = str(node.attrs.get("src", ""))
    return anchor(address, format_html("{}", node.content or address))


def anchor(address: str, words: SafeString) -> SafeString:
    """A link, if its address is one of the web, of mail or of this site; else only its words."""
    if not allowed(address):
        return words
    return format_html('<a href="{}" rel="noopener noreferrer nofollow">{}</a>', address, words)


def allowed(address: str) -> bool:
    """Whether a link may lead there."""
    try:
        scheme = urlsplit(address).scheme
    except ValueError:
        return False
    return scheme in SCHEMES or (not scheme and address.startswith("/") and address[1:2] not in ("/", "\\"))


SPECIAL: dict[str, Callable[[SyntaxTreeNode], SafeString]] = {
    "paragraph": _paragraph, "heading": _heading, "link": _link, "image": _image
}  # fmt: skip
