"""What the access log says of each request, and when."""

import logging

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.core.middleware import AccessLogMiddleware

SCOPE = {"type": "http", "method": "GET", "path": "/a path"}


async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ConnectionResetError


async def receive() -> Message:
    raise NotImplementedError


async def send(_message: Message) -> None:
    pass


async def test_a_request_is_logged_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="app.request")

    await AccessLogMiddleware(respond)(SCOPE, receive, send)

    assert "GET /a%20path 204" in caplog.text


async def test_a_request_that_has_no_response_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="app.request")

    with pytest.raises(ConnectionResetError):
        await AccessLogMiddleware(fail)(SCOPE, receive, send)

    assert "GET /a%20path 0" in caplog.text
