"""``qm``: the command line. One table of subcommands; a subcommand's module is imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vms.errors import StateError, VMError


@dataclass(frozen=True)
class Subcommand:
    """One line of the table.

    ``module`` has ``add_arguments(parser)`` and ``run(options) -> exit code``; both find the command's name
    as the parser's default ``command``. ``database`` says that it needs the installation's.
    """

    name: str
    module: str
    summary: str
    database: bool = True


SUBCOMMANDS: tuple[Subcommand, ...] = (
    Subcommand("list", "vms.cli.show", "list the VMs"),
    Subcommand("config", "vms.cli.show", "show a VM's configuration"),
    Subcommand("pending", "vms.cli.configure", "show what of a VM's configuration waits for its next start"),
    Subcommand("set", "vms.cli.configure", "change a VM's configuration"),
    Subcommand("create", "vms.cli.create", "create a VM"),
    Subcommand("status", "vms.cli.show", "show a VM's status"),
    Subcommand("start", "vms.cli.verb", "start a VM"),
    Subcommand("shutdown", "vms.cli.verb", "ask the guest to power off"),
    Subcommand("stop", "vms.cli.verb", "cut a VM's power"),
    Subcommand("reboot", "vms.cli.verb", "shut a VM down and start it again"),
    Subcommand("reset", "vms.cli.verb", "press a VM's reset button"),
    Subcommand("suspend", "vms.cli.suspend", "freeze a running VM, or save its memory to disk (--todisk)"),
    Subcommand("resume", "vms.cli.verb", "let a paused or hibernated VM go on"),
    Subcommand("discard", "vms.cli.verb", "throw a hibernated VM's saved memory away"),
    Subcommand("snapshot", "vms.cli.snapshots", "keep a VM as it is now"),
    Subcommand("delsnapshot", "vms.cli.snapshots", "give up a snapshot"),
    Subcommand("rollback", "vms.cli.snapshots", "take a VM back to a snapshot"),
    Subcommand("listsnapshot", "vms.cli.snapshots", "show a VM's snapshots as a tree"),
    Subcommand("destroy", "vms.cli.verb", "put a VM into the trash, or remove it for good (--now)"),
    Subcommand("unlock", "vms.cli.waiting", "remove a lock that nothing holds any more"),
    Subcommand("wait", "vms.cli.waiting", "wait until a VM is stopped"),
    Subcommand("trash", "vms.cli.trash", "list what was removed, restore it or remove it for good"),
    Subcommand("startall", "vms.cli.fleet", "start this node's guests in their order"),
    Subcommand("stopall", "vms.cli.fleet", "shut this node's guests down in reverse order"),
    Subcommand("clone", "vms.cli.clone", "make another VM of a VM or of a template"),
    Subcommand("template", "vms.cli.verb", "convert a VM to a template"),
    Subcommand("warm", "vms.cli.verb", "boot a template's guest once and keep its memory for its clones"),
    Subcommand("cool", "vms.cli.verb", "discard the memory a template keeps"),
    Subcommand("disk", "vms.cli.disk", "import, move, resize, rescan and unlink disks"),
    Subcommand("importdisk", "vms.cli.disk", "the same as disk import"),
    Subcommand("move-disk", "vms.cli.disk", "the same as disk move"),
    Subcommand("move_disk", "vms.cli.disk", "the same as disk move"),
    Subcommand("resize", "vms.cli.disk", "the same as disk resize"),
    Subcommand("rescan", "vms.cli.disk", "the same as disk rescan"),
    Subcommand("unlink", "vms.cli.disk", "the same as disk unlink"),
    Subcommand("restore", "vms.cli.restore", "make or replace a VM from a backup (also: qmrestore)"),
    Subcommand("verifybackup", "vms.cli.restore", "read a backup whole and say whether it is good"),
    Subcommand("cloudinit", "vms.cli.cloudinit", "show, compare and write a VM's cloud-init image"),
    Subcommand("agent", "vms.cli.guest", "ask a VM's guest agent"),
    Subcommand("guest", "vms.cli.guest", "run programs in a guest, set passwords, read and write files"),
    Subcommand("sendkey", "vms.cli.keys", "press keys of a VM's keyboard"),
    Subcommand("type", "vms.cli.keys", "type the standard input into a VM, on its keyboard"),
    Subcommand("screenshot", "vms.cli.screen", "keep what a VM's screen shows as a PNG file"),
    Subcommand("terminal", "console.command", "open a VM's serial terminal here"),
    Subcommand("completion", "vms.cli.completion", "print what your shell needs to complete qm's words"),
    Subcommand("importconf", "vms.cli.importconf", "make a VM from a configuration file"),
    Subcommand(
        "showcmd", "vms.cli.showcmd", "show the command a configuration file leads to", database=False
    ),
)


def usage() -> str:
    """What ``qm`` without arguments prints."""
    width = max(len(entry.name) for entry in SUBCOMMANDS)
    lines = [f"  {entry.name.ljust(width)}  {entry.summary}" for entry in SUBCOMMANDS]
    return "\n".join(["usage: qm COMMAND [options]", "", *lines])


def open_installation() -> None:
    """Make the rows reachable. Raises :class:`StateError` where no installation is found."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pvelite.settings")
    from pvelite.conf import conf

    if not conf().database_url and not (conf().home / "pvelite.sqlite3").exists():
        raise StateError(
            f"there is no installation in {conf().home}. "
            "Start it once with ./up, or set PVELITE_HOME to its folder."
        )
    import django

    django.setup()


def parser_of(
    entry: Subcommand, program: str = ""
) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], int]]:
    """The parser of a subcommand, and what runs it. Imports its module. ``program``: one of its own."""
    module = importlib.import_module(entry.module)
    parser = argparse.ArgumentParser(prog=program or f"qm {entry.name}", description=entry.summary)
    parser.set_defaults(command=entry.name)
    module.add_arguments(parser)
    return parser, module.run


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Answers its exit code; 2 for a wrong call, 1 for a refused one."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    entry = next((entry for entry in SUBCOMMANDS if entry.name == words[0]), None)
    if entry is None:
        print(f"qm: there is no command '{words[0]}'\n\n{usage()}", file=sys.stderr)
        return 2
    return run_one(entry, words[1:], f"qm {entry.name}")


def run_one(entry: Subcommand, words: Sequence[str], program: str) -> int:
    """Run what ``entry`` says; answers its exit code."""
    try:
        if entry.database:
            open_installation()
        parser, run = parser_of(entry, program)
        return run(parser.parse_args(words))
    except VMError as error:
        print(f"{program}: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 1


def vzdump(argv: Sequence[str] | None = None) -> int:
    """The program ``vzdump``."""
    entry = Subcommand("vzdump", "vms.cli.vzdump", "Back up VMs of this node, one after the other.")
    return run_one(entry, list(sys.argv[1:] if argv is None else argv), "vzdump")


def qmrestore(argv: Sequence[str] | None = None) -> int:
    """The program ``qmrestore``."""
    entry = Subcommand("restore", "vms.cli.restore", "Make or replace a VM from a backup.")
    return run_one(entry, list(sys.argv[1:] if argv is None else argv), "qmrestore")


if __name__ == "__main__":
    sys.exit(main())
