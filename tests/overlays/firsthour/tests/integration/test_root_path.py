"""Behind a proxy that serves the application below a path prefix, and may remove it from requests."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Message, Scope

from app.core.config import Settings
from app.main import create_app
from tests.harness.isolation import Isolation

PREFIX = "/billing"


@pytest.fixture
def prefixed_app(settings: Settings, test_engine: AsyncEngine) -> FastAPI:
    return create_app(settings.model_copy(update={"root_path": PREFIX}), test_engine)


@pytest.fixture(params=["", PREFIX], ids=["prefix removed", "prefix kept"])
async def proxied(
    request: pytest.FixtureRequest,
    prefixed_app: FastAPI,
    isolation: Isolation,
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client whose requests arrive as a proxy of either kind sends them."""
    transport = httpx.ASGITransport(app=prefixed_app)
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://test{request.param}", trust_env=False
    ) as client:
        yield client


async def test_a_location_has_the_prefix(proxied: httpx.AsyncClient) -> None:
    project = await proxied.post("/api/v1/projects", json={"name": "Apollo"})
    note = await proxied.post("/api/v1/notes")

    assert project.status_code == 201, project.text
    assert project.headers["location"] == f"{PREFIX}/api/v1/projects/{project.json()['id']}"
    assert note.headers["location"] == f"{PREFIX}/api/v1/notes/1"
    assert (await proxied.get(f"http://test{project.headers['location']}")).status_code == 200


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("/page", f"{PREFIX}/page"),
        (f"{PREFIX}/page", f"{PREFIX}/page"),
        (f"{PREFIX}?a=1", f"{PREFIX}?a=1"),
        (f"{PREFIX}s", f"{PREFIX}{PREFIX}s"),
        ("https://elsewhere.example/page", "https://elsewhere.example/page"),
        ("//elsewhere.example/page", "//elsewhere.example/page"),
        ("page", "page"),
    ],
)
async def test_only_a_path_gets_the_prefix(proxied: httpx.AsyncClient, given: str, location: str) -> None:
    response = await proxied.get("/elsewhere", params={"to": given})

    assert response.headers["location"] == location


async def test_a_complete_address_has_the_prefix(proxied: httpx.AsyncClient) -> None:
    assert (await proxied.get("/absolute")).json() == [
        f"http://test{PREFIX}/api/v1/notes/1",
        f"http://test{PREFIX}/absolute?page=2",
    ]


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_documentation_is_found_below_the_prefix(proxied: httpx.AsyncClient, page: str) -> None:
    response = await proxied.get(page)

    assert f"{PREFIX}/openapi.json" in response.text
    assert f'src="{PREFIX}/docs/assets/' in response.text
    assert (await proxied.get("/openapi.json")).json()["servers"] == [{"url": PREFIX}]
    assert (await proxied.get("/docs/assets/swagger-ui.css")).status_code == 200


async def test_an_api_answer_is_not_stored_below_a_prefix(proxied: httpx.AsyncClient) -> None:
    assert (await proxied.get("/api/v1/notes/1")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/socket", f"{PREFIX}/socket"])
async def test_a_websocket_is_found_below_the_prefix(prefixed_app: FastAPI, path: str) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    await prefixed_app(scope, receive, send)

    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]


async def test_without_a_prefix_nothing_is_changed(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/v1/notes")).headers["location"] == "/api/v1/notes/1"
    assert "servers" not in (await client.get("/openapi.json")).json()
