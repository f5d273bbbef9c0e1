"""What needs a database of the test's own: the marker is all that differs from a test in the sandbox."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import Executable, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core.db import AsyncSessionLocal
from app.core.errors import sqlstate
from tests.harness.databases import Databases
from tests.harness.isolation import Isolation
from tests.harness.sandbox import Sandbox
from tests.harness.server import connect_arguments
from tests.integration.harness.notes import Note

pytestmark = pytest.mark.real_db


@pytest.mark.parametrize("round_", [1, 2])
async def test_each_test_has_a_fresh_database(client: httpx.AsyncClient, db_session: AsyncSession, round_: int) -> None:
    note = (await client.post("/notes", params={"line": "the only one"})).json()

    assert note["id"] == 1
    assert (await db_session.scalars(select(Note.line))).all() == ["the only one"]


async def test_two_transactions_overlap(client: httpx.AsyncClient) -> None:
    assert (await client.post("/notes/crossing", params={"first": "a", "second": "b"})).status_code == 200


async def test_a_commit_survives_the_rollback_around_it(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    await client.post("/notes/outer-rollback", params={"inner_line": "kept", "outer_line": "dropped"})

    assert (await db_session.scalars(select(Note.line))).all() == ["kept"]


async def test_serializable_transactions_conflict(test_engine: AsyncEngine) -> None:
    engine = test_engine.execution_options(isolation_level="SERIALIZABLE")
    count = select(func.count()).select_from(Note)

    async with engine.connect() as first, engine.connect() as second:
        await first.execute(count)
        await second.execute(count)
        await first.execute(insert(Note).values(line="a"))
        await second.execute(insert(Note).values(line="b"))
        await first.commit()
        with pytest.raises(DBAPIError) as error:
            await second.commit()

    assert sqlstate(error.value) == "40001"


async def test_the_clock_moves_from_one_transaction_to_the_next(db_session: AsyncSession) -> None:
    first = await db_session.scalar(select(func.now()))
    await db_session.commit()
    second = await db_session.scalar(select(func.now()))

    assert first is not None
    assert second is not None
    assert second > first


async def test_commit_frees_an_advisory_lock(test_engine: AsyncEngine) -> None:
    lock = text("SELECT pg_try_advisory_xact_lock(1)")

    async with test_engine.connect() as first, test_engine.connect() as second:
        held = await first.scalar(lock)
        refused = await second.scalar(lock)
        await first.commit()
        granted = await second.scalar(lock)

    assert (held, refused, granted) == (True, False, True)


async def test_a_notification_arrives(test_engine: AsyncEngine) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(*news: str) -> None:
        heard.put_nowait(news[-1])

    async with test_engine.connect() as listener, test_engine.begin() as speaker:
        driver: Any = (await listener.get_raw_connection()).driver_connection
        await driver.add_listener("news", hear)
        await speaker.execute(text("NOTIFY news, 'hello'"))
        await speaker.commit()
        assert await asyncio.wait_for(heard.get(), timeout=5) == "hello"
        await driver.reset()


async def test_another_connection_sees_what_was_committed(db_session: AsyncSession) -> None:
    db_session.add(Note(line="for all to see"))
    await db_session.commit()

    async with AsyncSessionLocal() as other:
        assert (await other.scalars(select(Note.line))).all() == ["for all to see"]


@pytest.mark.parametrize(
    "leak",
    [insert(Note).values(line="new"), update(Note).values(line="other"), delete(Note), text("CREATE TABLE more ()")],
    ids=["insert", "update", "delete", "create"],
)
async def test_the_sandbox_notices_what_others_store(
    test_engine: AsyncEngine, isolation: Isolation, databases: Databases, leak: Executable
) -> None:
    async with test_engine.begin() as stranger:
        await stranger.execute(insert(Note).values(line="old"))
    sandbox = Sandbox(isolation.database)

    clean: list[str] = []
    for faults in (clean, ["rows were stored that outlive the test"]):
        sandbox.open_frame()
        connection = await sandbox.connect(**connect_arguments(databases.server))
        await connection.execute("SELECT 1")
        if faults:
            async with test_engine.begin() as stranger:
                await stranger.execute(leak)
        assert await sandbox.close_frame() == faults

    await sandbox.close()
