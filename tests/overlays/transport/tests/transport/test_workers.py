"""Workers and their supervisor: which signals stop them, and what uvicorn has to offer for it."""

import asyncio
import os
import runpy
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.supervisors import Multiprocess

from app.core import server
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


async def test_workers_are_stopped_only_by_the_signals_that_end_the_service(databases: Databases) -> None:
    """A restart of the workers would have SIGTERM wait for it, longer than an orchestrator does."""
    url = databases.url(databases.name).render_as_string(hide_password=False)
    async with started(database_url=url, workers=2) as service:
        await service.wait_until_ready()
        workers = children(service.process.pid)
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            service.process.send_signal(number)
        await asyncio.sleep(3)  # The supervisor looks twice a second, and restarts one worker after the other.
        assert children(service.process.pid) == workers
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await service.process.wait() == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (HttpToolsProtocol, "_start_asgi_task"),
        (HttpToolsProtocol, "shutdown"),
        (RequestResponseCycle, "keep_alive"),
        (FlowControl, "resume_reading"),
        (Multiprocess, "terminate_all"),
    ],
)
def test_a_name_that_uvicorn_changes_ends_the_start(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is overridden would silently not be called any more."""
    if name in vars(owner):
        monkeypatch.delattr(owner, name)
    else:  # It is an attribute of each object.
        monkeypatch.setattr(owner, "__init__", lambda _: None)

    with pytest.raises(ImportError, match=f"^{owner.__name__} of this version"):
        runpy.run_path(server.__file__)
