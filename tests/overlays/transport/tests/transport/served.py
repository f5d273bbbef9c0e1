"""A service with routes for the tests, in a process of its own: `python -m tests.transport.served LOOP`."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel
from sqlalchemy import text
from starlette.responses import StreamingResponse

from app.core.config import Settings, load
from app.core.deps import ReadSession, Session
from app.core.logging import logging_config
from app.core.middleware import body_limit
from app.core.server import Connection, serve
from app.main import create_app

router = APIRouter(prefix="/transport")
before: ContextVar[str] = ContextVar("before", default="nothing")


class Text(BaseModel):
    text: str


@router.get("/slow")
async def slow(session: ReadSession, seconds: float = 60) -> str:
    await session.execute(text("SELECT pg_sleep(:seconds) /* slow */"), {"seconds": seconds})
    return "slept"


@router.post("/write")
async def write(session: Session, request: Request, seconds: float = 60) -> str:
    await session.execute(text("CREATE TABLE IF NOT EXISTS written (n int)"))
    await session.execute(text("SELECT pg_sleep(:seconds) /* slow */"), {"seconds": seconds})
    return request.method


@router.get("/wait")
async def wait(seconds: float = 60) -> str:
    await asyncio.sleep(seconds)
    return "waited"


@router.get("/background")
async def background(path: str, tasks: BackgroundTasks) -> str:
    async def later() -> None:
        await asyncio.sleep(1)
        Path(path).write_text("done", encoding="utf-8")

    tasks.add_task(later)
    return "answered"


@router.get("/listen")
async def listen(path: str, request: Request) -> str:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    await asyncio.sleep(0.5)
    Path(path).write_text("told", encoding="utf-8")
    return "nobody reads this"


@router.get("/large")
async def large(size: int = 50_000_000) -> StreamingResponse:
    async def blocks() -> AsyncGenerator[bytes]:
        for _ in range(size // 50_000):
            yield b"x" * 50_000

    return StreamingResponse(blocks(), media_type="application/octet-stream")


@router.post("/echo")
async def echo(request: Request) -> dict[str, object]:
    body = await request.body()
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    return {"length": len(body), "headers": headers, "host": request.headers.get("host")}


@router.get("/trickle")
async def trickle(path: str, pause: float, count: int) -> StreamingResponse:
    async def blocks() -> AsyncGenerator[bytes]:
        try:
            for _ in range(count):
                yield b"x"
                await asyncio.sleep(pause)
        finally:
            Path(path).write_text("over", encoding="utf-8")

    return StreamingResponse(blocks(), media_type="application/octet-stream")


@router.post("/context")
async def context(request: Request, seconds: float = 0) -> str:
    """Return what another request has put into the context."""
    async for _ in request.stream():
        await asyncio.sleep(seconds)
    found = before.get()
    before.set("another request")
    return found


@router.get("/path/{path:path}")
async def path(path: str, request: Request) -> dict[str, str]:
    return {"path": path, "query": str(request.url.query), "host": request.headers.get("host", "")}


@router.post("/unread")
async def unread() -> str:
    return "unread"


@router.post("/declared")
@body_limit(2_000_000)
async def declared(body: Text) -> int:
    return len(body.text)


@router.post("/short")
@body_limit(100)
async def short(body: Text) -> int:
    return len(body.text)


def main() -> int:
    """Serve with the settings of the environment on an event loop."""
    settings = load(Settings)
    app = create_app(settings)
    app.include_router(router)
    config = uvicorn.Config(
        app,
        port=settings.port,
        loop=sys.argv[1],  # type: ignore[arg-type]
        http=partial(  # type: ignore[arg-type]
            Connection, max_head_bytes=settings.max_request_head_bytes, write_timeout=settings.write_timeout
        ),
        log_config=logging_config(settings),
        access_log=False,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    return serve(config, 0)


if __name__ == "__main__":
    sys.exit(main())
