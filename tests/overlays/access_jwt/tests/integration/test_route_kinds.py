"""Every kind of route that FastAPI and Starlette have asks for credentials, wherever and whenever it was added."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from app.core.config import Settings
from app.core.discovery import include
from app.core.permissions import open_to_all
from app.main import create_app
from tests.harness.client import running
from tests.harness.isolation import Isolation
from tests.integration.test_access import handshake

calls: list[str] = []
REPORTS = FastAPI(openapi_url=None)
OPENED_REPORTS = FastAPI(openapi_url=None)


def note() -> str:
    calls.append("called")
    return "called"


async def plain(request: Request) -> Response:
    return PlainTextResponse(note())


@open_to_all
async def opened_plain(request: Request) -> Response:
    return await plain(request)


async def talk(websocket: WebSocket) -> None:
    note()
    await websocket.accept()
    await websocket.close()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    note()
    await PlainTextResponse("asgi")(scope, receive, send)


class Page(HTTPEndpoint):
    async def get(self, _request: Request) -> Response:
        return PlainTextResponse(note())

    post = get


class Talk(WebSocketEndpoint):
    async def on_connect(self, websocket: WebSocket) -> None:
        note()
        await websocket.accept()


@REPORTS.get("/daily")
async def daily() -> str:
    return note()


@OPENED_REPORTS.get("/daily")
@open_to_all
async def open_daily() -> str:
    return note()


@OPENED_REPORTS.get("/secret")
async def secret_daily() -> str:
    return note()


def nested(depth: int, **options: Any) -> APIRouter:
    """A router in a router in a router."""
    router = APIRouter()
    router.add_api_route("/deep", note, methods=["GET", "POST"], **options)
    for level in range(depth):
        outer = APIRouter(prefix=f"/level{level}")
        outer.include_router(router)
        router = outer
    return router


def of(path: str, method: str = "POST", **options: Any) -> APIRouter:
    router = APIRouter(**options)
    router.add_api_route(path, note, methods=[method])
    return router


def from_library(app: FastAPI) -> None:
    """What a library adds while the service starts, below everything else."""
    app.router.routes.append(Route("/kinds/library", plain, methods=["POST"]))


def frontend(app: Any, folder: Path, path: str) -> None:
    app.frontend(path, directory=folder)


def sub_app(app: FastAPI, folder: Path) -> None:
    app.mount("/kinds/reports", REPORTS)
    app.mount("/kinds/opened", OPENED_REPORTS)
    app.mount(
        "/kinds/middleware", Starlette(routes=[Route("/x", opened_plain)], middleware=[Middleware(CORSMiddleware)])
    )


KINDS: dict[str, tuple[str, str, Callable[[FastAPI, Path], object]]] = {
    "a route": ("POST", "/kinds/route", lambda app, _: app.add_api_route("/kinds/route", note, methods=["POST"])),
    "a hidden route": (
        *("GET", "/kinds/hidden"),
        lambda app, _: app.add_api_route("/kinds/hidden", note, include_in_schema=False),
    ),
    "a hidden router": (
        "POST",
        "/kinds/router",
        lambda app, _: app.include_router(of("/kinds/router"), include_in_schema=False),
    ),
    "a discovered router": ("POST", "/kinds/found", lambda app, _: include(app, of("/kinds/found"))),
    "a sub-router": ("POST", "/level0/deep", lambda app, _: include(app, nested(1))),
    "a sub-router, deeply": ("GET", "/level2/level1/level0/deep", lambda app, _: app.include_router(nested(3))),
    "the tag users": ("POST", "/kinds/users", lambda app, _: include(app, of("/kinds/users", tags=["users"]))),
    "the tag auth": ("DELETE", "/kinds/auth", lambda app, _: include(app, of("/kinds/auth", "DELETE", tags=["auth"]))),
    "the tag projects": (
        "GET",
        "/kinds/projects",
        lambda app, _: include(app, of("/kinds/projects", "GET", tags=["projects"])),
    ),
    "the tag health": (
        "GET",
        "/kinds/health",
        lambda app, _: include(app, of("/kinds/health", "GET", tags=["health"])),
    ),
    "below /health": (
        "GET",
        "/health/secrets",
        lambda app, _: include(app, of("/health/secrets", "GET", tags=["health"])),
    ),
    "Starlette's route": (
        "POST",
        "/kinds/plain",
        lambda app, _: app.add_route("/kinds/plain", plain, methods=["POST"]),
    ),
    "Starlette's class": ("GET", "/kinds/page", lambda app, _: app.router.routes.append(Route("/kinds/page", Page))),
    "a partial": (
        *("GET", "/kinds/partial"),
        lambda app, _: app.add_route("/kinds/partial", functools.partial(plain)),
    ),
    "Starlette's route in a router": (
        *("POST", "/kinds/inner"),
        lambda app, _: (
            router := APIRouter(),
            router.add_route("/kinds/inner", plain, methods=["POST"]),
            include(app, router),
        ),
    ),
    "a mounted ASGI application": ("GET", "/kinds/asgi/", lambda app, _: app.mount("/kinds/asgi", asgi)),
    "a mounted ASGI application, inside": ("PUT", "/kinds/asgi/x", lambda app, _: app.mount("/kinds/asgi", asgi)),
    "a mount in a router": (
        *("GET", "/kinds/pages/x"),
        lambda app, _: (router := APIRouter(), router.mount("/kinds/pages", asgi), include(app, router)),
    ),
    "static files": (
        *("GET", "/kinds/static/file.txt"),
        lambda app, folder: app.mount("/kinds/static", StaticFiles(directory=folder)),
    ),
    "a sub-application": ("GET", "/kinds/reports/daily", sub_app),
    "a sub-application, an unknown path": ("GET", "/kinds/reports/none", sub_app),
    "a closed route of a sub-application": ("GET", "/kinds/opened/secret", sub_app),
    "a sub-application with middleware": ("GET", "/kinds/middleware/x", sub_app),
    "a mounted router": (
        *("GET", "/kinds/mounted/x"),
        lambda app, _: app.router.routes.append(Mount("/kinds/mounted", routes=[Route("/x", plain)])),
    ),
    "a host": (
        "GET",
        "http://admin.test/x",
        lambda app, _: app.router.routes.insert(0, Host("admin.test", app=Router([Route("/x", plain)]))),
    ),
    "a host that has a path of ours": (
        *("GET", "http://admin.test/health"),
        lambda app, _: app.router.routes.insert(0, Host("admin.test", app=Router([Route("/health", plain)]))),
    ),
    "a frontend": ("GET", "/kinds/site/file.txt", lambda app, folder: frontend(app, folder, "/kinds/site")),
    "a frontend in a router": (
        *("GET", "/kinds/web/file.txt"),
        lambda app, folder: (router := APIRouter(), frontend(router, folder, "/kinds/web"), app.include_router(router)),
    ),
    "a route of a library": ("POST", "/kinds/library", lambda app, _: from_library(app)),
}

SOCKETS: dict[str, Callable[[FastAPI], object]] = {
    "a WebSocket": lambda app: app.add_api_websocket_route("/kinds/socket", talk),
    "Starlette's WebSocket": lambda app: app.router.add_websocket_route("/kinds/socket", talk),
    "Starlette's class": lambda app: app.router.routes.append(WebSocketRoute("/kinds/socket", Talk)),
    "a WebSocket in a router": lambda app: (
        router := APIRouter(prefix="/kinds"),
        router.add_api_websocket_route("/socket", talk),
        include(app, router),
    ),
    "a WebSocket in a sub-application": lambda app: app.mount(
        "/kinds", (sub := FastAPI(), sub.add_api_websocket_route("/socket", talk))[0]
    ),
    "a WebSocket in an ASGI application": lambda app: app.mount("/kinds/socket", Talk),
}


@pytest.fixture
async def app(settings: Settings, test_engine: AsyncEngine, isolated: Isolation) -> AsyncGenerator[FastAPI]:
    """An application of the test's own, to which it adds routes."""
    calls.clear()
    async with running(create_app(settings, test_engine), isolated.sandbox) as app:
        yield app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file."""
    (tmp_path / "file.txt").write_text("secret")
    (tmp_path / "index.html").write_text("secret")
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
async def test_a_kind_of_route_is_closed(
    name: str, app: FastAPI, client: httpx.AsyncClient, writer: httpx.AsyncClient, folder: Path
) -> None:
    method, path, add = KINDS[name]
    add(app, folder)

    refused = await client.request(method, path)

    assert refused.status_code == 401, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert calls == []
    assert (await writer.request(method, path)).status_code in {404 if "unknown" in name else 200}


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_kind_of_websocket_is_closed(
    name: str, app: FastAPI, client: httpx.AsyncClient, writer: httpx.AsyncClient
) -> None:
    SOCKETS[name](app)

    path = "/kinds/socket/" if "ASGI" in name else "/kinds/socket"
    assert await handshake(app, path) == 401
    assert calls == []
    assert await handshake(app, path, writer.headers) == 101


async def test_a_websocket_is_closed_where_the_server_cannot_refuse_it(app: FastAPI) -> None:
    app.add_api_websocket_route("/kinds/socket", talk)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/kinds/socket", "headers": [], "query_string": b""}, receive, send)

    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]
    assert calls == []


async def test_what_is_opened_is_open(app: FastAPI, client: httpx.AsyncClient, folder: Path) -> None:
    router = APIRouter(prefix="/opened")
    router.add_api_route("/decorated", open_to_all(lambda: note()), methods=["POST"])
    router.add_api_route("/documented", note, openapi_extra={"security": []})
    router.add_route("/opened/plain", opened_plain)
    include(app, router)
    app.mount("/opened/static", open_to_all(StaticFiles(directory=folder)))
    sub_app(app, folder)
    requests = {
        "POST": ["/opened/decorated"],
        "GET": ["/opened/documented", "/opened/plain", "/opened/static/file.txt", "/kinds/opened/daily"],
    }

    statuses = [(await client.request(method, path)).status_code for method in requests for path in requests[method]]

    assert statuses == [200] * 5


async def test_what_is_opened_opens_nothing_else(app: FastAPI, client: httpx.AsyncClient) -> None:
    """A class that inherits from an opened one is not open."""

    class Child(open_to_all(type("Parent", (Page,), {}))):  # type: ignore[misc]
        pass

    app.add_route("/child", Child)

    assert (await client.get("/child")).status_code == 401


async def test_a_route_with_a_rule_of_its_own_to_match_is_refused(app: FastAPI, client: httpx.AsyncClient) -> None:
    class Versioned(APIRoute):
        def matches(self, scope: Any) -> Any:
            return super().matches(scope)

    router = APIRouter(route_class=Versioned)
    router.add_api_route("/versioned", note)
    app.include_router(router)

    assert (await client.get("/versioned")).status_code == 500
    assert calls == []


async def test_no_body_is_read_without_credentials(app: FastAPI, client: httpx.AsyncClient) -> None:
    read: list[bytes] = []

    async def create(body: dict[str, Any]) -> None: ...

    async def body() -> AsyncGenerator[bytes]:
        read.append(b"{}")
        yield b"{}"

    app.add_api_route("/kinds/body", create, methods=["POST"])

    response = await client.post("/kinds/body", content=body(), headers={"content-type": "application/json"})

    assert (response.status_code, read) == (401, [])


async def test_unknown_paths_and_methods_are_told_to_anybody(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.put("/health")).status_code == 405


async def test_the_pages_of_the_documentation_are_open(client: httpx.AsyncClient) -> None:
    assert [(await client.get(path)).status_code for path in ("/openapi.json", "/docs", "/redoc")] == [200] * 3


async def test_a_request_that_never_ends_is_named(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    @app.get("/endless")
    @open_to_all
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr("tests.harness.client.request_timeout", 0.2)

    with pytest.raises(AssertionError, match=r"GET /endless was not complete after 0\.2 seconds"):
        await client.get("/endless")
    assert ended.is_set()


@pytest.mark.request_timeout(0.2)
async def test_the_marker_changes_the_limit(app: FastAPI, client: httpx.AsyncClient) -> None:
    app.add_api_route("/endless", open_to_all(functools.partial(asyncio.sleep, 60)))

    with pytest.raises(AssertionError, match=r"GET /endless .* 0\.2 seconds"):
        await client.get("/endless")
