"""The service as it is in production: processes of its own, that are started and told to stop."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from dev.ports import free_port
from tests.harness.server import PROJECT

STARTING = 60
"""For how many seconds to wait for a start, on a machine that is busy with other things."""
SERVE = (sys.executable, "-m", "app")


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    async def tell(self, number: signal.Signals, *, everybody: bool) -> None:
        """Send a signal to the process, or also to those that it has started, as systemd does."""
        told = [self.process.pid]
        if everybody:
            ps = await asyncio.create_subprocess_exec("ps", "-A", "-o", "pid=,ppid=", stdout=asyncio.subprocess.PIPE)
            lines = (await ps.communicate())[0].decode().splitlines()
            told[:0] = [int(pid) for pid, parent in map(str.split, lines) if int(parent) == self.process.pid]
        for pid in told:
            os.kill(pid, number)

    def said(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text()

    async def answers(self, path: str) -> bool:
        """Ask once, and say whether there is a good answer."""
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                return (await client.get(f"{self.url}{path}")).status_code == 200
        return False

    async def is_ready(self) -> bool:
        """Ask whether it can do its work."""
        return await self.answers("/health/ready")

    async def wait_until_ready(self) -> None:
        """Wait until it can do its work."""
        async with asyncio.timeout(STARTING):
            while not await self.is_ready():
                assert self.process.returncode is None, self.said()
                await asyncio.sleep(0.05)


@asynccontextmanager
async def started(
    *command: str, database_url: str, folder: Path = PROJECT, **settings: object
) -> AsyncGenerator[Service]:
    """Run a command that serves, with `settings`, for the duration of the block; nothing of it is left afterwards."""
    port = free_port()
    variables = {"ENVIRONMENT": "test", "HOST": "127.0.0.1", "PORT": port, "DATABASE_URL": database_url} | settings
    # Not a pipe, which somebody would have to empty all the time.
    with tempfile.NamedTemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(command or SERVE),
            cwd=folder,
            env=os.environ | {name.upper(): str(value) for name, value in variables.items()},
            stdout=log,
            stderr=log,
        )
        try:
            yield Service(process, f"http://127.0.0.1:{port}", Path(log.name))
        finally:
            # Not at once, or its workers would stay. It is in the tests' own process group, and goes with that.
            if process.returncode is None:
                process.terminate()
            await process.wait()
