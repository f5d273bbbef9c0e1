"""A session that only reads: each query is on its own, and what it changes is refused."""

from contextlib import asynccontextmanager

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import Settings
from app.core.db import ReadSessionLocal, bind_engine, create_engine, get_read_db
from tests.harness.isolation import Isolation
from tests.integration.harness.notes import Note

reading = asynccontextmanager(get_read_db)


async def moments(session: AsyncSession) -> list[object]:
    """Return when the transaction of each of two queries began."""
    return [await session.scalar(select(func.now())) for _ in range(2)]


@pytest.mark.real_db
async def test_its_queries_are_transactions_of_their_own(isolation: Isolation) -> None:
    async with reading() as session:
        first, second = await moments(session)

    assert first != second


@pytest.mark.real_db
async def test_behind_pgbouncer_they_are_not(isolation: Isolation, settings: Settings) -> None:
    """It would give each message of a query to another server connection."""
    url = isolation.databases.url(isolation.database).render_as_string(hide_password=False)
    engine = create_engine(settings.model_copy(update={"database_url": url, "db_behind_pgbouncer": True}))
    async with bind_engine(engine), ReadSessionLocal() as session:
        first, second = await moments(session)

    assert first == second


async def test_what_it_changes_is_refused(isolation: Isolation) -> None:
    with pytest.raises(RuntimeError, match="ReadSession stores nothing"):
        async with reading() as session:
            session.add(Note(line="lost"))
