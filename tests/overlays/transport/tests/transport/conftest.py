"""A service on each event loop, and a raw client for it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.processes import Service, started
from tests.harness.databases import Databases

PATIENCE = 60
"""Seconds after which a test that waits is red."""


@dataclass(frozen=True)
class Client:
    """Opens raw connections to a service."""

    service: Service

    @property
    def port(self) -> int:
        return int(self.service.url.rpartition(":")[2])

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection; every wait in the block ends in time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(PATIENCE):
                yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(self, *parts: bytes, ends: bool = False) -> bytes:
        """Send some bytes, and return all that comes until the service closes the connection."""
        async with self.connect() as (reader, writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.05 if len(parts) > 1 else 0)
            if ends:
                writer.write_eof()
            try:
                return await reader.read()
            except ConnectionError as error:
                return repr(error).encode()

    async def status(self, *parts: bytes) -> int:
        """Send a request, and return the status of the first answer."""
        answer = await self.ask(*parts)
        assert answer.startswith(b"HTTP/1.1 "), answer
        return int(answer[9:12])

    def memory(self) -> int:
        """Return the resident memory of the service in MB."""
        with open(f"/proc/{self.service.process.pid}/status", encoding="utf-8") as status:  # noqa: PTH123
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024


@pytest.fixture(scope="session", params=["asyncio", "uvloop"])
async def client(request: pytest.FixtureRequest, databases: Databases) -> AsyncGenerator[Client]:
    """A client for a service that runs on one of the event loops."""
    url = databases.url(databases.name).render_as_string(hide_password=False)
    options = {"write_timeout": 2, "keep_alive_timeout": 20, "request_body_timeout": 3, "db_statement_timeout": 60}
    command = (sys.executable, "-m", "tests.transport.served", request.param)
    async with started(*command, database_url=url, **options) as service:
        await service.wait_until_ready()
        yield Client(service)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Coroutine[Any, Any, bool]]], Coroutine[Any, Any, None]]:
    """Waits until something is true."""

    async def eventually(is_true: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await is_true():
                await asyncio.sleep(0.05)

    return eventually
