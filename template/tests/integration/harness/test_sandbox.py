"""What works in the sandbox, which is where a test runs unless it says otherwise."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core.db import AsyncSessionLocal
from tests.harness.client import running
from tests.harness.databases import Databases
from tests.harness.isolation import Isolation
from tests.harness.sandbox import Sandbox, SandboxError, only_reads
from tests.harness.server import connect_arguments
from tests.integration.harness.notes import Note, gate


async def lines(client: httpx.AsyncClient) -> list[str]:
    return [note["line"] for note in (await client.get("/notes", params={"limit": 1000})).json()]


async def post(client: httpx.AsyncClient, path: str = "", **params: str) -> int:
    return (await client.post(f"/notes{path}", params=params)).status_code


async def test_many_rows_are_made_in_a_loop(client: httpx.AsyncClient) -> None:
    statuses = [await post(client, line=f"note {number}") for number in range(25)]

    assert statuses == [201] * 25
    assert len(await lines(client)) == 25


async def test_requests_build_on_each_other(client: httpx.AsyncClient) -> None:
    note = (await client.post("/notes", params={"line": "first"})).json()
    await post(client, line="second")

    assert (await client.delete(f"/notes/{note['id']}")).status_code == 204
    assert await lines(client) == ["second"]


async def test_pages_cover_many_rows(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    db_session.add_all(Note(line=f"note {number}") for number in range(250))

    seen: list[int] = []
    while page := (await client.get("/notes", params={"after": seen[-1] if seen else 0, "limit": 100})).json():
        seen += [note["id"] for note in page]

    assert len(seen) == len(set(seen)) == 250


async def test_the_test_and_the_application_see_each_other(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    db_session.add(Note(line="of the test"))
    await post(client, line="of the application")

    assert await lines(client) == ["of the test", "of the application"]
    assert await db_session.scalar(select(func.count()).select_from(Note)) == 2


async def test_what_the_test_reads_is_never_stale(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    note = Note(line="here")
    db_session.add(note)
    await db_session.flush()

    await client.delete(f"/notes/{note.id}")

    assert (await db_session.scalars(select(Note))).one().deleted


async def test_a_soft_deleted_row_stays_in_the_table(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    note = (await client.post("/notes", params={"line": "short-lived"})).json()
    await client.delete(f"/notes/{note['id']}")

    assert (await client.delete(f"/notes/{note['id']}")).status_code == 404
    assert (await db_session.get_one(Note, note["id"])).deleted


async def test_a_request_goes_on_after_an_error_it_handled(client: httpx.AsyncClient) -> None:
    await post(client, line="taken")

    response = await client.post("/notes/handled", params={"line": "taken", "other": "free"})

    assert response.json() == 1
    assert await lines(client) == ["taken", "free"]


async def test_the_next_request_is_served_after_an_error_that_escaped(client: httpx.AsyncClient) -> None:
    assert await post(client, line="taken") == 201
    assert await post(client, line="taken") == 409
    assert await post(client, line="free") == 201


async def test_a_failed_request_rolls_back(client: httpx.AsyncClient) -> None:
    assert await post(client, "/fail", line="lost") == 500
    assert await lines(client) == []


async def test_a_nested_transaction_rolls_back_alone(db_session: AsyncSession) -> None:
    db_session.add(Note(line="kept"))
    with pytest.raises(IntegrityError):
        async with db_session.begin_nested():
            db_session.add(Note(line="kept"))

    assert (await db_session.scalars(select(Note.line))).all() == ["kept"]


async def test_a_rollback_keeps_what_was_committed_before(client: httpx.AsyncClient) -> None:
    await post(client, "/half", kept="kept", dropped="dropped")

    assert await lines(client) == ["kept"]


async def test_a_rollback_of_the_test_keeps_what_a_request_did(
    client: httpx.AsyncClient, db_session: AsyncSession
) -> None:
    db_session.add(Note(line="committed before the request"))
    await post(client, line="of the request")
    db_session.add(Note(line="rolled back"))
    await db_session.rollback()

    assert await lines(client) == ["committed before the request", "of the request"]


async def test_ten_requests_at_once(client: httpx.AsyncClient) -> None:
    statuses = await asyncio.gather(*(post(client, line=f"note {number}") for number in range(10)))

    assert statuses == [201] * 10
    assert len(await lines(client)) == 10


async def test_ten_requests_at_once_of_which_half_fail(client: httpx.AsyncClient) -> None:
    paths = ["", "/fail"] * 5
    statuses = await asyncio.gather(*(post(client, path, line=f"note {n}") for n, path in enumerate(paths)))

    assert statuses == [201, 500] * 5
    assert len(await lines(client)) == 5


async def test_of_ten_that_race_for_one_name_one_wins(client: httpx.AsyncClient) -> None:
    statuses = await asyncio.gather(*(post(client, line="the one") for _ in range(10)))

    assert sorted(statuses) == [201] + [409] * 9


async def test_a_cancelled_request_does_not_disturb_the_next(client: httpx.AsyncClient) -> None:
    request = asyncio.create_task(client.post("/notes/slow", params={"line": "cut off"}))
    await asyncio.sleep(0.05)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)

    assert await post(client, line="next") == 201
    assert await lines(client) == ["next"]


async def test_a_request_may_use_several_sessions(client: httpx.AsyncClient) -> None:
    response = await client.post("/notes/sessions", params={"first": "a", "second": "b", "third": "c"})

    assert response.json() == 3
    assert await lines(client) == ["a", "b", "c"]


async def test_one_session_writes_between_the_reads_of_another(client: httpx.AsyncClient) -> None:
    assert await post(client, "/reader", first="a", second="b") == 200
    assert await lines(client) == ["a", "b"]


async def test_the_application_may_use_the_engine_itself(client: httpx.AsyncClient) -> None:
    assert await post(client, "/engine", line="by the engine") == 200
    assert await lines(client) == ["by the engine"]


async def test_autocommit_commits_each_statement(client: httpx.AsyncClient) -> None:
    assert await post(client, "/autocommit", line="at once") == 200
    assert await lines(client) == ["at once"]


async def test_a_background_task_is_covered(client: httpx.AsyncClient) -> None:
    assert await post(client, "/background", line="later") == 202
    assert await lines(client) == ["later"]


async def test_rows_can_be_streamed(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    db_session.add_all(Note(line=f"note {number}") for number in range(35))

    assert (await client.get("/notes/stream")).json() == 35


async def test_a_task_of_the_test_has_a_session_of_its_own(db_session: AsyncSession) -> None:
    async def store(line: str) -> None:
        async with AsyncSessionLocal() as session:
            session.add(Note(line=line))
            await session.commit()

    await asyncio.gather(store("a"), store("b"), store("c"))

    assert await db_session.scalar(select(func.count()).select_from(Note)) == 3


async def test_serializable_is_accepted(test_engine: AsyncEngine) -> None:
    async with test_engine.connect() as connection:
        await connection.execution_options(isolation_level="SERIALIZABLE")
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_deferred_constraint_is_checked_by_commit(db_session: AsyncSession) -> None:
    await db_session.execute(text("CREATE TEMP TABLE child (parent int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    await db_session.commit()
    await db_session.execute(text("INSERT INTO child VALUES (1), (1)"))

    with pytest.raises(IntegrityError):
        await db_session.commit()


async def test_two_that_wait_for_each_other_are_told_so(
    client: httpx.AsyncClient, isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation.sandbox, "patience", 0.2)

    assert await post(client, "/crossing", first="a", second="b") == 500

    faults = isolation.sandbox.take_faults()
    assert any("waited 0.2 s for the transaction" in fault and "real_db" in fault for fault in faults)


async def test_a_write_below_an_open_writer_is_refused(db_session: AsyncSession, isolation: Isolation) -> None:
    db_session.add(Note(line="below"))
    await db_session.flush()
    async with AsyncSessionLocal() as above:
        above.add(Note(line="above"))
        await above.flush()
        with pytest.raises(SandboxError, match="covered by another one"):
            await db_session.execute(select(Note))

    isolation.sandbox.take_faults()


async def test_what_only_real_connections_can_do_is_refused(test_engine: AsyncEngine) -> None:
    async with test_engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        with pytest.raises(SandboxError, match="real_db"):
            await driver.add_listener("news", print)  # type: ignore[union-attr]


async def test_the_application_may_use_the_database_at_start(isolation: Isolation, db_session: AsyncSession) -> None:
    app = FastAPI()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncSessionLocal() as session:
            session.add(Note(line="start"))
            await session.commit()
        yield
        async with AsyncSessionLocal() as session:
            session.add(Note(line="end"))
            await session.commit()

    app.router.lifespan_context = lifespan
    async with running(app, isolation.sandbox):
        pass

    assert (await db_session.scalars(select(Note))).all() == []


async def test_the_database_is_for_tests_only(databases: Databases) -> None:
    sandbox = Sandbox(databases.name)
    connection = await sandbox.connect(**connect_arguments(databases.server))

    with pytest.raises(SandboxError, match="outside of a test"):
        await connection.execute("SELECT 1")

    await sandbox.close()


async def test_a_lock_of_the_session_is_freed(databases: Databases) -> None:
    sandbox = Sandbox(databases.name)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"

    counts = []
    for _ in range(2):
        sandbox.open_frame()
        connection = await sandbox.connect(**connect_arguments(databases.server))
        counts.append(await connection.fetchval(held))
        await connection.execute("SELECT pg_advisory_lock(77)")
        counts.append(await connection.fetchval(held))
        await sandbox.close_frame()
    await sandbox.close()

    assert counts == [0, 1, 0, 1]


async def test_the_sandbox_does_not_make_the_test_wait(client: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(client.post("/notes/slow", params={"line": "slow"}))
    await asyncio.sleep(0.05)
    other = asyncio.create_task(post(client, line="queued behind it"))
    gate.set()

    assert await other == 201
    assert (await waiting).status_code == 201


@pytest.mark.parametrize("sql", ["SELECT 1", " select * from t", ";", "SHOW fsync", "WITH a AS (SELECT 1) TABLE a"])
def test_a_statement_that_only_reads_is_known(sql: str) -> None:
    assert only_reads(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "SELECT * FROM t FOR UPDATE",
        "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
        "SELECT nextval('s')",
        "SAVEPOINT a",
    ],
)
def test_a_statement_that_may_write_is_known(sql: str) -> None:
    assert not only_reads(sql)
