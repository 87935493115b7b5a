"""Keys by QEMU's names, and a text as the strokes that type it on a keyboard of some layout.

A guest is sent *keys*, never characters: which character a key gives is decided by the layout set inside the
guest. So whoever types a text must say that layout; :mod:`vms.qemu.layouts` has the tables. Pure.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from vms.errors import ConfigError

Stroke = tuple[str, ...]
"""Keys pressed in order and let go in reverse, by QEMU's names: ``("shift", "a")``."""

ROWS: tuple[tuple[str, ...], ...] = (
    ("grave_accent", *"1234567890", "minus", "equal"),
    (*"qwertyuiop", "bracket_left", "bracket_right"),
    (*"asdfghjkl", "semicolon", "apostrophe", "backslash"),
    ("less", *"zxcvbnm", "comma", "dot", "slash"),
)
"""The keys that write, by their places. ``less`` stands beside the left shift key on European keyboards."""
SHIFT, THIRD = "shift", "alt_r"
LEVELS: tuple[Stroke, ...] = ((), (SHIFT,), (THIRD,), (SHIFT, THIRD))
ALWAYS: Mapping[str, Stroke] = {"\n": ("ret",), "\t": ("tab",), " ": ("spc",)}
MARKS: Mapping[str, str] = {
    "\u0300": "`", "\u0301": "´", "\u0302": "^", "\u0303": "~", "\u0308": "¨", "\u030a": "°", "\u0327": "¸",
}  # fmt: skip
"""A combining mark → the key cap it is found under."""
NAMED = 8
"""How many characters that cannot be typed are named."""

CODES: Mapping[str, str] = {
    **{letter: f"Key{letter.upper()}" for letter in "abcdefghijklmnopqrstuvwxyz"},
    **{digit: f"Digit{digit}" for digit in "0123456789"},
    **{f"f{number}": f"F{number}" for number in range(1, 25)},
    **{f"kp_{digit}": f"Numpad{digit}" for digit in "0123456789"},
    "shift": "ShiftLeft", "shift_r": "ShiftRight", "ctrl": "ControlLeft", "ctrl_r": "ControlRight",
    "alt": "AltLeft", "alt_r": "AltRight", "meta_l": "MetaLeft", "meta_r": "MetaRight",
    "menu": "ContextMenu", "compose": "ContextMenu",
    "esc": "Escape", "tab": "Tab", "ret": "Enter", "spc": "Space", "backspace": "Backspace",
    "minus": "Minus", "equal": "Equal", "bracket_left": "BracketLeft", "bracket_right": "BracketRight",
    "semicolon": "Semicolon", "apostrophe": "Quote", "grave_accent": "Backquote", "backslash": "Backslash",
    "comma": "Comma", "dot": "Period", "slash": "Slash", "less": "IntlBackslash", "ro": "IntlRo",
    "yen": "IntlYen", "henkan": "Convert", "muhenkan": "NonConvert", "hiragana": "KanaMode",
    "caps_lock": "CapsLock", "num_lock": "NumLock", "scroll_lock": "ScrollLock",
    "print": "PrintScreen", "sysrq": "PrintScreen", "pause": "Pause",
    "insert": "Insert", "delete": "Delete", "home": "Home", "end": "End", "pgup": "PageUp",
    "pgdn": "PageDown", "up": "ArrowUp", "down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight",
    "kp_divide": "NumpadDivide", "kp_multiply": "NumpadMultiply", "kp_subtract": "NumpadSubtract",
    "kp_add": "NumpadAdd", "kp_enter": "NumpadEnter", "kp_decimal": "NumpadDecimal",
    "power": "Power", "sleep": "Sleep", "wake": "WakeUp", "volumeup": "AudioVolumeUp",
    "volumedown": "AudioVolumeDown", "audiomute": "AudioVolumeMute",
}  # fmt: skip
"""QEMU's name of a key → a browser's name of the same place (``KeyboardEvent.code``)."""
ALSO: Mapping[str, str] = {"<": "less", "enter": "ret", "return": "ret", "escape": "esc", "space": "spc",
                           "del": "delete", "win": "meta_l", "super": "meta_l", "altgr": "alt_r"}  # fmt: skip
"""What people write for some of them."""
MOST_KEYS = 6


def chord(text: str) -> Stroke:
    """``ctrl-alt-delete`` as keys. Raises :class:`ConfigError` naming the word that is no key."""
    words = [word.strip() for word in text.strip().lower().split("-")]
    if not all(words):
        raise ConfigError("key", "write key names with '-' between them, like ctrl-alt-delete")
    if len(words) > MOST_KEYS:
        raise ConfigError("key", f"at most {MOST_KEYS} keys are pressed together")
    keys = tuple(ALSO.get(word, word) for word in words)
    for word, key in zip(words, keys, strict=True):
        if key not in CODES:
            hint = "A letter, a digit, or a name like ret, spc, esc, tab, delete, f1, up, ctrl, alt, shift."
            raise ConfigError("key", f"'{word[:24]}' is no key", hint=hint)
    if len(set(keys)) != len(keys):
        raise ConfigError("key", "one key cannot be pressed twice at once")
    return keys


@dataclass(frozen=True)
class Layout:
    """What the writing keys of one keyboard give. ``rows`` has for each of :data:`ROWS` up to four texts
    (plain, Shift, AltGr, both), a blank standing for nothing; ``dead`` are the caps that wait for the next.
    """

    name: str
    label: str
    rows: tuple[tuple[str, ...], ...]
    dead: str = ""

    @cached_property
    def _caps(self) -> tuple[dict[str, Stroke], dict[str, Stroke]]:
        """Character → stroke, of the live keys and of the dead ones. The simplest stroke wins."""
        live: dict[str, Stroke] = dict(ALWAYS)
        dead: dict[str, Stroke] = {}
        for level, held in enumerate(LEVELS):
            for keys, texts in zip(ROWS, self.rows, strict=True):
                row = texts[level] if level < len(texts) else ""
                for key, sign in zip(keys, row, strict=False):
                    if sign != " ":
                        found = dead if sign in self.dead and not self._twice(sign, level) else live
                        found.setdefault(sign, (*held, key))
        return live, dead

    def _twice(self, sign: str, level: int) -> bool:
        """Whether a dead cap stands on a second key too, further up: that one writes at once."""
        places = [at for texts in self.rows for at, row in enumerate(texts) if sign in row]
        return len(places) > 1 and level == max(places)

    def spell(self, sign: str) -> tuple[Stroke, ...]:
        """The strokes that write one character; none when this layout cannot."""
        live, dead = self._caps
        if sign in live:
            return (live[sign],)
        if sign in dead:
            return dead[sign], ("spc",)
        parts = unicodedata.normalize("NFD", sign)
        if len(parts) == 2 and parts[0] in live and MARKS.get(parts[1], "") in dead:
            return dead[MARKS[parts[1]]], live[parts[0]]
        return ()

    def type(self, text: str) -> list[tuple[Stroke, ...]]:
        """The strokes of each character. Raises :class:`ConfigError` naming what cannot be typed."""
        found = [self.spell(sign) for sign in text]
        missing = list(self._missing(text, found))
        if missing:
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise ConfigError(
                "text", f"the layout '{self.label}' has no key for {', '.join(missing[:NAMED])}{more}",
                hint="Choose the layout that is set in the guest, or leave them out.",
            )  # fmt: skip
        return found

    @staticmethod
    def _missing(text: str, found: list[tuple[Stroke, ...]]) -> Iterator[str]:
        line, named = 1, set()
        for sign, strokes in zip(text, found, strict=True):
            line += sign == "\n"
            if not strokes and sign not in named:
                named.add(sign)
                shown = f"'{sign}'" if sign.isprintable() else f"U+{ord(sign):04X}"
                yield f"{shown} (line {line})"
