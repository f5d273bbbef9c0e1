"""What the service's own plumbing costs. These tests compare and count: no clock decides whether they pass.

Run them with `make test-performance`.
"""

import gc
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable
from time import perf_counter

import httpx
import pytest
from fastapi import FastAPI

pytestmark = pytest.mark.performance

ROUNDS = 30
REQUESTS = 20


@pytest.fixture
async def bare_client() -> httpx.AsyncClient:
    """A client for FastAPI with one route and nothing else."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test", trust_env=False)


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    for _ in range(REQUESTS):
        await work()
    return perf_counter() - started


async def test_the_plumbing_costs_little(
    client: httpx.AsyncClient, bare_client: httpx.AsyncClient, record_property: Callable[[str, object], None]
) -> None:
    """A benchmark: both are measured in turns, so that whatever slows the machine down slows both."""
    ratios = []
    for _ in range(ROUNDS):
        bare = await seconds(lambda: bare_client.get("/health"))
        ratios.append(await seconds(lambda: client.get("/health")) / bare)

    ratio = statistics.median(ratios)
    record_property("ratio", round(ratio, 2))
    assert ratio < 4


async def test_memory_does_not_grow_with_the_number_of_requests(client: httpx.AsyncClient) -> None:
    async def grown_by(requests: int) -> int:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(requests):
            await client.get("/health/ready")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        return after - before

    tracemalloc.start()
    try:
        await grown_by(200)  # Fills the caches.
        grown = await grown_by(500)
    finally:
        tracemalloc.stop()

    assert grown < 500 * 100, "more than 100 bytes for each request"
