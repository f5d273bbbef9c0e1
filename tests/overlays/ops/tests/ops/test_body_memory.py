"""How much memory the bodies of all requests may take together."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.core.middleware import FREE_BODY_BYTES, allow_body
from app.main import create_app
from tests.harness.client import running

EACH = 100_000
router = APIRouter(prefix="/bodies", include_in_schema=False)


@router.post("")
async def take(request: Request) -> int:
    return len(await request.body())


@router.post("/streamed")
async def stream(request: Request) -> int:
    allow_body(request, 10 * EACH)
    return sum([len(chunk) async for chunk in request.stream()])


@pytest.fixture(scope="module")
async def app(settings: Settings, test_engine: AsyncEngine) -> AsyncGenerator[FastAPI]:
    app = create_app(settings.model_copy(update={"max_request_bytes": EACH, "max_bodies_bytes": 3 * EACH}), test_engine)
    app.include_router(router)
    async with running(app):
        yield app


class Stalled:
    """A request whose body stops after so many bytes, until it is told to go on."""

    def __init__(self, client: httpx.AsyncClient, size: int, path: str = "/bodies") -> None:
        self.size = size
        self.has_stopped, self.go_on = asyncio.Event(), asyncio.Event()
        self.answer = asyncio.create_task(client.post(path, content=self.body()))

    async def body(self) -> AsyncGenerator[bytes]:
        yield b"x" * self.size
        self.has_stopped.set()
        await self.go_on.wait()


async def stall(client: httpx.AsyncClient, number: int, size: int, path: str = "/bodies") -> list[Stalled]:
    stalled = [Stalled(client, size, path) for _ in range(number)]
    for request in stalled:
        await request.has_stopped.wait()
    return stalled


async def end(stalled: list[Stalled]) -> set[int]:
    for request in stalled:
        request.go_on.set()
    return {(await request.answer).status_code for request in stalled}


async def test_large_bodies_that_stall_are_limited_and_keep_no_small_one_out(client: httpx.AsyncClient) -> None:
    stalled = await stall(client, 3, EACH)

    large = await client.post("/bodies", content=b"x" * EACH)
    small = await client.post("/bodies", content=b"x" * FREE_BODY_BYTES)

    assert large.status_code == 503
    assert large.headers["retry-after"]
    assert small.status_code == 200
    assert await end(stalled) == {200}
    assert (await client.post("/bodies", content=b"x" * EACH)).status_code == 200


async def test_a_body_that_is_streamed_does_not_count(client: httpx.AsyncClient) -> None:
    stalled = await stall(client, 3, 3 * EACH, "/bodies/streamed")

    assert (await client.post("/bodies", content=b"x" * EACH)).status_code == 200
    assert await end(stalled) == {200}


async def test_a_request_that_was_cancelled_gives_its_share_back(client: httpx.AsyncClient) -> None:
    for request in await stall(client, 3, EACH):
        request.answer.cancel()
        await asyncio.wait([request.answer])

    assert (await client.post("/bodies", content=b"x" * EACH)).status_code == 200
