"""An HTTP client that calls the application directly: no network, and no server to start."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.permissions import open_to_all
from tests.harness.isolation import Isolation, fail_for
from tests.harness.leftovers import applications
from tests.harness.lifespan_tasks import LIFESPAN, lifespan_tasks
from tests.harness.queries import recording, refuse_repetition
from tests.harness.sandbox import Sandbox, serving

AnswerCheck = Callable[[str, FastAPI, Scope, httpx.Response], None]
answer_checks: list[AnswerCheck] = []
"""What each answer has to pass: called with the request's name, the application, what it was asked, and the answer."""

request_timeout = 60.0
"""For how many seconds a request may last; the marker `request_timeout` changes it for one test."""
DISCONNECT_TIMEOUT = 5
"""For how many seconds the application may go on after a response was closed that is not complete."""

_exchange: ContextVar["Exchange"] = ContextVar("exchange")


class Exchange(httpx.AsyncByteStream):
    """A request that the application serves in a task, and the body of its response, which can be read meanwhile."""

    def __init__(self, name: str, on_complete: Callable[["Exchange"], None]) -> None:
        self.name = name
        self.scope: Scope = {}
        self.statements: list[str] = []
        self.answer = httpx.Response(500)
        self.seconds = request_timeout
        self._deadline = asyncio.get_running_loop().time() + self.seconds
        self._on_complete: Callable[[Exchange], None] | None = on_complete
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_over = asyncio.Event()

    def begin(self, served: Coroutine[Any, Any, httpx.Response]) -> None:
        """Serve the request in a task."""
        self._task = asyncio.create_task(self._record(served), name=self.name)
        self._task.add_done_callback(lambda _: self._messages.put_nowait(None))

    async def _record(self, served: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
        _exchange.set(self)
        with recording() as self.statements:
            return await served

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the application, and take what it sends."""
        self.scope = scope
        is_read = False

        async def receive_or_disconnect() -> Message:
            nonlocal is_read
            if is_read:
                await self._is_over.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def send_noting(message: Message) -> None:
            await send(message)
            self._messages.put_nowait(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._is_over.set()

        await app(scope, receive_or_disconnect, send_noting)

    async def response(self) -> httpx.Response:
        """Return the response as soon as it begins."""
        message = await self._next()
        if message is None:  # It failed before that.
            failed = self._task.result()
            return httpx.Response(failed.status_code, headers=failed.headers, stream=self)
        return httpx.Response(message["status"], headers=message.get("headers", []), stream=self)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield the body, and return when the application is done with the request."""
        while message := await self._next():
            if self.scope["method"] != "HEAD":
                yield message.get("body", b"")
        self._task.result()
        if on_complete := self._on_complete:
            self._on_complete = None
            on_complete(self)

    async def aclose(self) -> None:
        """Tell the application that the client has disconnected."""
        self._is_over.set()
        await asyncio.wait({self._task}, timeout=DISCONNECT_TIMEOUT)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _next(self) -> Message | None:
        limit = asyncio.timeout_at(self._deadline)
        try:
            async with limit:
                return await self._messages.get()
        except BaseException as error:
            self._task.cancel()
            await asyncio.wait({self._task})
            if isinstance(error, TimeoutError) and limit.expired():
                raise AssertionError(
                    f"{self.name} was not complete after {self.seconds:g} seconds: read an endless response with "
                    "client.stream(), and mark a test that takes longer with @pytest.mark.request_timeout(seconds)"
                ) from None
            raise


class Transport(httpx.ASGITransport):
    """Hands a request to the application, and watches its time, its queries and its answer."""

    def __init__(self, app: FastAPI, isolation: Isolation, most_repetitions: int) -> None:
        # An exception that the service answers with a 500 is logged there: the test sees what a client would see.
        super().__init__(app=self._serve, raise_app_exceptions=False)
        self._app = app
        self._isolation = isolation
        self._most_repetitions = most_repetitions
        self._lock = asyncio.Lock()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serve one request. The response can be read before it is complete."""
        async with self._lock:
            await self._isolation.commit_pending()
        exchange = Exchange(f"{request.method} {request.url.path}", self._check)
        exchange.begin(super().handle_async_request(request))
        exchange.answer = await exchange.response()
        return exchange.answer

    def _check(self, exchange: Exchange) -> None:
        refuse_repetition(exchange.name, exchange.statements, self._most_repetitions)
        for check in answer_checks:
            check(exchange.name, self._app, exchange.scope, exchange.answer)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        serving.set(True)
        await _exchange.get().serve(self._app, scope, receive, send)


def opened(router: APIRouter) -> APIRouter:
    """Return a router of a test, after declaring that anybody may call its routes."""
    for route in router.routes:
        open_to_all(getattr(route, "endpoint", route))
    return router


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
