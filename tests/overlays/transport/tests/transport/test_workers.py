"""Workers whose supervisor is killed must not keep the port."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import started
from tests.harness.databases import Databases

Eventually = Callable[[Callable[[], Coroutine[Any, Any, bool]]], Coroutine[Any, Any, None]]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("options", [{"workers": 2}, {"environment": "development"}], ids=["workers", "reload"])
async def test_orphans_finish_and_free_the_port(
    databases: Databases, eventually: Eventually, options: dict[str, Any]
) -> None:
    url = databases.url(databases.name).render_as_string(hide_password=False)
    async with started(database_url=url, shutdown_delay=60, **options) as service:
        await service.wait_until_ready()
        port = int(service.url.rpartition(":")[2])
        workers = children(service.process.pid)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        await reader.readuntil(b"}")
        os.kill(service.process.pid, signal.SIGKILL)
        writer.write(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()

        async def is_free() -> bool:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind(("127.0.0.1", port))
                except OSError:
                    return False
                return True

        async def are_gone() -> bool:
            return not any(Path(f"/proc/{worker}/exe").exists() for worker in workers)

        try:
            await eventually(is_free)
            await eventually(are_gone)
        finally:
            for worker in workers:
                if Path(f"/proc/{worker}/exe").exists():
                    os.kill(worker, signal.SIGKILL)
