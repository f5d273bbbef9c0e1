"""A session that only reads: each query is on its own, and nothing is stored."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.core.db import get_read_db
from tests.harness.isolation import Isolation
from tests.integration.harness.notes import Note


async def moments(session: AsyncSession) -> list[object]:
    """Return when the transaction of each of two queries began."""
    return [await session.scalar(select(func.now())) for _ in range(2)]


@pytest.mark.real_db
async def test_its_queries_are_transactions_of_their_own(isolation: Isolation) -> None:
    first, second = await moments(await get_read_db())

    assert first != second


@pytest.mark.real_db
async def test_each_query_gives_its_connection_back(isolation: Isolation, test_engine: AsyncEngine) -> None:
    session = await get_read_db()
    pool = test_engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)

    for query in (session.execute, session.scalar, session.scalars):
        await query(select(1))
        assert pool.checkedout() == 0


async def test_it_stores_nothing() -> None:
    session = await get_read_db()

    with pytest.raises(RuntimeError, match="ReadSession stores nothing"):
        session.add(Note(line="lost"))
