"""A session that only reads: each query is on its own, and nothing is stored."""

from contextlib import AbstractContextManager

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.core.db import get_read_db
from tests.harness.isolation import Isolation
from tests.integration.harness.notes import Note, NoteBase


@pytest.fixture
async def found(db_session: AsyncSession) -> Note:
    """A note that is there to be read."""
    await (await db_session.connection()).run_sync(NoteBase.metadata.create_all)
    note = Note(line="found")
    db_session.add(note)
    await db_session.commit()
    return note


def refusing() -> AbstractContextManager[object]:
    """Expect to be told that nothing is stored."""
    return pytest.raises(RuntimeError, match="ReadSession stores nothing")


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


async def test_it_knows_all_ways_to_read(found: Note) -> None:
    session = await get_read_db()

    assert (await session.get_one(Note, found.id)).line == "found"
    assert (await session.scalars(select(Note.line))).all() == ["found"]
    assert (await session.execute(select(Note))).scalar_one().line == "found"
    assert not session.in_transaction()


async def test_a_query_that_fails_does_not_spoil_the_next(found: Note) -> None:
    session = await get_read_db()

    with pytest.raises(ProgrammingError):
        await session.execute(text("SELECT nothing"))

    assert await session.scalar(select(Note.line)) == found.line


async def test_it_stores_nothing(found: Note) -> None:
    session = await get_read_db()

    with refusing():
        session.add(Note(line="lost"))
    with refusing():
        await session.merge(found)
    with refusing():
        await session.delete(await session.get_one(Note, found.id))


async def test_it_says_so_before_a_change_is_lost(found: Note) -> None:
    session = await get_read_db()
    (await session.get_one(Note, found.id)).line = "lost"

    with refusing():
        await session.commit()
