"""A running guest in a test's hands: its process, monitor, serial text and agent."""

from __future__ import annotations

from pathlib import Path

from guestkit.facts import GuestFacts
from guestkit.waiting import eventually
from vms.host.paths import VMPaths
from vms.qemu.agent import Agent, ExecStatus
from vms.qemu.monitor import Monitor
from vms.qemu.process import Running, alive, terminate, wait_ended


class Guest:
    """One QEMU started by a :class:`guestkit.lab.Lab`; the bench ends it if the test does not."""

    def __init__(self, vmid: int, running: Running, monitor: Monitor, paths: VMPaths, log: Path) -> None:
        self.vmid = vmid
        self.running = running
        self.monitor = monitor
        self.paths = paths
        self.serial_log = log
        self.agent = Agent(paths.agent)

    # ---- what it prints

    def serial(self) -> str:
        """All its first serial port printed so far (needs ``serial0: socket`` in the configuration)."""
        try:
            return self.serial_log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    async def says(self, text: str, timeout: float = 60) -> str:
        """Wait until the serial port printed ``text``; answers all it printed."""
        deadline = f"serial port of {self.vmid} to say {text!r}"
        try:
            await eventually(lambda: text in self.serial(), deadline, timeout=timeout, poll=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\nit said: {self.serial()[-1500:]}") from None
        return self.serial()

    async def facts_by_serial(self, timeout: float = 60) -> GuestFacts:
        """What the guest said of its machine while booting."""
        said = await self.says("pvelite-guest: ready", timeout)
        facts = [line for line in said.splitlines() if line.startswith("fact: ")]
        return GuestFacts.parse("\n".join(facts))

    # ---- what its agent does (needs ``agent: 1`` in the configuration)

    async def agent_answers(self, timeout: float = 60) -> None:
        """Wait until the agent answers: the guest is up."""
        await eventually(lambda: self.agent.ping(1), f"agent of {self.vmid} to answer", timeout=timeout)

    async def run(self, *argv: str, timeout: float = 30) -> str:
        """Run a program inside the guest; answers what it printed. A failure in there fails the test."""
        pid = await self.agent.run(argv)
        status = await eventually(
            lambda: self._ended(pid), f"{argv[0]} in {self.vmid} to end", timeout=timeout
        )
        said = status.stdout.decode(errors="replace")
        assert status.exit_code == 0, f"{' '.join(argv)}: {status.exit_code}\n{said}{status.stderr!r}"
        return said

    async def shell(self, script: str, timeout: float = 30) -> str:
        """Run a line of shell inside the guest; answers what it printed."""
        return await self.run("/bin/sh", "-ec", script, timeout=timeout)

    async def _ended(self, pid: int) -> ExecStatus | None:
        status = await self.agent.run_status(pid)
        return status if status.exited else None

    async def facts(self, timeout: float = 60) -> GuestFacts:
        """What the guest sees of its machine now, asked through its agent."""
        await self.agent_answers(timeout)
        return GuestFacts.parse(await self.run("/bin/facts"))

    # ---- ending

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return alive(self.running)

    async def ended(self, timeout: float = 30) -> None:
        """Wait until its process is gone, whatever ends it."""
        assert await wait_ended(self.running, timeout), f"QEMU of {self.vmid} still runs after {timeout:g} s"
        await self.monitor.close()

    async def switched_off(self, timeout: float = 60) -> None:
        """Wait until the guest switched itself off; QEMU may stay (``-no-shutdown``) or end."""

        async def off() -> bool:
            return not self.runs or await self.monitor.query_status() == "shutdown"

        await eventually(off, f"guest {self.vmid} to switch itself off", timeout=timeout)

    async def quit(self) -> None:
        """Pull the plug through QMP and wait for the end."""
        await self.monitor.quit()
        await self.ended()

    async def kill(self) -> None:
        """End the process whatever its state."""
        await self.monitor.close()
        await terminate(self.running, grace=0.5)
