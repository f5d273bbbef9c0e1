"""What an owner adds: a route for owners only, an open one, an endless stream, and WebSockets."""

import asyncio
from collections.abc import AsyncGenerator

from fastapi import APIRouter, WebSocket
from fastapi.responses import StreamingResponse

from app.auth.deps import Owner
from app.auth.models import Role
from app.core.permissions import READ, needs, open_to_all

router = APIRouter(prefix="/api/v1/extra", tags=["extra"])


@router.post("/purge")
@needs(Role.OWNER)
async def purge() -> str:
    """Purge."""
    return "purged"


@router.get("/secrets")
async def list_secrets(_owner: Owner) -> str:
    """Say the secrets."""
    return "secret"


@router.post("/vote")
@open_to_all
async def vote() -> str:
    """Vote."""
    return "voted"


@router.post("/search")
@needs(READ)
async def search() -> str:
    """Search, which changes nothing."""
    return "found"


async def ticks() -> AsyncGenerator[str]:
    """Yield events without an end."""
    while True:
        yield "data: tick\n\n"
        await asyncio.sleep(60)


@router.get("/events")
async def stream_events() -> StreamingResponse:
    """Send events without an end."""
    return StreamingResponse(ticks(), media_type="text/event-stream")


@router.websocket("/talk")
async def talk(socket: WebSocket) -> None:
    """Say it again."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


@router.websocket("/listen")
@open_to_all
async def listen(socket: WebSocket) -> None:
    """Say hello."""
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()
