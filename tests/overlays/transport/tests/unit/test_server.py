"""How the service leaves, step by step. `tests/faults/test_shutdown.py` has it do so under load."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import nullcontext
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from fastapi import FastAPI

from app.core import server
from app.core.server import Workers, collect_less_garbage, leaving, let_nobody_in, serve, serving_process
from tests.harness.live import serving


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Generator[list[int]]:
    """The signals that the server of this process has heard of."""
    monkeypatch.setattr(server, "collect_less_garbage", Mock())  # The tests want to know of theirs.
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def listener() -> Generator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def wait_for(stopped: list[int]) -> None:
    async with asyncio.timeout(10):
        while not stopped:
            await asyncio.sleep(0.01)


async def test_the_server_hears_of_the_end_later_than_everybody_else(stopped: list[int]) -> None:
    with serving_process(0.5):
        os.kill(os.getpid(), signal.SIGTERM)
        assert leaving.is_set()
        await asyncio.sleep(0.1)
        assert stopped == []
        await wait_for(stopped)

    assert stopped == [signal.SIGTERM]
    assert not leaving.is_set()


async def test_who_is_told_twice_is_told_the_same(stopped: list[int]) -> None:
    """Systemd tells every process, and so does the supervisor."""
    with serving_process(0.5):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert stopped == []
        await wait_for(stopped)
        await asyncio.sleep(0.1)

    assert stopped == [signal.SIGTERM]


async def test_a_worker_is_there_until_its_supervisor_has_closed_the_door(
    stopped: list[int], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER", 0.01)
    monkeypatch.setattr(server, "shared_listeners", lambda _: [listener])
    with serving_process(0):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.6)
        assert stopped == []
        let_nobody_in(listener)
        await wait_for(stopped)


async def test_it_serves_until_all_queued_connections_are_accepted(
    stopped: list[int], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER", 0.01)
    monkeypatch.setattr(server, "_listeners", [listener])
    with serving_process(0), socket.create_connection(listener.getsockname()):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert stopped == []
        listener.accept()[0].close()
        await wait_for(stopped)


async def test_a_queue_that_does_not_empty_does_not_keep_it(
    stopped: list[int], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_DRAIN", 0.1)
    monkeypatch.setattr(server, "_listeners", [listener])
    with serving_process(0), socket.create_connection(listener.getsockname()):
        os.kill(os.getpid(), signal.SIGTERM)
        await wait_for(stopped)


async def test_without_a_server_the_signal_means_what_it_always_does() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with serving_process(1):
        assert signal.getsignal(signal.SIGTERM) == before


async def test_the_door_is_closed_before_the_server_stops(
    stopped: list[int], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[socket.socket] = []
    monkeypatch.setattr(server, "_listeners", [listener])
    monkeypatch.setattr(server, "let_nobody_in", closed.append)

    with serving_process(0):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert (closed, stopped) == ([listener], [])
        await wait_for(stopped)


def test_who_has_come_in_is_served_when_nobody_else_is_let_in(listener: socket.socket) -> None:
    listener.settimeout(5)
    with socket.create_connection(listener.getsockname()) as before:
        assert let_nobody_in(listener) == (sys.platform == "linux")
        with pytest.raises(ConnectionRefusedError) if sys.platform == "linux" else nullcontext():
            socket.create_connection(listener.getsockname(), timeout=5).close()
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"welcome")
            assert before.recv(100) == b"welcome"


def test_the_workers_door_is_closed_when_they_leave(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    let_nobody_in = Mock()
    monkeypatch.setattr(server, "let_nobody_in", let_nobody_in)
    monkeypatch.setattr(signal, "signal", Mock())  # The supervisor would handle those of this process.
    workers = Workers(uvicorn.Config("app.main:create_app", log_config=None), [listener], delay=0.2)
    worker = Mock()
    worker.process.is_alive.side_effect = [True, False]
    workers.processes = [worker]

    workers.terminate_all()

    worker.terminate.assert_called_once_with()
    let_nobody_in.assert_called_once_with(listener)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head


async def test_a_request_that_comes_with_the_end_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER", 1)
    async with serving(FastAPI()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        assert b"connection: close" not in await ask(reader, writer)
        asyncio.get_running_loop().call_later(0.3, writer.write, b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")

    assert b"404 Not Found" in await reader.read()
    writer.close()


async def test_the_last_response_asks_to_connect_anew() -> None:
    async with serving(FastAPI()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        await ask(reader, writer)
        leaving.set()
        try:
            assert b"connection: close" in await ask(reader, writer)
            assert await reader.read() == b""
        finally:
            leaving.clear()
            writer.close()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nhost: te"], ids=["nothing", "half a head"])
@pytest.mark.parametrize("before", [0, 1], ids=["at first", "after another request"])
async def test_a_connection_ends_if_no_request_comes(begun: bytes, before: int) -> None:
    async with serving(FastAPI(), keep_alive=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(before):
            await ask(reader, writer)
        writer.write(begun)

        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_does_not_end_while_requests_come() -> None:
    async with serving(FastAPI(), keep_alive=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(5):
            writer.write(b"GET / HT")
            await asyncio.sleep(0.3)
            writer.write(b"TP/1.1\r\nhost: test\r\n\r\n")
            assert b"404 Not Found" in await reader.readuntil(b"}")
        writer.close()


def test_garbage_is_searched_for_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    freeze = Mock()
    monkeypatch.setattr(gc, "freeze", freeze)
    before = gc.get_threshold()
    try:
        collect_less_garbage()
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.set_threshold(*before)

    freeze.assert_called_once_with()


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, "uvicorn.Server.run"),
        ({"workers": 2}, "app.core.server.Workers.run"),
        ({"reload": True}, "app.core.server.ChangeReload.run"),
    ],
)
def test_each_way_to_serve_has_its_supervisor(
    options: dict[str, Any], runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Mock()
    monkeypatch.setattr(server, "_listeners", [])
    monkeypatch.setattr(signal, "signal", Mock())
    monkeypatch.setattr(runs, run)

    code = serve(uvicorn.Config("app.main:create_app", factory=True, port=0, log_config=None, **options), 0)

    assert code == 0
    run.assert_called_once()
    assert len(server._listeners) == (not options)


def test_workers_that_cannot_start_are_said_to_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(workers: Workers) -> None:
        workers.processes = [Mock(exitcode=None), Mock(exitcode=3)]

    monkeypatch.setattr(signal, "signal", Mock())
    monkeypatch.setattr(Workers, "run", run)

    assert serve(uvicorn.Config("app.main:create_app", port=0, log_config=None, workers=2), 0) == 3
