"""A session that only reads: each query is on its own, and nothing is stored."""

from contextlib import AbstractContextManager
from inspect import isroutine

import pytest
from sqlalchemy import Executable, delete, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.schema import CreateTable

from app.core.db import READING_METHODS, QueryOnly, get_read_db
from tests.harness.isolation import Isolation
from tests.integration.harness.notes import Note, NoteBase

METHODS = {name for name in dir(Session) if not name.startswith("_") and isroutine(getattr(Session, name))}


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

    assert await session.run_sync(lambda sync: sync.query(Note.line).one()) == ("found",)
    assert await session.run_sync(lambda sync: sync.scalars(select(Note.line)).one()) == "found"
    await session.refresh(await session.get_one(Note, found.id))
    assert (await session.get_one(Note, found.id)).line == "found"
    assert (await session.scalars(select(Note.line))).all() == ["found"]
    assert (await session.execute(select(Note))).scalar_one().line == "found"
    assert not session.in_transaction()
    assert (session.info, session.sync_session.execution_options) == ({}, {})


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


@pytest.mark.parametrize("method", sorted(METHODS - READING_METHODS))
def test_each_method_that_is_not_known_to_read_is_refused(method: str) -> None:
    with refusing():
        getattr(QueryOnly(), method)()


@pytest.mark.parametrize(
    "statement",
    [
        insert(Note).values(line="lost"),
        update(Note).values(line="lost").returning(Note.id),
        delete(Note),
        select(insert(Note).values(line="lost").returning(Note.id).cte()),
        select(Note).with_for_update(),
        select(Note).from_statement(text("/* SELECT */ UPDATE harness_notes SET line = 'lost' RETURNING *")),
        text("WITH gone AS MATERIALIZED ( DELETE FROM harness_notes RETURNING 1) SELECT * FROM gone"),
        text("SELECT * INTO other FROM harness_notes"),
        text("SET statement_timeout = 0"),
        text("TRUNCATE harness_notes"),
        text("CALL something()"),
        CreateTable(NoteBase.metadata.tables["harness_notes"], if_not_exists=True),
    ],
    ids=str,
)
async def test_it_runs_only_statements_that_read(found: Note, statement: Executable) -> None:
    session = await get_read_db()

    with refusing():
        await session.execute(statement)
    with refusing():
        await session.run_sync(lambda sync: sync.scalars(statement).all())

    assert (await session.scalars(select(Note.line))).all() == ["found"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'INSERT INTO' AS \"for update\" -- INTO",
        "(SELECT 1) UNION (SELECT 2)",
        "VALUES (1)",
        "WITH numbers AS (SELECT 1) SELECT * FROM numbers",
        "SHOW server_version",
    ],
)
async def test_it_takes_words_for_what_they_are(found: Note, sql: str) -> None:
    assert (await (await get_read_db()).execute(text(sql))).all()


async def test_it_says_so_before_a_change_is_lost(found: Note) -> None:
    session = await get_read_db()
    note = await session.get_one(Note, found.id)

    with refusing():
        note.line = "lost"

    assert not session.in_transaction()
