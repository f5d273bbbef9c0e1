"""The application behind a real server and a real socket."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from app.core.server import Connection


class Server(uvicorn.Server):
    """Leaves signals to the tests: it could not give them back, as its end is in another run of the event loop."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp, keep_alive: int = 5) -> AsyncGenerator[str]:
    """Serve `app`, which is started already, on a free port of the loopback interface; yield its address."""
    config = uvicorn.Config(
        app,
        port=0,
        http=Connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(), name="uvicorn")
    while not server.started:
        await asyncio.sleep(0.005)
        if task.done():
            await task
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task
