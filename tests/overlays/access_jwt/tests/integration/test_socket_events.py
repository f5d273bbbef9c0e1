"""What a refused WebSocket leaves in the log."""

import logging

import pytest
from fastapi import WebSocket
from sqlalchemy.ext.asyncio import AsyncEngine

from app.auth.models import Role
from app.core.config import Settings
from app.main import create_app
from tests.fixtures.auth import MakeUser, SignedIn
from tests.harness.client import running
from tests.harness.isolation import Isolation
from tests.integration.test_access import handshake


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()


async def test_a_refused_websocket_is_a_security_event(
    settings: Settings,
    test_engine: AsyncEngine,
    isolated: Isolation,
    make_user: MakeUser,
    signed_in: SignedIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "app.security")
    user = await make_user(role=Role.READER)
    headers = (await signed_in(user)).headers
    async with running(create_app(settings, test_engine), isolated.sandbox) as app:
        app.add_api_websocket_route("/socket", talk)

        assert await handshake(app, "/socket", headers) == 403

    (event,) = [vars(record) for record in caplog.records if record.name == "app.security"]
    assert (event["event"], event["result"]) == ("request", "forbidden")
    assert (event["by"], event["client"], event["path"]) == (str(user.id), "127.0.0.1", "/socket")
