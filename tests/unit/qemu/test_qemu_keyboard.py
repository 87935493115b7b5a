"""Texts as strokes, and key combinations as words."""

from __future__ import annotations

import string

import pytest

from vms.errors import ConfigError
from vms.qemu.keyboard import CODES, ROWS, chord
from vms.qemu.layouts import LAYOUTS, offered

US, DE, FR, GB = (LAYOUTS[name] for name in ("en-us", "de", "fr", "en-gb"))


def test_an_us_keyboard_writes_what_stands_on_it() -> None:
    assert US.type("aA1!\n") == [
        (("a",),), (("shift", "a"),), (("1",),), (("shift", "1"),), (("ret",),),
    ]  # fmt: skip
    assert US.spell("~") == (("shift", "grave_accent"),)
    assert US.spell("\t") == (("tab",),)
    assert US.spell("<") == (("shift", "comma"),)


def test_the_same_text_is_other_keys_elsewhere() -> None:
    assert DE.spell("z") == (("y",),)
    assert DE.spell("@") == (("alt_r", "q"),)
    assert DE.spell("|") == (("alt_r", "less"),)
    assert DE.spell("/") == (("shift", "7"),)
    assert FR.spell("1") == (("shift", "1"),)
    assert FR.spell("a") == (("q",),)
    assert FR.spell("^") == (("alt_r", "9"),), "the dead one is not needed"
    assert GB.spell("#") == (("backslash",),)
    assert GB.spell("£") == (("shift", "3"),)


def test_dead_keys_wait_for_the_next() -> None:
    assert DE.spell("^") == (("grave_accent",), ("spc",))
    assert DE.spell("é") == (("equal",), ("e",))
    assert DE.spell("À") == (("shift", "equal"), ("shift", "a"))
    assert LAYOUTS["de-nodeadkeys"].spell("^") == (("grave_accent",),)
    assert LAYOUTS["fr-ch"].spell("~") == (("alt_r", "equal"), ("spc",))


def test_what_cannot_be_typed_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        US.type("ok\nGrün für 5 €\x07\u4e2d")
    text = str(caught.value)
    assert "'ü' (line 2), '€' (line 2), U+0007 (line 2), '中' (line 2)" in text
    assert text.count("'ü'") == 1
    assert "English (US)" in text
    with pytest.raises(ConfigError, match="and 18 more"):
        US.type("αβγδεζηθικλμνξοπρστυφχψωäö")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_writes_ascii(name: str) -> None:
    layout = LAYOUTS[name]
    for sign in string.ascii_letters + string.digits + string.punctuation + " ":
        strokes = layout.spell(sign)
        assert strokes, f"{name} cannot write {sign}"
        assert all(key in CODES for keys in strokes for key in keys)
    spelled = [layout.spell(sign) for sign in string.printable[:95]]
    assert len(set(spelled)) == 95, "two characters are the same keys"


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_row_is_longer_than_its_keys(name: str) -> None:
    for keys, texts in zip(ROWS, LAYOUTS[name].rows, strict=True):
        assert len(texts) <= 4
        assert all(len(text) <= len(keys) for text in texts)


def test_combinations() -> None:
    assert chord("ctrl-alt-delete") == ("ctrl", "alt", "delete")
    assert chord(" Ctrl-Alt-F1 ") == ("ctrl", "alt", "f1")
    assert chord("shift-semicolon") == ("shift", "semicolon")
    assert chord("<") == ("less",)
    assert chord("win-r") == ("meta_l", "r")


@pytest.mark.parametrize(
    "text", ["", "-", "ctrl-", "ctrl--a", "hyper-x", "a-a", "a-b-c-d-e-f-g", "ctrl alt", "ü", "x" * 300]
)
def test_what_is_no_combination(text: str) -> None:
    with pytest.raises(ConfigError):
        chord(text)


def test_the_vms_own_keyboard_is_offered() -> None:
    assert offered("de-ch") == "de-ch"
    assert offered("") == offered(None) == offered("ja") == "en-us"
