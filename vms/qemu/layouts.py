"""Keyboard layouts: what is written by which key, as :class:`vms.qemu.keyboard.Layout` wants it.

The names are those of the option ``keyboard``. A row's texts are: plain, with Shift, with AltGr, with both.
Only what the caps of such a keyboard show, so that it holds in any system; blanks are keys without it.
"""

from __future__ import annotations

from collections.abc import Mapping

from vms.qemu.keyboard import Layout

_QWERTY = ("qwertyuiop", "QWERTYUIOP")
_HOME = ("asdfghjkl", "ASDFGHJKL")
_LOWER = ("zxcvbnm", "ZXCVBNM")
_EURO = "  €"
_LOW = ("<zxcvbnm,.-", ">ZXCVBNM;:_")
"""The lowest row of most European keyboards."""


def _nordic(name: str, label: str, top: tuple[str, str, str], ends: str, low: str) -> Layout:
    """The four that differ in a few keys: ``ends`` are the two letters right of the l."""
    return Layout(
        name, label, (top, (f"{_QWERTY[0]}å¨", f"{_QWERTY[1]}Å^", f"{_EURO}        ~"),
                      (f"{_HOME[0]}{ends}'", f"{_HOME[1]}{ends.upper()}*"), (*_LOW, low)),
        dead="´`¨^~",
    )  # fmt: skip


def _swiss(name: str, label: str, plain: str, shifted: str) -> Layout:
    """``plain`` and ``shifted``: the three letters that German and French change about."""
    return Layout(
        name, label, (
            ("§1234567890'^", "°+\"*ç%&/()=?`", "  @#  ¬|¢  ´~"),
            (f"qwertzuiop{plain[0]}¨", f"QWERTZUIOP{shifted[0]}!", f"{_EURO}       []"),
            (f"{_HOME[0]}{plain[1:]}$", f"{_HOME[1]}{shifted[1:]}£", "          {}"),
            ("<yxcvbnm,.-", ">YXCVBNM;:_", "\\"),
        ), dead="^`´~¨",
    )  # fmt: skip


_GERMAN = (
    ("^1234567890ß´", '°!"§$%&/()=?`', "  ²³   {[]}\\"),
    ("qwertzuiopü+", "QWERTZUIOPÜ*", f"@ €{' ' * 8}~"),
    (f"{_HOME[0]}öä#", f"{_HOME[1]}ÖÄ'"),
    ("<yxcvbnm,.-", ">YXCVBNM;:_", "|      µ"),
)
_US = (
    ("`1234567890-=", "~!@#$%^&*()_+"),
    (f"{_QWERTY[0]}[]", f"{_QWERTY[1]}{{}}"),
    (f"{_HOME[0]};'\\", f'{_HOME[1]}:"|'),
    (f" {_LOWER[0]},./", f" {_LOWER[1]}<>?"),
)
_TOP = '!"#¤%&/()=?`'

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("en-us", "English (US)", _US),
        Layout(
            "en-gb", "English (UK)", (
                ("`1234567890-=", '¬!"£$%^&*()_+', "    €"),
                (f"{_QWERTY[0]}[]", f"{_QWERTY[1]}{{}}"),
                (f"{_HOME[0]};'#", f"{_HOME[1]}:@~"),
                (f"\\{_LOWER[0]},./", f"|{_LOWER[1]}<>?"),
            ),
        ),
        Layout("de", "German", _GERMAN, dead="^´`"),
        Layout("de-nodeadkeys", "German, no dead keys", _GERMAN),
        _swiss("de-ch", "German (Switzerland)", "üöä", "èéà"),
        Layout(
            "fr", "French", (
                ("²&é\"'(-è_çà)=", " 1234567890°+", "  ~#{[|`\\^@]}"),
                ("azertyuiop^$", "AZERTYUIOP¨£", f"{_EURO}        ¤"),
                ("qsdfghjklmù*", "QSDFGHJKLM%µ"),
                ("<wxcvbn,;:!", ">WXCVBN?./§"),
            ), dead="^¨",
        ),
        Layout(
            "fr-be", "French (Belgium)", (
                ("²&é\"'(§è!çà)-", "³1234567890°_", " |@#  ^  {}"),
                ("azertyuiop^$", "AZERTYUIOP¨*", f"{_EURO}       []"),
                ("qsdfghjklmùµ", "QSDFGHJKLM%£", "          ´`"),
                ("<wxcvbn,;:=", ">WXCVBN?./+", "\\         ~"),
            ), dead="^¨´`~",
        ),
        _swiss("fr-ch", "French (Switzerland)", "èéà", "üöä"),
        Layout(
            "es", "Spanish", (
                ("º1234567890'¡", 'ª!"·$%&/()=?¿', "\\|@#~ ¬"),
                (f"{_QWERTY[0]}`+", f"{_QWERTY[1]}^*", f"{_EURO}       []"),
                (f"{_HOME[0]}ñ´ç", f"{_HOME[1]}Ñ¨Ç", "          {}"),
                _LOW,
            ), dead="`^´¨",
        ),
        Layout(
            "it", "Italian", (
                ("\\1234567890'ì", '|!"£$%&/()=?^', "           `~"),
                (f"{_QWERTY[0]}è+", f"{_QWERTY[1]}é*", f"{_EURO}       []", f"{' ' * 10}{{}}"),
                (f"{_HOME[0]}òàù", f"{_HOME[1]}ç°§", "         @#"),
                _LOW,
            ),
        ),
        Layout(
            "pt", "Portuguese", (
                ("\\1234567890'«", '|!"#$%&/()=?»', "  @£§  {[]}"),
                (f"{_QWERTY[0]}+´", f"{_QWERTY[1]}*`", f"{_EURO}       ¨"),
                (f"{_HOME[0]}çº~", f"{_HOME[1]}Çª^"),
                _LOW,
            ), dead="´`¨~^",
        ),
        Layout(
            "pt-br", "Portuguese (Brazil)", (
                ("'1234567890-=", '"!@#$%¨&*()_+', " ¹²³£¢¬     §"),
                (f"{_QWERTY[0]}´[", f"{_QWERTY[1]}`{{", "/?         ª"),
                (f"{_HOME[0]}ç~]", f"{_HOME[1]}Ç^}}", "           º"),
                ("\\zxcvbnm,.;", "|ZXCVBNM<>:"),
            ), dead="´`¨~^",
        ),
        _nordic("da", "Danish", ("½1234567890+´", f"§{_TOP}", "  @£$  {[]} |"), "æø", "\\"),
        _nordic("fi", "Finnish", ("§1234567890+´", f"½{_TOP}", "  @£$  {[]}\\"), "öä", "|"),
        _nordic("no", "Norwegian", ("|1234567890+\\", f"§{_TOP}", "  @£$  {[]} ´"), "øæ", ""),
        _nordic("sv", "Swedish", ("§1234567890+´", f"½{_TOP}", "  @£$  {[]}\\"), "öä", "|"),
        Layout(
            "pl", "Polish (programmers)", (
                _US[0],
                (*_US[1], "  ę     ó", "  Ę     Ó"),
                (*_US[2], "ąś      ł", "ĄŚ      Ł"),
                (*_US[3], " żźć  ń", " ŻŹĆ  Ń"),
            ),
        ),
    )
}  # fmt: skip
"""By name. Those of the option ``keyboard`` that are not here cannot be chosen for typing."""
DEFAULT = "en-us"


def offered(keyboard: str | None) -> str:
    """The layout to offer first for a VM whose option ``keyboard`` is that."""
    return keyboard if keyboard and keyboard in LAYOUTS else DEFAULT
