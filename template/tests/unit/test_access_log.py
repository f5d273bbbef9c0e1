"""When the lines of the access log are written: a moment later, but in any case."""

import asyncio
import logging

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.core.middleware import LATER, AccessLogMiddleware


async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


async def receive() -> Message:
    raise NotImplementedError


async def send(_message: Message) -> None:
    pass


@pytest.fixture
def access_log(caplog: pytest.LogCaptureFixture) -> AccessLogMiddleware:
    caplog.set_level(logging.INFO, logger="app.request")
    return AccessLogMiddleware(respond)


async def ask(access_log: AccessLogMiddleware, path: str) -> None:
    await access_log({"type": "http", "method": "GET", "path": path}, receive, send)


async def test_a_request_that_ends_after_the_service_is_written_at_once(
    access_log: AccessLogMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    await access_log({"type": "lifespan"}, receive, send)

    await ask(access_log, "/late")

    assert "GET /late 204" in caplog.text


def test_what_one_event_loop_has_not_written_the_next_one_does(
    access_log: AccessLogMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask_and_wait() -> None:
        await ask(access_log, "/second")
        await asyncio.sleep(2 * LATER)

    asyncio.run(ask(access_log, "/first"))
    assert caplog.text == ""
    asyncio.run(ask_and_wait())

    assert "GET /first 204" in caplog.text
    assert "GET /second 204" in caplog.text
