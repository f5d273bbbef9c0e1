"""Work that another transaction has got in the way of is done again, and nothing else is."""

import asyncio
from typing import Literal

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core import retries
from app.core.errors import DEADLOCK_DETECTED, SERIALIZATION_FAILURE, sqlstate
from app.core.retries import in_transaction
from tests.harness.isolation import Isolation

pytestmark = pytest.mark.real_db

AT_ONCE = 5


@pytest.fixture(autouse=True)
async def counters(isolation: Isolation, test_engine: AsyncEngine) -> None:
    async with test_engine.begin() as connection:
        await connection.execute(text("CREATE TABLE counters (name text PRIMARY KEY, value int)"))
        await connection.execute(text("INSERT INTO counters VALUES ('a', 0), ('b', 0)"))


async def values(session: AsyncSession) -> list[int]:
    return [*await session.scalars(text("SELECT value FROM counters ORDER BY name"))]


class Failing:
    """A unit of work that fails a few times, and counts its attempts."""

    def __init__(self, error: type[asyncpg.PostgresError], times: int) -> None:
        self.error = error
        self.times = times
        self.attempts = 0

    async def __call__(self, session: AsyncSession) -> str:
        await session.execute(text("UPDATE counters SET value = value + 1"))
        self.attempts += 1
        if self.attempts <= self.times:
            raise DBAPIError("SELECT 1", {}, self.error("for the test"))
        return "done"


async def test_transactions_that_contradict_each_other_come_one_after_the_other(db_session: AsyncSession) -> None:
    """Each reads and then writes, so that without another attempt all but one of them would fail."""
    together = asyncio.Barrier(AT_ONCE)
    first = dict.fromkeys(range(AT_ONCE), True)

    async def add(session: AsyncSession, number: int) -> None:
        value = await session.scalar(text("SELECT value FROM counters WHERE name = 'a'"))
        if first[number]:
            first[number] = False
            await together.wait()
        await session.execute(text("UPDATE counters SET value = :value WHERE name = 'a'"), {"value": (value or 0) + 1})

    await asyncio.gather(
        *(
            in_transaction(lambda session, number=number: add(session, number), isolation="SERIALIZABLE", attempts=50)
            for number in range(AT_ONCE)
        )
    )

    assert await values(db_session) == [AT_ONCE, 0]


async def test_of_two_that_wait_for_each_other_one_tries_again(db_session: AsyncSession) -> None:
    together = asyncio.Barrier(2)
    attempts: list[str] = []

    async def add(session: AsyncSession, one: str, other: str) -> None:
        attempts.append(one)
        await session.execute(text("UPDATE counters SET value = value + 1 WHERE name = :name"), {"name": one})
        if len(attempts) <= 2:
            await together.wait()
        await session.execute(text("UPDATE counters SET value = value + 1 WHERE name = :name"), {"name": other})

    await asyncio.gather(
        in_transaction(lambda session: add(session, "a", "b")), in_transaction(lambda session: add(session, "b", "a"))
    )

    assert len(attempts) == 3
    assert await values(db_session) == [2, 2]


@pytest.mark.parametrize("error", [asyncpg.SerializationError, asyncpg.DeadlockDetectedError])
async def test_what_a_failed_attempt_has_done_is_undone(
    db_session: AsyncSession, error: type[asyncpg.PostgresError]
) -> None:
    work = Failing(error, times=2)

    assert await in_transaction(work) == "done"

    assert work.attempts == 3
    assert await values(db_session) == [1, 1]


async def test_it_is_given_up_after_a_number_of_attempts(
    db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0)
    work = Failing(asyncpg.SerializationError, times=100)

    with pytest.raises(DBAPIError) as error:
        await in_transaction(work, attempts=4)

    assert sqlstate(error.value) == SERIALIZATION_FAILURE
    assert work.attempts == 4
    assert await values(db_session) == [0, 0]


async def test_what_would_fail_again_is_not_tried_again() -> None:
    work = Failing(asyncpg.UniqueViolationError, times=1)

    with pytest.raises(DBAPIError):
        await in_transaction(work)

    assert work.attempts == 1


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_the_isolation_is_the_one_that_was_asked_for(
    level: Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
) -> None:
    async def ask(session: AsyncSession) -> str | None:
        return await session.scalar(text("SHOW transaction_isolation"))

    assert await in_transaction(ask, isolation=level) == level.lower()


def test_it_is_about_two_errors() -> None:
    """Which the manual names as those after which the whole transaction may be tried again."""
    assert {SERIALIZATION_FAILURE, DEADLOCK_DETECTED} == {
        asyncpg.SerializationError.sqlstate,
        asyncpg.DeadlockDetectedError.sqlstate,
    }
