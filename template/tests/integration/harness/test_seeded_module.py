"""Data that is seeded once for a module is seen by each of its tests, unharmed by the others."""

import httpx
import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tests.integration.harness.notes import Note, NoteBase


@pytest.fixture(scope="module", autouse=True)
async def a_hundred_notes(module_session: AsyncSession) -> None:
    connection = await module_session.connection()
    await connection.run_sync(NoteBase.metadata.create_all)
    module_session.add_all(Note(line=f"seeded {number}") for number in range(100))
    await module_session.commit()


@pytest.mark.parametrize("round_", [1, 2])
async def test_a_test_may_delete_them_all(db_session: AsyncSession, round_: int) -> None:
    assert await db_session.scalar(select(func.count()).select_from(Note)) == 100

    await db_session.execute(delete(Note))
    await db_session.commit()


@pytest.mark.parametrize("round_", [1, 2])
async def test_a_request_may_add_to_them(client: httpx.AsyncClient, round_: int) -> None:
    await client.post("/notes", params={"line": "one more"})

    assert len((await client.get("/notes", params={"limit": 1000})).json()) == 101
