"""Errors of a real PostgreSQL become the status that their class stands for, wherever they are raised."""

import asyncio
import datetime
import json
from collections.abc import AsyncGenerator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Date,
    DateTime,
    Enum,
    Integer,
    Interval,
    Numeric,
    String,
    Uuid,
    cast,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSON, JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core.config import Settings
from app.core.db import create_engine
from app.core.deps import ReadSession, Session
from app.core.errors import ConflictError, DatabaseUnavailableError, unique_violation_as
from app.core.openapi import DocumentedAPI
from app.core.retries import in_transaction
from app.main import create_app
from tests.harness.client import running

router = APIRouter(prefix="/errors", include_in_schema=False)

TABLES = """
    CREATE TABLE parents (id int PRIMARY KEY);
    CREATE TABLE things (
        id int PRIMARY KEY,
        name text NOT NULL DEFAULT '' UNIQUE CHECK (name <> 'bad'),
        code varchar(3),
        price numeric(4, 2),
        parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
        days int4range,
        EXCLUDE USING gist (days WITH &&)
    );
    CREATE VIEW cheap AS SELECT * FROM things WHERE price < 10 WITH CHECK OPTION;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
    CREATE TRIGGER refuses BEFORE INSERT ON things FOR EACH ROW WHEN (NEW.id = 666) EXECUTE FUNCTION refuse();
    INSERT INTO things (id, name, days) VALUES (1, 'first', '[1,5)');
"""

STATEMENTS = {
    "INSERT INTO things (id, name) VALUES (1, 'second')": 409,
    "INSERT INTO things (id, name) VALUES (2, 'bad')": 409,
    "INSERT INTO things (id, name) VALUES (2, NULL)": 409,
    "INSERT INTO things (id, days) VALUES (2, '[4,6)')": 409,
    "INSERT INTO things (id, parent) VALUES (2, 3)": 409,
    "INSERT INTO things (id) VALUES (666)": 409,
    "INSERT INTO cheap (id, price) VALUES (2, 11)": 409,
    "INSERT INTO things (id, code) VALUES (2, 'long')": 422,
    "INSERT INTO things (id, price) VALUES (2, 100)": 422,
    "INSERT INTO things (id, days) VALUES (2, '[6,4)')": 422,
    "SELECT 1 / 0": 422,
    "SELECT 'x'::int": 422,
    "SELECT to_date('2026-02-31', 'YYYY-MM-DD')": 422,
    "INSERT INTO things (id, name) SELECT 2, string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 999)": 422,
    "SELECT nothing": 500,
    "ASSERT": 500,
}
"""SQL -> the status of the answer."""
STATEMENTS["DO $$ BEGIN ASSERT false; END $$"] = STATEMENTS.pop("ASSERT")

OFFSET = datetime.timezone(datetime.timedelta(hours=14))
VALUES: dict[str, tuple[Any, Any]] = {
    "beyond int4": (Integer(), 2**31),
    "beyond int8": (BigInteger(), 2**63),
    "beyond int4 in an array": (ARRAY(Integer()), [2**40]),
    "a NUL": (String(), "a\0b"),
    "a lone surrogate": (String(), "\ud800"),
    "before the year 1": (DateTime(timezone=True), datetime.datetime(1, 1, 1, tzinfo=OFFSET)),
    "a zone where there is none": (DateTime(), datetime.datetime(2026, 1, 1, tzinfo=OFFSET)),
    "a number with a huge exponent": (Numeric(), Decimal("1E+9999999")),
    "a number with too many digits": (Numeric(4, 2), Decimal("12345.6")),
    "infinity": (Numeric(10, 2), Decimal("Infinity")),
    "no UUID": (Uuid(), "no"),
    "no address": (INET(), "300.1.1.1"),
    "NaN in JSON": (JSON(), {"a": float("nan")}),
    "NUL in JSON": (JSONB(), {"a": "\0"}),
    "a surrogate in JSON": (JSONB(), {"a": "\ud800"}),
    "not in the enum": (Enum("a", "b", name="kind", native_enum=False, validate_strings=True), "c"),
    "no date": (Date(), "2026-13-01"),
}
STORED = {"the longest interval": (Interval(), datetime.timedelta.max), "NaN": (Numeric(), Decimal("NaN"))}


class Anything(BaseModel):
    """What pydantic takes without a limit."""

    number: float = 0
    line: str = ""
    value: Any = None


@router.post("/run")
async def run(session: Session, sql: str) -> None:
    await session.execute(text(sql))


@router.post("/transaction")
async def run_in_transaction(sql: str) -> None:
    async def work(session: AsyncSession) -> None:
        await session.execute(text(sql))

    await in_transaction(work)


@router.post("/many")
async def run_many(session: Session, ids: list[int]) -> None:
    await session.execute(
        text("INSERT INTO things (id, name) VALUES (:id, gen_random_uuid())"), [{"id": n} for n in ids]
    )


@router.post("/named")
async def run_named(session: Session, sql: str) -> None:
    with unique_violation_as(ConflictError("It is taken.")):
        await session.execute(text(sql))


@router.post("/copy")
async def copy(session: Session) -> None:
    raw = await (await session.connection()).get_raw_connection()
    await raw.driver_connection.execute("INSERT INTO things (id) VALUES (1)")


@router.get("/time-out/driver")
async def wait_for_the_driver(session: Session) -> None:
    raw = await (await session.connection()).get_raw_connection()
    await raw.driver_connection.execute("SELECT pg_sleep(60)", timeout=0.05)


@router.get("/time-out/other")
async def wait_for_something_else(session: Session) -> None:
    await session.execute(select(1))
    async with asyncio.timeout(0.01):
        await asyncio.Event().wait()


@router.post("/values/{name}")
async def send_value(session: Session, name: str) -> None:
    kind, value = (VALUES | STORED)[name]
    await session.execute(select(cast(literal(value, kind), kind)))


@router.post("/echo")
async def echo(body: Anything) -> Anything:
    return body


@router.post("/untyped", response_model=None)
async def echo_untyped(body: Anything) -> dict[str, Any]:
    return body.model_dump()


@router.post("/detail")
async def raise_detail(detail: Annotated[Any, Body()], status: int = 418) -> None:
    raise HTTPException(status, detail)


@router.get("/number/{number}")
async def read_number(session: ReadSession, number: int) -> int | None:
    return await session.scalar(text("SELECT CAST(:number AS bigint)"), {"number": number})


@router.get("/text/{line}")
async def read_text(session: ReadSession, line: str) -> str | None:
    return await session.scalar(text("SELECT CAST(:line AS text)"), {"line": line})


@pytest.fixture(scope="module")
async def app(settings: Settings, test_engine: AsyncEngine) -> AsyncGenerator[FastAPI]:
    app = create_app(settings, test_engine)
    app.include_router(router)
    async with running(app):
        yield app


@pytest.fixture
async def things(db_session: AsyncSession) -> None:
    raw = await (await db_session.connection()).get_raw_connection()
    await raw.driver_connection.execute(TABLES)
    await db_session.commit()


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    return problem


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("path", ["run", "transaction"])
@pytest.mark.parametrize("sql", STATEMENTS)
async def test_the_class_decides(client: httpx.AsyncClient, sql: str, path: str) -> None:
    response = await client.post(f"/errors/{path}", params={"sql": sql})

    assert_problem(response, STATEMENTS[sql])


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize(("ids", "status"), [([2, 3, 1], 409), ([2, 2**40], 422)])
async def test_the_class_decides_for_many_rows(client: httpx.AsyncClient, ids: list[int], status: int) -> None:
    assert_problem(await client.post("/errors/many", json=ids), status)


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("values", ["(id) VALUES (1)", "(id, days) VALUES (2, '[4,6)')"])
async def test_exclusion_is_named_like_uniqueness(client: httpx.AsyncClient, values: str) -> None:
    problem = assert_problem(await client.post("/errors/named", params={"sql": f"INSERT INTO things {values}"}), 409)

    assert problem["detail"] == "It is taken."


@pytest.mark.usefixtures("things")
async def test_the_class_decides_for_the_driver(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post("/errors/copy"), 409)


@pytest.mark.real_db
@pytest.mark.parametrize(("what", "status"), [("driver", 503), ("other", 500)])
async def test_only_a_time_out_of_the_driver_is_the_databases(
    live_client: httpx.AsyncClient, what: str, status: int
) -> None:
    assert_problem(await live_client.get(f"/errors/time-out/{what}"), status)


@pytest.mark.parametrize(
    "variables", [{"PGSSLMODE": "verify-full"}, {"PGPORT": "99999"}, {"PGTARGETSESSIONATTRS": "fastest"}]
)
async def test_a_connection_that_the_driver_cannot_make(
    settings: Settings, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"HOME": str(tmp_path)} | variables).items():
        monkeypatch.setenv(name, value)
    engine = create_engine(settings.model_copy(update={"database_url": "postgresql+asyncpg://app@127.0.0.1/app"}))

    with pytest.raises(DatabaseUnavailableError):
        await engine.connect()
    await engine.dispose()


@pytest.mark.parametrize("name", VALUES)
async def test_values_that_cannot_be_stored(client: httpx.AsyncClient, name: str) -> None:
    assert_problem(await client.post(f"/errors/values/{name}"), 422)


@pytest.mark.parametrize("name", STORED)
async def test_values_that_can_be_stored(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.post(f"/errors/values/{name}")).status_code == 200


@pytest.mark.parametrize("path", ["number/99999999999999999999", f"number/{'9' * 5000}", "number/1.5", "text/%00"])
async def test_paths_that_cannot_be_stored(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.get(f"/errors/{path}"), 422)


async def test_a_path_that_is_no_utf8(client: httpx.AsyncClient) -> None:
    assert (await client.get("/errors/text/%ff")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("echo", '{"line": "\\ud800"}', 500),
        ("echo", '{"value": {"\\ud800": 1}}', 500),
        ("untyped", '{"number": NaN}', 500),
        ("echo", '{"number": ' + "9" * 5000 + "}", 400),
        ("echo", '{"value": ' + "[" * 100_000 + "]" * 100_000 + "}", 400),
        ("echo", b'{"line": "\xff"}', 400),
    ],
)
async def test_bodies_that_cannot_be_used(client: httpx.AsyncClient, path: str, body: str | bytes, status: int) -> None:
    headers = {"content-type": "application/json"}

    assert_problem(await client.post(f"/errors/{path}", content=body, headers=headers), status)


@pytest.mark.parametrize(
    ("detail", "text", "members"),
    [
        ({"code": 7}, "I'm a Teapot", {"code": 7}),
        (
            {"detail": "No credit.", "type": "urn:x", "n": 3},
            "No credit.",
            {"type": "urn:x", "n": 3},
        ),
        ({"message": "No credit."}, "No credit.", {"message": "No credit."}),
        ({"status": 200, "instance": "x", "request_id": 1, "title": 5}, "I'm a Teapot", {"status": 418, "titles": 5}),
        ([{"loc": ["a"], "msg": "b"}], "I'm a Teapot", {"details": [{"loc": ["a"], "msg": "b"}]}),
        ({"line": "\ud800"}, "I'm a Teapot", {"line": "?"}),
    ],
)
async def test_a_detail_of_any_kind(client: httpx.AsyncClient, detail: Any, text: str, members: dict[str, Any]) -> None:
    headers = {"content-type": "application/json"}
    problem = assert_problem(await client.post("/errors/detail", content=json.dumps(detail), headers=headers), 418)

    assert problem["detail"].lower() == text.lower()
    assert {name: problem[name] for name in members} == members


@pytest.mark.real_db
async def test_a_plan_that_a_migration_made_stale(live_client: httpx.AsyncClient, test_engine: AsyncEngine) -> None:
    """The request can be sent again; a 500 would look like a bug to clients."""
    await run_on(test_engine, "CREATE TABLE stale (a int)")
    params = {"sql": "SELECT * FROM stale"}
    assert (await live_client.post("/errors/run", params=params)).status_code == 200
    await run_on(test_engine, "ALTER TABLE stale ALTER a TYPE text")

    responses = [await live_client.post("/errors/run", params=params) for _ in range(3)]

    assert {response.status_code for response in responses} <= {200, 503}
    assert responses[-1].status_code == 200


async def run_on(engine: AsyncEngine, sql: str) -> None:
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        await raw.driver_connection.execute(sql)


def test_statuses_are_declared() -> None:
    for route in router.routes:
        route.include_in_schema = True  # type: ignore[attr-defined]
    api = DocumentedAPI()
    api.include_router(router)

    for operations in api.openapi()["paths"].values():
        for method, operation in operations.items():
            assert ("422" in operation["responses"]) == ("requestBody" in operation or "parameters" in operation)
            assert ("409" in operation["responses"]) == (method == "post")
