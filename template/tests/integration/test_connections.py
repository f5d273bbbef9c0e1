"""What the engine does with connections that are of no use any more. `tests/faults/` has them fail at every moment."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.core.db import create_engine
from app.core.errors import DatabaseUnavailableError
from tests.harness.isolation import Isolation
from tests.harness.server import connect_arguments

pytestmark = pytest.mark.real_db

WHO = text("SELECT pg_backend_pid()")


async def test_one_that_was_closed_while_nobody_used_it_is_replaced(
    isolation: Isolation, test_engine: AsyncEngine
) -> None:
    async with test_engine.connect() as connection:
        closed = await connection.scalar(WHO)
    admin = await asyncpg.connect(**connect_arguments(isolation.databases.server), database=isolation.database)
    await admin.execute("SELECT pg_terminate_backend($1, 5000)", closed)
    await admin.close()
    await asyncio.sleep(0.05)

    async with test_engine.connect() as connection:
        assert await connection.scalar(WHO) != closed


async def test_one_that_does_not_answer_is_given_up(isolation: Isolation, settings: Settings) -> None:
    url = isolation.databases.url(isolation.database).render_as_string(hide_password=False)
    time_outs = {"db_statement_timeout": 0.1, "db_connect_timeout": 0.5}
    engine = create_engine(settings.model_copy(update=time_outs | {"database_url": url, "db_pool_size": 1}))

    async with engine.connect() as connection:
        await connection.execute(text("SET statement_timeout = 0"))  # Or the server would be the first.
        before = await connection.scalar(WHO)
        with pytest.raises(DatabaseUnavailableError):
            await connection.execute(text("SELECT pg_sleep(60)"))
        assert connection.invalidated
    async with engine.connect() as connection:
        assert await connection.scalar(WHO) != before
    await engine.dispose()
