"""The file a SPICE viewer program opens: where to connect, whom to trust there, and the one-time password."""

from __future__ import annotations

from console.keyfiles import Files, subject

MEDIA_TYPE = "application/x-virt-viewer"


def compose(*, host: str, port: int, password: str, title: str, files: Files, node: str) -> str:
    """The text, as ``remote-viewer`` reads it. Raises ``OSError`` while there is no certificate."""
    lines = {
        "type": "spice",
        "host": host,
        "tls-port": str(port),
        "password": password,
        "ca": files.authority.read_text(),
        "host-subject": subject(node),
        "delete-this-file": "1",
        "title": title,
        "secure-attention": "Ctrl+Alt+Ins",
        "toggle-fullscreen": "Shift+F11",
        "release-cursor": "Ctrl+Alt+R",
    }
    return "[virt-viewer]\n" + "".join(f"{key}={_escaped(value)}\n" for key, value in lines.items())


def _escaped(text: str) -> str:
    """A value in a key file: one line whatever the text has."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
