"""An HTTP client that calls the application directly: no network, and no server to start."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

import httpx
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from tests.harness.isolation import Isolation, fail_for
from tests.harness.leftovers import applications
from tests.harness.queries import recording, refuse_repetition
from tests.harness.sandbox import Sandbox, serving
from tests.harness.tasks import LIFESPAN, lifespan_tasks

AnswerCheck = Callable[[str, FastAPI, Scope, httpx.Response], None]
answer_checks: list[AnswerCheck] = []
"""What each answer has to pass: called with the request's name, the application, what it was asked, and the answer."""

_scope: ContextVar[Scope] = ContextVar("scope")
"""The request that this task has made, as the application sees it."""


class Transport(httpx.ASGITransport):
    """Hands a request to the application, and watches its queries and its answer."""

    def __init__(self, app: FastAPI, isolation: Isolation, most_repetitions: int) -> None:
        # An exception that the service answers with a 500 is logged there: the test sees what a client would see.
        super().__init__(app=self._serve, raise_app_exceptions=False)
        self._app = app
        self._isolation = isolation
        self._most_repetitions = most_repetitions
        self._lock = asyncio.Lock()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serve one request."""
        async with self._lock:
            await self._isolation.commit_pending()
        name = f"{request.method} {request.url.path}"
        with recording() as statements:
            response = await super().handle_async_request(request)
        refuse_repetition(name, statements, self._most_repetitions)
        for check in answer_checks:
            check(name, self._app, _scope.get(), response)
        return response

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        _scope.set(scope)
        serving.set(True)
        await self._app(scope, receive, send)


@asynccontextmanager
async def running(app: FastAPI, sandbox: Sandbox | None = None) -> AsyncGenerator[FastAPI]:
    """Run the application's lifespan in a task of its own; what it stores in the sandbox is rolled back.

    A fixture is set up in one task and torn down in another, which a task group inside the lifespan would not survive.
    """
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def live() -> None:
        try:
            with lifespan_tasks():
                async with app.router.lifespan_context(app):
                    ready.set_result(None)
                    await over.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async with rolled_back(sandbox):
        task = asyncio.create_task(live(), name=LIFESPAN)
        await ready
    applications.append(app)
    try:
        yield app
    finally:
        applications.remove(app)
        async with rolled_back(sandbox):
            over.set()
            await task


@asynccontextmanager
async def rolled_back(sandbox: Sandbox | None) -> AsyncGenerator[None]:
    """Roll back what the block stores in the sandbox, and fail for what it leaves behind."""
    if sandbox is None:
        yield
        return
    sandbox.open_frame()
    try:
        yield
    finally:
        faults = await sandbox.close_frame()
    fail_for(faults)
