"""kill -9 of everything that is ours, in the whole product: no guest stops, no task is lost."""

from __future__ import annotations

import os
import signal

from hands import until
from house import House
from machines import make

ROLES = ("web", "console", "redis", "worker")


def pid_of(house: House, role: str) -> int:
    """The process that has the role now, 0 between two."""
    try:
        return int((house.home / "run" / f"{role}.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def running(house: House, role: str) -> int:
    """The process that has the role, once one has."""
    until(lambda: pid_of(house, role) != 0, f"{role} runs", 60)
    return pid_of(house, role)


def works(house: House, vmid: int, verb: str) -> None:
    """A verb asked for now goes all its way."""
    done = house.qm(verb, str(vmid))
    assert done.returncode == 0, done.stdout + done.stderr + house.words()


def test_whatever_of_ours_is_killed_the_guest_runs_on(own_house: House) -> None:
    vmid = make(own_house, start=True)
    guest = own_house.guest_pid(vmid)
    assert guest is not None
    for role, verb in zip(ROLES, ("suspend", "resume", "suspend", "resume"), strict=True):
        before = running(own_house, role)
        os.kill(before, signal.SIGKILL)
        works(own_house, vmid, verb)  # asked for while it is away: the task waits, it is not lost
        until(
            lambda role=role, before=before: pid_of(own_house, role) not in (0, before), f"{role} again", 60
        )
        assert own_house.guest_pid(vmid) == guest, role
    until(own_house.answers, "the login page", 60)

    supervisor = own_house.process
    assert supervisor is not None
    roles = [running(own_house, role) for role in ROLES]
    supervisor.kill()
    supervisor.wait(10)
    until(lambda: not set(roles) & set(own_house.processes()), "the roles go with it", 60)
    assert own_house.guest_pid(vmid) == guest
    own_house.start()
    works(own_house, vmid, "suspend")
    assert '"qmpstatus": "paused"' in own_house.qm("status", str(vmid), "--json").stdout
    assert own_house.guest_pid(vmid) == guest
