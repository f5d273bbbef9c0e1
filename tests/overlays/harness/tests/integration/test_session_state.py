"""What a real COMMIT ends beside the transaction is over in the sandbox as well: each test passes in both."""

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from app.core.db import AsyncSessionLocal

IN_BOTH = [pytest.param(None, id="sandbox"), pytest.param(None, id="real_db", marks=pytest.mark.real_db)]
TENANT = "current_setting('app.tenant', true)"


@pytest.fixture(autouse=True, params=IN_BOTH)
async def engine(isolation: object, test_engine: AsyncEngine) -> AsyncEngine:
    return test_engine


async def value(connection: AsyncConnection, expression: str) -> str:
    return await connection.scalar(text(f"SELECT {expression}")) or ""


async def run(connection: AsyncConnection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL app.tenant = 'acme'",
        "set local app.tenant to acme",
        "SELECT set_config('app.tenant', 'acme', true)",
        "SELECT set_config('app.tenant'::text, concat('a', 'cme'), true)",
    ],
)
async def test_a_local_setting_ends_with_its_transaction(engine: AsyncEngine, statement: str) -> None:
    async with engine.connect() as connection:
        await run(connection, statement)
        assert await value(connection, TENANT) == "acme"
        await connection.commit()

        assert await value(connection, TENANT) == ""


async def test_parameters_may_name_the_setting(engine: AsyncEngine) -> None:
    async with AsyncSessionLocal() as session:
        await session.execute(select(func.set_config("app.tenant", "acme", True)))
        parameters = {"name": "a.b", "value": "c", "here": True}
        await session.execute(text("SELECT set_config(:name, :value, :here)"), parameters)
        await session.commit()
        left = (await session.execute(text(f"SELECT {TENANT}, current_setting('a.b', true)"))).one()

    assert not any(left)


async def test_a_local_setting_is_not_that_of_another_session(db_session: AsyncSession) -> None:
    async with AsyncSessionLocal() as first, AsyncSessionLocal() as second:
        await first.execute(text("SET LOCAL app.tenant = 'acme'"))
        other = await second.scalar(text(f"SELECT {TENANT}"))
        mine = await first.scalar(text(f"SELECT {TENANT}"))

    assert (mine, other or "") == ("acme", "")


async def test_a_rollback_to_a_savepoint_has_the_setting_of_before(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await run(connection, "SET LOCAL app.tenant = 'outer'")
        nested = await connection.begin_nested()
        await run(connection, "SET LOCAL app.tenant = 'inner'")
        await nested.rollback()

        assert await value(connection, TENANT) == "outer"


async def test_a_local_role_ends_with_its_transaction(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        before = await value(connection, "current_user::text")
        await run(connection, "SET LOCAL ROLE pg_monitor")
        during = await value(connection, "current_user::text")
        await connection.commit()

        assert (during, await value(connection, "current_user::text")) == ("pg_monitor", before)


async def test_a_setting_of_a_session_stays_in_its_connection(engine: AsyncEngine) -> None:
    async with engine.connect() as one, engine.connect() as other:
        await run(one, "SET app.tenant = 'acme'")
        await one.commit()
        assert await value(one, TENANT) == "acme"
        await one.commit()
        assert await value(other, TENANT) == ""
        await other.commit()
        assert await value(one, TENANT) == "acme"
        await run(one, "RESET app.tenant")
        await one.commit()
        assert await value(one, TENANT) == ""


async def test_a_setting_that_is_rolled_back_is_gone(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await run(connection, "SET app.tenant = 'acme'")
        await connection.rollback()

        assert await value(connection, TENANT) == ""


async def test_a_function_may_set_it(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await run(
            connection,
            "CREATE FUNCTION enter(name text) RETURNS void LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM set_config('app.tenant', name, true); END $$",
        )
    async with engine.connect() as connection:
        await run(connection, "SELECT enter('acme')")
        assert await value(connection, TENANT) == "acme"
        await connection.commit()

        assert await value(connection, TENANT) == ""


async def test_temporary_tables_do_what_they_say_on_commit(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await run(
            connection,
            "CREATE TEMP TABLE dropped ON COMMIT DROP AS SELECT 1",
            'CREATE TEMPORARY TABLE "Emptied" (n int) ON COMMIT DELETE ROWS',
            'INSERT INTO "Emptied" VALUES (1)',
        )
        await connection.commit()

        assert await value(connection, "to_regclass('dropped')::text") == ""
        assert await connection.scalar(text('SELECT count(*) FROM "Emptied"')) == 0
        await run(connection, 'INSERT INTO "Emptied" VALUES (1)')
        await connection.commit()
        assert await connection.scalar(text('SELECT count(*) FROM "Emptied"')) == 0
        await run(connection, 'DROP TABLE "Emptied"')
        await connection.commit()


async def test_a_cursor_ends_with_its_transaction(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await run(connection, "DECLARE c CURSOR FOR SELECT generate_series(1, 9)")
        await connection.commit()

        assert await connection.scalar(text("SELECT count(*) FROM pg_cursors WHERE name = 'c'")) == 0


async def test_a_stream_ends_with_its_transaction(engine: AsyncEngine) -> None:
    async with AsyncSessionLocal() as session:
        rows = await session.stream(text("SELECT generate_series(1, 9)"), execution_options={"yield_per": 2})
        await anext(rows)
        await session.commit()

        with pytest.raises((DBAPIError, asyncpg.PostgresError)):
            async for _ in rows:
                pass


async def test_what_a_deferred_trigger_writes_is_there_after_the_commit(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await run(
            connection,
            "CREATE TABLE work (n int)",
            "CREATE TABLE audit (n int)",
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO audit VALUES (NEW.n); RETURN NULL; END $$",
            "CREATE CONSTRAINT TRIGGER noted AFTER INSERT ON work DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION note()",
        )
    async with engine.begin() as connection:
        await run(connection, "INSERT INTO work VALUES (1)")
        assert await connection.scalar(text("SELECT count(*) FROM audit")) == 0
    async with engine.begin() as connection:
        await run(connection, "INSERT INTO work VALUES (2)")
        assert await connection.scalar(text("SELECT count(*) FROM audit")) == 1


async def test_deferring_ends_with_its_transaction(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await run(connection, "CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY IMMEDIATE)")
    async with engine.begin() as connection:
        await run(connection, "SET CONSTRAINTS ALL DEFERRED", "INSERT INTO once VALUES (1)")
    async with engine.connect() as connection:
        with pytest.raises(IntegrityError):
            await run(connection, "INSERT INTO once VALUES (1)")
