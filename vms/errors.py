"""Every error pvelite raises on purpose, and who is at fault.

::

    VMError                     the tree's root: text a person may read
    ├── ConfigError             the user's value: names the key, says what is wrong and what to do
    │   └── ConfigErrors        several of them at once, one per key
    ├── StateError              a fine request at the wrong time (start a running VM)
    │   └── LockedError         another operation holds the VM; names the holder
    ├── AccessError             the user may not
    ├── NotFound                no such object, or none this user may see (the two answer alike)
    ├── StorageError            a storage or an image on it
    ├── NetworkError            a bridge, a tap
    ├── CommandError            an external program ended badly
    └── QemuError               QEMU said no
        ├── LaunchError         it did not come up: argv, exit code, its own last words
        ├── MonitorError        a QMP command was refused
        └── OutcomeUnknown      the link died in the middle: ask again before believing anything

Raise where the cause is known; catch at doors and in the task runner only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class VMError(Exception):
    """Root of the tree. ``str(error)`` is a sentence for a person.

    ``hint`` says what to do next, when that is known.
    """

    hint: str = ""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        if hint:
            self.hint = hint


class ConfigError(VMError):
    """A value that cannot stand. ``key`` is the configuration key (``net0``) or parameter it belongs to.

    ``part`` names the sub-option inside a property string (``tag`` in ``net0``), or is empty.
    """

    def __init__(self, key: str, text: str, *, part: str = "", hint: str = "") -> None:
        super().__init__(text, hint=hint)
        self.key = key
        self.part = part

    def __str__(self) -> str:
        where = f"{self.key}.{self.part}" if self.part else self.key
        return f"{where}: {self.text}"


class ConfigErrors(ConfigError):
    """Several :class:`ConfigError` found in one pass. Iterate to get them; never empty."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors: tuple[ConfigError, ...] = tuple(errors)
        if not self.errors:
            raise ValueError("ConfigErrors needs at least one error")
        first = self.errors[0]
        super().__init__(first.key, first.text, part=first.part, hint=first.hint)

    def __iter__(self) -> Iterator[ConfigError]:
        return iter(self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)

    def by_key(self) -> dict[str, str]:
        """The mapping the REST API answers under ``errors``: key → text (several joined by a blank)."""
        found: dict[str, str] = {}
        for error in self.errors:
            text = f"{error.part}: {error.text}" if error.part else error.text
            found[error.key] = f"{found[error.key]} {text}" if error.key in found else text
        return found


class StateError(VMError):
    """The VM, task or node is not in a state that allows this now."""


class LockedError(StateError):
    """Another operation holds the VM. The text names it."""


class AccessError(VMError):
    """The user lacks a privilege. The text names the privilege and the path."""


class NotFound(VMError):
    """No such object for this user."""


class StorageError(VMError):
    """A storage, a volume or an image file is not as it has to be."""


class NetworkError(VMError):
    """A bridge is missing or the kernel refused a link operation."""


class CommandError(VMError):
    """An external program failed. Carries what it was asked and what it answered."""

    def __init__(self, argv: Sequence[str], exit_code: int | None, output: str, *, hint: str = "") -> None:
        tail = output.strip().splitlines()[-1] if output.strip() else "no output"
        ended = "did not end in time" if exit_code is None else f"ended with {exit_code}"
        super().__init__(f"{argv[0]} {ended}: {tail}", hint=hint)
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.output = output


class QemuError(VMError):
    """Root of what QEMU refuses."""


class LaunchError(QemuError):
    """QEMU did not come up. The text is QEMU's own last line."""

    def __init__(self, argv: Sequence[str], exit_code: int | None, log_tail: str) -> None:
        words = [line for line in log_tail.strip().splitlines() if line.strip()]
        said = words[-1] if words else "it printed nothing"
        code = "no exit code seen" if exit_code is None else f"exit code {exit_code}"
        super().__init__(f"QEMU did not start ({code}): {said}")
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.log_tail = log_tail


class MonitorError(QemuError):
    """A QMP command was refused. ``error_class`` is QMP's (``GenericError``, ``DeviceNotFound``)."""

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(f"{command}: {description}")
        self.command = command
        self.error_class = error_class
        self.description = description


class OutcomeUnknown(QemuError):
    """The connection died after a command was sent: it may or may not have happened."""
