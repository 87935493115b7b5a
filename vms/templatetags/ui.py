"""What templates need to speak our language: icons, sizes, times and versioned addresses of our own files."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.http import QueryDict
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

STEPS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@cache
def _address(path: str) -> str:
    """Address and checksum of one of our own static files, once a process."""
    file = Path(settings.BASE_DIR) / "static" / path
    version = f"{zlib.crc32(file.read_bytes()):08x}" if file.is_file() else "0"
    return f"{static(path)}?v={version}"


@register.simple_tag
def asset(path: str) -> str:
    """The address of one of our own static files, so that a new version is never read from a cache."""
    return _address(path)


@register.simple_tag
@cache
def icon(name: str, label: str = "") -> SafeString:
    """One symbol of the sprite. Decoration unless ``label`` says what it means."""
    address = asset("img/icons.svg")
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}#{}"></use></svg>',
            label,
            address,
            name,
        )
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', address, name)


@register.filter
def size(value: Any) -> str:
    """Bytes as ``32 GiB``, ``1.5 MiB``; three digits at most, never a bare number."""
    if value in (None, ""):
        return "unknown"
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    digits = 0 if number >= 100 or number == int(number) else 1
    return f"{number:.{digits}f} {unit}".replace(".0 ", " ")


@register.filter
def percent_of(value: Any, total: Any) -> int:
    """A part in percent of the whole; 0 where the whole is nothing."""
    return round(100 * float(value or 0) / float(total)) if total else 0


@register.filter
def mib(value: Any) -> str:
    """MiB as a size."""
    return size(float(value) * (1 << 20)) if value not in (None, "") else "unknown"


@register.filter
def duration(seconds: Any) -> str:
    """Seconds as ``0.4 s``, ``3 min 5 s``, ``3 d 4 h``: the two largest units."""
    if seconds in (None, ""):
        return ""
    rest = float(seconds)
    if rest < 10:
        return f"{rest:.1f} s"
    words = []
    for step, unit in STEPS:
        count, rest = divmod(int(rest), step)
        if count:
            words.append(f"{count} {unit}")
        if len(words) == 2 or (words and not count):
            break
    return " ".join(words[:2]) or "0 s"


@register.filter
def elapsed(moment: datetime | None) -> str:
    """How long ago, as a duration."""
    if moment is None:
        return ""
    return duration(int(max(0.0, (timezone.now() - moment).total_seconds())) or 1)


@register.simple_tag
def ago(moment: datetime | None, suffix: str = " ago") -> SafeString | str:
    """A relative time with the exact one on hover. ``suffix`` empty says *for how long* instead."""
    if moment is None:
        return "never" if suffix else ""
    return format_html("{}{}{}</time>", _exactly(moment), elapsed(moment), suffix)


@lru_cache(maxsize=1024)
def _exactly(moment: datetime) -> SafeString:
    """The beginning of an element that says a time in words: the exact one, for machines and on hover."""
    exact = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">',
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M:%S %Z"),
    )  # fmt: skip


@register.simple_tag
def clock(moment: datetime | None) -> SafeString | str:
    """``14:02:11`` today, ``Nov 21 14:02`` earlier, the exact time on hover."""
    if moment is None:
        return ""
    exact = timezone.localtime(moment)
    today = exact.date() == timezone.localdate()
    shown = exact.strftime("%H:%M:%S" if today else "%b %-d %H:%M")
    return format_html("{}{}</time>", _exactly(moment), shown)


@register.filter
def item(mapping: Mapping[str, Any], key: str) -> Any:
    """``mapping[key]`` for a key that is a variable."""
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """The present query string with some parameters changed (None or empty removes one)."""
    given = context["request"].GET.copy() if "request" in context else QueryDict(mutable=True)
    given.pop("part", None)
    for name, value in changes.items():
        if value in (None, ""):
            given.pop(name, None)
        else:
            given[name] = str(value)
    return f"?{given.urlencode()}" if given else "?"
