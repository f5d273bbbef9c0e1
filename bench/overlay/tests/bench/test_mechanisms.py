"""One test for each mechanism; `conftest.py` repeats them.

Those with a database do the same: three requests, each of which commits, and two of which have written something.
"""

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("turn")


async def test_floor(bare_client: httpx.AsyncClient) -> None:
    await ping(bare_client)


async def test_no_database(client: httpx.AsyncClient) -> None:
    await ping(client)


async def test_no_isolation(unisolated_client: httpx.AsyncClient, turn: int) -> None:
    await write_and_read(unisolated_client, turn)


async def test_create_all(recreated_client: httpx.AsyncClient, turn: int) -> None:
    await write_and_read(recreated_client, turn)


async def test_sandbox(client: httpx.AsyncClient, turn: int) -> None:
    await write_and_read(client, turn)


@pytest.mark.real_db
async def test_real_db(client: httpx.AsyncClient, turn: int) -> None:
    await write_and_read(client, turn)


async def ping(client: httpx.AsyncClient) -> None:
    """Make three requests that need no database."""
    for _ in range(3):
        response = await client.get("/health")
        assert response.status_code == 200


async def write_and_read(client: httpx.AsyncClient, turn: int) -> None:
    """Make three requests, each with a transaction of its own."""
    created = await client.post("/api/v1/projects", json={"name": f"Apollo {turn}"})
    assert created.status_code == 201
    read = await client.get(created.headers["Location"])
    assert read.json() == created.json()
    changed = await client.patch(created.headers["Location"], json={"description": "To the moon"})
    assert changed.status_code == 200
