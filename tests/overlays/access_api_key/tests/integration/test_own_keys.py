"""What keys may do with routes of an owner's own, and with files."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api_keys.deps import CurrentKey, writing_key
from app.core.config import Settings
from app.core.permissions import READ, needs
from app.main import create_app
from tests.fixtures.files import URL, upload
from tests.harness.client import running
from tests.harness.isolation import Isolation
from tests.harness.queries import query_budget

REQUESTS = (("POST", "/search"), ("GET", "/export"), ("GET", "/admin"), ("GET", "/scoped"), ("GET", "/name"))


@pytest.fixture
async def app(settings: Settings, test_engine: AsyncEngine, isolated: Isolation) -> AsyncGenerator[FastAPI]:
    """An application with routes that declare what they need."""
    app = create_app(settings, test_engine)

    @app.post("/search")
    @needs(READ)
    async def search() -> None: ...

    @app.get("/export", dependencies=[Depends(writing_key)])
    async def export() -> None: ...

    @app.get("/admin")
    @needs("owner")
    async def admin() -> None: ...

    @app.get("/scoped")
    @needs("reports:read")
    async def scoped() -> None: ...

    @app.get("/name")
    async def name(key: CurrentKey) -> str:
        return key.name

    async with running(app, isolated.sandbox):
        yield app


async def statuses(client: httpx.AsyncClient) -> list[int]:
    return [(await client.request(method, path)).status_code for method, path in REQUESTS]


async def test_keys_may_do_what_routes_declare(
    client: httpx.AsyncClient, reading_client: httpx.AsyncClient, authed_client: httpx.AsyncClient
) -> None:
    assert await statuses(client) == [401] * 5
    assert await statuses(reading_client) == [200, 403, 403, 200, 200]
    assert await statuses(authed_client) == [200, 200, 403, 200, 200]


async def test_the_key_is_asked_for_once(authed_client: httpx.AsyncClient) -> None:
    with query_budget(1):
        assert (await authed_client.get("/name")).status_code == 200


@pytest.mark.usefixtures("storage")
async def test_a_file_belongs_to_its_key(
    authed_client: httpx.AsyncClient, other_client: httpx.AsyncClient, reading_client: httpx.AsyncClient
) -> None:
    """Every key may read it, since a key that only reads could read nothing otherwise."""
    file = f"{URL}/{(await upload(authed_client))['id']}"

    assert [(await each.get(file)).status_code for each in (other_client, reading_client)] == [200, 200]
    assert [(await each.delete(file)).status_code for each in (other_client, reading_client)] == [403, 403]
    assert (await authed_client.delete(file)).status_code == 204
