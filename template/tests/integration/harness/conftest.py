"""The application under test here is the service with one more router, and one more table in its database."""

from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.main import create_app
from tests.harness.client import opened, running
from tests.harness.isolation import Isolation
from tests.integration.harness.notes import NoteBase, gate, router


@pytest.fixture(scope="package")
async def app(settings: Settings, test_engine: AsyncEngine, isolated: Isolation) -> AsyncGenerator[FastAPI]:
    app = create_app(settings, test_engine)
    app.include_router(opened(router))
    async with running(app, isolated.sandbox):
        yield app


@pytest.fixture(autouse=True)
async def notes(request: pytest.FixtureRequest, isolation: Isolation, test_engine: AsyncEngine) -> None:
    """The table, made in the test's own database or in its sandbox: PostgreSQL rolls that back, too."""
    gate.clear()
    async with test_engine.begin() as connection:
        await connection.run_sync(NoteBase.metadata.create_all)
