"""Clients that are gone, and those that only seem to be."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.harness.databases import Databases
from tests.harness.server import connect_arguments
from tests.transport.conftest import Client

Eventually = Callable[[Callable[[], Coroutine[Any, Any, bool]]], Coroutine[Any, Any, None]]
SLOW = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%slow */'"


def request(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/transport/slow"), ("POST", "/transport/write")])
async def test_the_query_of_a_client_that_is_gone_is_cancelled(
    client: Client, databases: Databases, eventually: Eventually, how: str, method: str, path: str
) -> None:
    admin = await asyncpg.connect(**connect_arguments(databases.server), database=databases.name)

    async def is_running() -> bool:
        return bool(await admin.fetchval(SLOW))

    async def is_over() -> bool:
        return not await is_running()

    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(request(path, method))
        await eventually(is_running)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await eventually(is_over)

    assert not await admin.fetchval("SELECT to_regclass('written')")
    await admin.close()
    assert "Exception in ASGI application" not in client.service.said()
    assert await client.service.is_ready()


async def test_the_query_behind_an_answered_request_is_cancelled_too(
    client: Client, databases: Databases, eventually: Eventually
) -> None:
    admin = await asyncpg.connect(**connect_arguments(databases.server), database=databases.name)

    async def is_running() -> bool:
        return bool(await admin.fetchval(SLOW))

    async def is_over() -> bool:
        return not await is_running()

    async with client.connect() as (reader, writer):
        writer.write(request("/health") + request("/transport/slow") + request("/health"))
        await reader.readuntil(b"}")
        await eventually(is_running)
    await eventually(is_over)
    await admin.close()


async def test_a_background_task_outlives_the_client(client: Client, tmp_path: Path, eventually: Eventually) -> None:
    done = tmp_path / "done"
    async with client.connect() as (reader, writer):
        writer.write(request(f"/transport/background?path={done}"))
        await reader.readuntil(b'"answered"')

    async def is_done() -> bool:
        return done.exists()

    await eventually(is_done)


async def test_an_application_that_listens_is_told_and_not_cancelled(
    client: Client, tmp_path: Path, eventually: Eventually
) -> None:
    told = tmp_path / "told"
    async with client.connect() as (_, writer):
        writer.write(request(f"/transport/listen?path={told}"))
        await asyncio.sleep(0.3)
        writer.transport.abort()

    async def is_told() -> bool:
        return told.exists()

    await eventually(is_told)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/health", "/transport/wait?seconds=1.5", "/transport/large?size=3000000"])
async def test_a_client_that_has_closed_its_sending_side_has_its_answer(
    client: Client, version: str, path: str
) -> None:
    answer = await client.ask(request(path).replace(b"HTTP/1.1", f"HTTP/{version}".encode()), ends=True)

    assert b"HTTP/1.1 200 OK\r\n" in answer
    assert (b"HTTP/1.1 100 Continue\r\n\r\n" in answer) == ("wait" in path and version == "1.1")
    assert len(answer) > (3_000_000 if "large" in path else 100)


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("/transport/large?size=3000000", 3_000_000),
        ("/transport/trickle?path=/dev/null&pause=0.5&count=7", 7),  # It takes longer than the write timeout.
    ],
)
async def test_a_client_that_closes_its_sending_side_during_its_response_has_all_of_it(
    client: Client, path: str, size: int
) -> None:
    async with client.connect() as (reader, writer):
        writer.write(request(path))
        assert b"HTTP/1.1 200 OK" in await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write_eof()
        answer = await reader.read()

    assert answer.count(b"x") == size
    assert answer.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("pause", [0.2, 60], ids=["while something is sent", "while nothing is sent"])
async def test_a_response_that_has_begun_is_cancelled_when_its_client_is_gone(
    client: Client, tmp_path: Path, eventually: Eventually, pause: float
) -> None:
    over = tmp_path / "over"
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(request(f"/transport/trickle?path={over}&pause={pause}&count=500"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        await asyncio.sleep(0.1)

    async def is_over() -> bool:
        return over.exists()

    async with asyncio.timeout(30):
        await eventually(is_over)


async def test_all_pipelined_requests_of_a_half_closed_connection_are_answered(client: Client) -> None:
    answer = await client.ask(request("/transport/wait?seconds=0.2") * 3 + request("/health") * 2, ends=True)

    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 5


async def test_a_body_that_ends_too_early_runs_nothing(client: Client) -> None:
    head = b"POST /transport/echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc"

    assert await client.ask(head, ends=True) == b""
    assert await client.service.answers("/health")
