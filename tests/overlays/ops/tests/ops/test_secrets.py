"""What a row, a parameter or a request contains is not repeated by errors, nor by the log."""

import asyncio
import enum
import json
import logging
import traceback
from collections.abc import AsyncGenerator, Generator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Enum, Uuid, bindparam, literal, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core.config import Settings
from app.core.db import create_engine
from app.core.logging import ConsoleLines, JsonLines
from app.main import create_app
from tests.harness.client import running

SECRET = "a-secret@example.com"  # noqa: S105 - a value that no log may have
TABLE = """
    CREATE TEMP TABLE people (
        email text PRIMARY KEY, age int NOT NULL CHECK (age > 0), code varchar(3)
    )
"""


class Colour(enum.Enum):
    RED = "red"


def what_is_told_of(error: BaseException) -> str:
    """Return all that is printed of an error: by `print`, `repr`, a traceback, and the two formats of the log."""
    record = logging.LogRecord("app", logging.ERROR, __file__, 1, "%s %r", (error, error), None)
    record.exc_info = (type(error), error, error.__traceback__)
    return "\n".join([*traceback.format_exception(error), repr(error), what_is_logged(record)])


def what_is_logged(record: logging.LogRecord) -> str:
    record.request_id = None
    return "\n".join(
        [
            json.loads(JsonLines(fmt="{message}", style="{").format(record)).get("exc_info", ""),
            JsonLines(fmt="{message}", style="{").format(record),
            ConsoleLines("%(message)s").format(record),
        ]
    )


FAILING = {
    "unique": "INSERT INTO people VALUES (:secret, 1), (:secret, 2)",
    "not null": "INSERT INTO people VALUES (:secret, NULL)",
    "check": "INSERT INTO people VALUES (:secret, -1)",
    "too long": "INSERT INTO people VALUES ('a', 1, :secret)",
    "integer": "SELECT CAST(CAST(:secret AS text) AS int)",
    "range": "SELECT CAST(CAST(:secret AS text) AS int4range)",
    "date": "SELECT CAST(CAST(:secret AS text) AS date)",
    "quoted": "SELECT CAST(CAST('a \"quoted\" ' || :secret AS text) AS uuid)",
    "lines": "SELECT CAST(CAST(:secret || E'\\n\"' || :secret AS text) AS numeric)",
    "json": "SELECT CAST(CAST(:secret AS text) AS json)",
    "regular expression": "SELECT 'a' ~ CAST(:secret || '(' AS text)",
    "argument": "SELECT CAST(:secret AS int)",
    "missing table": "SELECT * FROM nowhere WHERE a = :secret",
    "unsafe cast": "SELECT CAST(:secret AS bytea[])",
}


@pytest.mark.parametrize("statement", FAILING.values(), ids=FAILING)
async def test_an_error_of_the_database_repeats_no_value(db_session: AsyncSession, statement: str) -> None:
    await db_session.execute(text(TABLE))

    with pytest.raises(StatementError) as caught:
        await db_session.execute(text(statement), {"secret": SECRET})

    assert SECRET[:10] not in what_is_told_of(caught.value)
    await db_session.rollback()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(literal(SECRET, Enum(Colour)), id="enum"),
        pytest.param(bindparam("id", SECRET, Uuid()), id="uuid"),
        pytest.param(bindparam("id", SECRET, Uuid(as_uuid=False)), id="uuid as text"),
    ],
)
async def test_a_value_that_cannot_be_converted_is_not_repeated(
    db_session: AsyncSession, value: ColumnElement[Any]
) -> None:
    with pytest.raises(StatementError) as caught:
        await db_session.execute(select(value))

    assert SECRET not in what_is_told_of(caught.value)


async def test_many_rows_at_once(db_session: AsyncSession) -> None:
    rows = [{"number": number} for number in (1, 2, SECRET)]

    with pytest.raises(StatementError) as caught:
        await db_session.execute(text("SELECT CAST(:number AS int)"), rows)

    assert SECRET not in what_is_told_of(caught.value)


@pytest.mark.real_db
@pytest.mark.usefixtures("isolation")
async def test_an_error_at_the_commit_repeats_no_value(test_engine: AsyncEngine) -> None:
    async with test_engine.connect() as connection:
        await connection.execute(text("CREATE TABLE late (a text UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        await connection.execute(text("INSERT INTO late VALUES (:secret), (:secret)"), {"secret": SECRET})
        with pytest.raises(StatementError) as caught:
            await connection.commit()

    assert SECRET not in what_is_told_of(caught.value)


async def test_a_password_that_is_refused_is_not_repeated(test_engine: AsyncEngine, settings: Settings) -> None:
    url = test_engine.url.set(username="nobody-of-this-name", password=SECRET).render_as_string(hide_password=False)
    engine = create_engine(settings.model_copy(update={"database_url": url}))

    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one depends on how the server lets people in
        async with engine.connect():
            pass
    await engine.dispose()

    assert SECRET not in what_is_told_of(caught.value)


class Account(BaseModel):
    id: int
    password: str


router = APIRouter(prefix="/secrets", include_in_schema=False)


@router.get("/response")
async def response_that_does_not_fit() -> Account:
    return {"id": "x", "password": SECRET}  # type: ignore[return-value]


@router.get("/validation")
async def validation() -> None:
    Account.model_validate({"id": SECRET})


@router.get("/group")
async def group() -> None:
    async def fail() -> None:
        TypeAdapter(list[UUID]).validate_python([SECRET])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())


@router.get("/chain")
async def chain() -> None:
    try:
        Account.model_validate({"id": SECRET})
    except ValidationError as error:
        raise RuntimeError("it failed") from error


@router.get("/url")
async def url() -> None:
    request = httpx.Request(
        "GET", f"https://user:{SECRET.replace('@', '.')}@s3.internal/a?X-Amz-Signature={SECRET}&b=1"
    )
    httpx.Response(403, request=request).raise_for_status()


@pytest.fixture(scope="module")
async def app(settings: Settings, test_engine: AsyncEngine) -> AsyncGenerator[FastAPI]:
    app = create_app(settings, test_engine)
    app.include_router(router)
    async with running(app):
        yield app


@pytest.fixture
def logged() -> Generator[list[logging.LogRecord]]:
    """The records that reach the root logger."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keep()
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("name", ["response", "validation", "group", "chain", "url"])
async def test_an_unhandled_error_logs_no_value(
    name: str, writer: httpx.AsyncClient, logged: list[logging.LogRecord]
) -> None:
    response = await writer.get(f"/secrets/{name}")

    assert response.status_code == 500
    text = "\n".join(what_is_logged(record) for record in logged)
    assert "Traceback" in text
    assert SECRET.split("@")[0] not in text


async def test_a_task_that_failed_logs_no_value(logged: list[logging.LogRecord]) -> None:
    async def fail() -> None:
        Account.model_validate({"id": SECRET})

    error = (await asyncio.gather(fail(), return_exceptions=True))[0]
    assert isinstance(error, ValidationError)
    context = {"message": f"Task exception was never retrieved: {error!r}", "exception": error}
    asyncio.get_running_loop().default_exception_handler(context)

    assert logged
    assert SECRET not in "\n".join(what_is_logged(record) for record in logged)


def test_a_traceback_says_what_pythons_own_does() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            error.add_note("a note")
            raise ValueError("outer\nsecond line") from error
    except ValueError as error:
        record = logging.LogRecord("app", logging.ERROR, __file__, 1, "m", (), (ValueError, error, error.__traceback__))
        expected = "".join(traceback.format_exception(error)).rstrip()

    assert json.loads(JsonLines(fmt="{message}", style="{").format(record))["exc_info"] == expected
