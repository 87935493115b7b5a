"""What must never appear in templates and scripts, and what the tokens sheet alone may hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted(ROOT.glob("templates/**/*.html"))
SCRIPTS = sorted(ROOT.glob("static/js/**/*.js"))
SOURCES = [path for name in ("vms", "console", "pvelite") for path in sorted((ROOT / name).rglob("*.py"))]

BANNED = {
    "templates": (
        r"\|\s*safe\b", r"{%\s*autoescape\s+off", r"\bhx-on\b", r"<style\b", r"\sstyle\s*=", r"javascript:",
        r"\son[a-z]+\s*=\s*[\"']", r"hx-vals\s*=\s*[\"']js:", r"<script(?![^>]*\ssrc=)[^>]*>",
    ),
    "scripts": (
        r"\.(inner|outer)HTML\b", r"insertAdjacentHTML", r"document\.write", r"\beval\(", r"new Function",
        r"srcdoc",
    ),
    "sources": (r"\bmark_safe\b", r"\bcsrf_exempt\b", r"shell=True", r"SafeString\(", r"\.safe\b"),
}  # fmt: skip


def offences(paths: list[Path], patterns: tuple[str, ...]) -> list[str]:
    found = []
    for path in paths:
        text = path.read_text()
        for pattern in patterns:
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in re.finditer(pattern, text)]
    return found


@pytest.mark.parametrize(
    ("kind", "paths"), [("templates", TEMPLATES), ("scripts", SCRIPTS), ("sources", SOURCES)]
)
def test_nothing_banned(kind: str, paths: list[Path]) -> None:
    assert paths
    assert offences(paths, BANNED[kind]) == []


def test_the_lint_itself_finds_what_it_looks_for() -> None:
    for text in (
        "{{ x|safe }}",
        "<b hx-on:click='x'>",
        "<p style='x'>",
        "<script>x</script>",
        '<a onclick="x">',
    ):
        assert any(re.search(pattern, text) for pattern in BANNED["templates"]), text
    assert not any(
        re.search(pattern, '<script defer src="/x.js"></script>') for pattern in BANNED["templates"]
    )


def test_raw_colours_live_in_the_tokens_only() -> None:
    sheets = [path for path in ROOT.glob("static/css/*.css") if path.name != "tokens.css"]
    assert sheets
    assert offences(sheets, (r"#[0-9a-fA-F]{3,8}\b(?=[;\s,)])", r"\brgba?\(", r"\bhsla?\(")) == []


def test_every_form_that_posts_has_its_token() -> None:
    for path in TEMPLATES:
        text = path.read_text()
        for form in re.finditer(r"<form\b[^>]*method=\"post\".*?</form>", text, re.DOTALL | re.IGNORECASE):
            assert "csrf_token" in form[0], path


def test_templates_stay_short() -> None:
    assert [str(path) for path in TEMPLATES if len(path.read_text().splitlines()) > 150] == []


def test_the_two_sheets_stay_small() -> None:
    assert sum((ROOT / "static/css" / name).stat().st_size for name in ("tokens.css", "app.css")) < 32_000


def luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_words_have_contrast_in_light_and_dark() -> None:
    """WCAG AA: 4.5 to 1 for every text colour on every surface it stands on."""
    text = (ROOT / "static/css/tokens.css").read_text()
    tokens = {
        name: (light, dark)
        for name, light, dark in re.findall(
            r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text
        )
    }
    inks = ("ink", "muted", "accent", "running", "stopped", "paused", "suspended", "error")
    pairs = [(ink, surface) for ink in inks for surface in ("bg", "surface", "raised")]
    pairs += [(name, f"{name}-soft") for name in ("running", "stopped", "paused", "suspended", "error")]
    pairs += [("ink", name) for name in ("hover", "selected", "accent-soft", "error-soft")]
    for ink, surface in pairs:
        for shade in (0, 1):
            assert contrast(tokens[ink][shade], tokens[surface][shade]) >= 4.5, (ink, surface, shade)
    fill = re.search(r"--on-fill: (#[0-9a-f]{6})", text)
    assert fill is not None
    for name in ("accent-fill", "accent-fill-hover", "error-fill", "error-fill-hover"):
        assert all(contrast(fill[1], tokens[name][shade]) >= 4.5 for shade in (0, 1)), name
