"""Middleware as plain ASGI applications (https://asgi.readthedocs.io/en/stable/specs/www.html): nothing is buffered.

Each class does one thing; `app.main` puts them in order.
"""

import logging
import re
from asyncio import get_running_loop, timeout_at
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_hex
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import RETRY_AFTER, problem_response
from app.core.logging import request_id
from app.core.security import Client, client

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

log = logging.getLogger("app.request")
FREE_BODY_BYTES = 16 * 1024
"""How much of each body does not count: about what the server buffers of a connection anyway."""
PAGE_TYPES = (b"text/html", b"application/xhtml+xml", b"text/javascript", b"application/javascript")
"""Pages, and scripts: a worker has the policy of the script that it runs."""
PAGE_POLICY = b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
VALIDATORS = frozenset({b"etag", b"last-modified"})
NO_STORE = (b"cache-control", b"no-store")
ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
"""The messages that begin an answer, and have its headers."""
ACCEPTABLE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Give each request and WebSocket an id - the client's `X-Request-ID` if it is a sane one - and return it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        own = given if ACCEPTABLE_REQUEST_ID.fullmatch(given) else token_hex(16).encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] in ANSWERS:
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", own)]
            await send(message)

        token = request_id.set(own.decode())
        calling = client.set(Client(scope["client"][0] if scope.get("client") else ""))
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)
            client.reset(calling)


class AccessLogMiddleware:
    """Log one line for each request when it is over."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not log.isEnabledFor(logging.INFO):
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting_status)
        finally:
            milliseconds = round((perf_counter() - started) * 1000, 2)
            # Quoted again, because a decoded path can hold a line break, and pretend to be a line of its own.
            request = {"method": scope["method"], "path": quote(scope["path"]), "status": status, "ms": milliseconds}
            log.info("%(method)s %(path)s %(status)s %(ms)s ms", request, extra=request)


class BodyMemoryMiddleware:
    """Bound the memory that bodies take: refuse one with a 503 when all those in flight would exceed `max_bytes`.

    The first `FREE_BODY_BYTES` of each do not count, so large bodies that stall keep no ordinary request out. Bodies of
    more than `max_each`, which a handler has allowed, are its own concern: they are to be streamed.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_each: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_each = max_each
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = counted = 0

        async def receive_counting() -> Message:
            nonlocal received, counted
            message = await receive()
            received += len(message.get("body", b""))
            more = received - FREE_BODY_BYTES - counted
            if more > 0 and scope["max_body_bytes"] <= self.max_each:
                if self.held + more > self.max_bytes:
                    detail = "The service has too many large bodies in memory at the moment. Try again."
                    raise HTTPException(503, detail, headers=RETRY_AFTER | {"Connection": "close"})
                self.held += more
                counted += more
            return message

        try:
            await self.app(scope, receive_counting, send)
        finally:
            self.held -= counted


class SecurityHeadersMiddleware:
    """Add the response headers that browsers want to see from an API, unless a response brings its own.

    An HTML page may load what comes from this origin, and has no inline scripts or styles; one that needs more brings
    its own Content-Security-Policy. No response is stored, except static files: those with an ETag or a Last-Modified
    that are not below `/api/`.

    Sources: OWASP REST Security Cheat Sheet, "Security Headers"; RFC 9111, section 5.2.2.5.
    """

    def __init__(self, app: ASGIApp, *, https_only: bool) -> None:
        self.app = app
        self.headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
        ]
        if https_only:
            self.headers.append((b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
        self.api_headers = [*self.headers, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
        self.page_headers = [*self.headers, (b"content-security-policy", PAGE_POLICY)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_api = scope["path"].removeprefix(scope.get("root_path", "")).startswith("/api/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower(): value for name, value in message["headers"]}
                is_page = present.get(b"content-type", b"").startswith(PAGE_TYPES)
                is_static = not VALIDATORS.isdisjoint(present) and not is_api
                ours = self.page_headers if is_page else self.api_headers
                added = ours if is_static else [*ours, NO_STORE]
                message["headers"] = [*message["headers"], *(h for h in added if h[0] not in present)]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RootPathMiddleware:
    """Serve below a path prefix, whether the proxy in front removes it from the requests or not.

    Routes are matched without it. It is put before a `Location` that is a path.

    Source: ASGI specification, "HTTP & WebSocket ASGI Message Format": `path` begins with `root_path`.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self.app = app
        self.root_path = root_path
        self.own_path = re.compile(rb"/(?!/|%s(?:[/?#]|$))" % re.escape(root_path[1:].encode()))
        """Matches a `Location` that is a path without the prefix."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.root_path or scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        path = scope["path"]  # Or `*`, which is none: RFC 9112, section 3.2.4.
        if path.startswith("/") and not f"{path}/".startswith(f"{self.root_path}/"):
            scope["path"] = self.root_path + scope["path"]
            scope["raw_path"] = self.root_path.encode() + (scope.get("raw_path") or b"")
        scope["root_path"] = self.root_path

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, self.root_path.encode() + value)
                    if name.lower() == b"location" and self.own_path.match(value)
                    else (name, value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await self.app(scope, receive, send_with_prefix)


class UnhandledErrorMiddleware:
    """Answer what nobody handled with a bare 500; the log has the traceback, the client only the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_noting_start)
        except Exception:
            if started:  # Too late for another answer: the server has to cut the connection.
                raise
            log.exception("unhandled error in %s %s", scope["method"], quote(scope["path"]))
            response = problem_response(scope["path"], 500, "Something went wrong. The request id leads to the cause.")
            await response(scope, receive, send)


class HeadMiddleware:
    """Answer HEAD like GET, without the body, and `OPTIONS *`: RFC 9110, sections 9.3.2 and 9.3.7.

    FastAPI has HEAD only where a route declares it: such a route is left alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the application's coroutine, for all other methods without one around it."""
        app = self.app
        if scope["type"] == "http" and scope["method"] in {"HEAD", "OPTIONS"}:
            if scope["path"] == "*":
                app = Response(status_code=204)
            elif scope["method"] == "HEAD" and not self.is_declared(scope):
                scope, send = dict(scope, method="GET"), partial(self.send_head, send)
        return app(scope, receive, send)

    def is_declared(self, scope: Scope) -> bool:
        """Return whether a route itself answers this method."""
        return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)

    async def send_head(self, send: Send, message: Message) -> None:
        """Send a response without its body."""
        await send(dict(message, body=b"") if message["type"] == "http.response.body" else message)


class BodyLimitMiddleware:
    """Refuse a request whose body is longer than `max_bytes`, or takes more than `max_seconds` to arrive.

    Limits are enforced while the body is read. A route can have others: see `body_limit` and `allow_body`.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["max_body_bytes"], scope["max_body_seconds"] = self.max_bytes, self.max_seconds
        deadline: float | None = None
        received, is_complete = 0, False

        def check(length: int) -> None:
            if length > scope["max_body_bytes"]:
                # FastAPI turns anything but an HTTPException that comes out of reading a body into a 400.
                detail = f"The body may have at most {scope['max_body_bytes']} bytes."
                raise HTTPException(413, detail, headers={"Connection": "close"})

        async def receive_counting() -> Message:
            nonlocal deadline, received, is_complete
            if is_complete:  # Whoever still asks wants to know whether the client is there.
                return await receive()
            if deadline is None:
                scope.update(getattr(scope.get("endpoint"), "body_limit", {}))
                given = dict(scope["headers"]).get(b"content-length", b"")
                check(int(given) if given.isdigit() else 0)
                deadline = get_running_loop().time() + scope["max_body_seconds"]
            try:
                async with timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                seconds = scope["max_body_seconds"]
                detail = f"The body may take at most {seconds:g} seconds to arrive."
                # RFC 9110, section 15.5.9: the rest of it is not waited for.
                raise HTTPException(408, detail, headers={"Connection": "close"}) from None
            received += len(message.get("body", b""))
            check(received)
            is_complete = not message.get("more_body", False)
            return message

        await self.app(scope, receive_counting, send)


def body_limit(max_bytes: int, max_seconds: float | None = None) -> Callable[[HandlerT], HandlerT]:
    """Let the requests of a route have a longer or only a shorter body than others.

    Decorate the handler, below `@router.post(...)`: FastAPI reads a declared body before it calls the handler.
    """
    limit = {"max_body_bytes": max_bytes} | ({} if max_seconds is None else {"max_body_seconds": max_seconds})

    def declare(handler: HandlerT) -> HandlerT:
        vars(handler)["body_limit"] = limit
        return handler

    return declare


def allow_body(request: Request, max_bytes: int, max_seconds: float | None = None) -> None:
    """Let a request have a longer or only a shorter body than others. Call it before reading the body.

    A handler that declares its body is called too late for this: decorate it with `body_limit`.
    """
    request.scope["max_body_bytes"] = max_bytes
    if max_seconds is not None:
        request.scope["max_body_seconds"] = max_seconds
