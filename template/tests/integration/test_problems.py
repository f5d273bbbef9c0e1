"""Every error is a problem document (RFC 9457) that says what the client needs to know, and nothing more."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm.exc import StaleDataError

from app.core.config import Settings
from app.core.db import create_engine
from app.core.deps import Session
from app.core.errors import ConflictError, InvalidInputError, NotFoundError
from app.core.middleware import allow_body
from app.main import create_app
from tests.harness.client import opened, running
from tests.harness.databases import Databases
from tests.harness.isolation import Isolation

SECRET = "a detail of the implementation"
router = APIRouter(prefix="/problems", include_in_schema=False)


class Thing(BaseModel):
    size: int


def database_error(error: type[asyncpg.PostgresError]) -> DBAPIError:
    return DBAPIError("SELECT 1", {}, error(SECRET))


ERRORS: dict[str, Exception] = {
    "not-found": NotFoundError("There is no such thing."),
    "odd-status": HTTPException(499, {"reason": "not a string"}),
    "list": HTTPException(400, [{"when": datetime(2026, 1, 1, tzinfo=UTC), "how-much": float("nan")}]),
    "surrogate": NotFoundError("There is no \ud800."),
    "conflict": ConflictError("Somebody else has it."),
    "invalid": InvalidInputError("It makes no sense."),
    "unique": database_error(asyncpg.UniqueViolationError),
    "foreign-key": database_error(asyncpg.ForeignKeyViolationError),
    "restrict": database_error(asyncpg.RestrictViolationError),
    "exclusion": database_error(asyncpg.ExclusionViolationError),
    "check": database_error(asyncpg.CheckViolationError),
    "trigger": database_error(asyncpg.RaiseError),
    "out-of-range": database_error(asyncpg.NumericValueOutOfRangeError),
    "not-encodable": database_error(asyncpg.DataError),
    "not-in-the-enum": StatementError(SECRET, "SELECT 1", {}, LookupError(SECRET)),
    "too-long-for-the-index": database_error(asyncpg.ProgramLimitExceededError),
    "by-the-driver": asyncpg.UniqueViolationError(SECRET),
    "refused": database_error(asyncpg.InvalidPasswordError),
    "standby": database_error(asyncpg.ReadOnlySQLTransactionError),
    "serialization": database_error(asyncpg.SerializationError),
    "deadlock": database_error(asyncpg.DeadlockDetectedError),
    "lock-timeout": database_error(asyncpg.LockNotAvailableError),
    "statement-timeout": database_error(asyncpg.QueryCanceledError),
    "shutdown": database_error(asyncpg.AdminShutdownError),
    "too-many-connections": database_error(asyncpg.TooManyConnectionsError),
    "time-out-of-another-service": TimeoutError(SECRET),
    "stale": StaleDataError(SECRET),
    "bug": RuntimeError(SECRET),
    "bad-sql": database_error(asyncpg.UndefinedTableError),
}


@router.get("/raise/{name}")
async def raise_error(name: str) -> None:
    raise ERRORS[name]


@router.post("/things", status_code=201)
async def make_thing(thing: Thing) -> Thing:
    return thing


@router.get("/things")
async def list_things() -> list[Thing]:
    return []


@router.post("/large")
async def take_more(request: Request) -> int:
    allow_body(request, 200)
    return len(await request.body())


@router.post("/slow")
async def take_more_time(request: Request) -> int:
    allow_body(request, 200, 60)
    return len(await request.body())


@router.get("/query")
async def query(session: Session) -> int | None:
    return await session.scalar(select(1))


@router.get("/bad-value")
async def read_a_bad_value(session: Session) -> int | None:
    return await session.scalar(text("SELECT 'x'::int"))


@router.post("/commit-fails", status_code=201)
async def fail_to_commit(session: Session) -> None:
    await session.execute(text("CREATE TEMP TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"))
    await session.execute(text("INSERT INTO late VALUES (1), (1)"))


@pytest.fixture(scope="module")
async def app(settings: Settings, test_engine: AsyncEngine) -> AsyncGenerator[FastAPI]:
    app = create_app(settings.model_copy(update={"max_request_bytes": 100, "request_body_timeout": 0.2}), test_engine)
    app.include_router(opened(router))
    async with running(app):
        yield app


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.request.url.path
    assert problem["request_id"] == response.headers["x-request-id"]
    assert SECRET not in response.text
    return problem


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("not-found", 404),
        ("odd-status", 499),
        ("list", 400),
        ("surrogate", 404),
        ("conflict", 409),
        ("invalid", 422),
        ("unique", 409),
        ("foreign-key", 409),
        ("restrict", 409),
        ("exclusion", 409),
        ("check", 409),
        ("trigger", 409),
        ("out-of-range", 422),
        ("not-encodable", 422),
        ("not-in-the-enum", 422),
        ("too-long-for-the-index", 422),
        ("by-the-driver", 409),
        ("refused", 503),
        ("standby", 503),
        ("serialization", 503),
        ("deadlock", 503),
        ("lock-timeout", 503),
        ("statement-timeout", 503),
        ("shutdown", 503),
        ("too-many-connections", 503),
        ("time-out-of-another-service", 500),
        ("stale", 409),
        ("bug", 500),
        ("bad-sql", 500),
    ],
)
async def test_an_error_becomes_a_problem(client: httpx.AsyncClient, name: str, status: int) -> None:
    response = await client.get(f"/problems/raise/{name}")

    assert_problem(response, status)
    assert ("retry-after" in response.headers) == (status == 503)


async def test_a_detail_that_is_an_object_extends_the_document(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await client.get("/problems/raise/odd-status"), 499)

    assert problem["detail"] == "Error"
    assert problem["reason"] == "not a string"


async def test_without_input_a_value_that_cannot_be_stored_is_a_bug(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/problems/bad-value"), 500)


async def test_an_unknown_path(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/problems/nowhere"), 404)


async def test_a_method_that_is_not_allowed(client: httpx.AsyncClient) -> None:
    response = await client.delete("/problems/large")

    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "TRACE", "QUERY"])
async def test_all_methods_of_a_resource_are_named_to_whoever_tries_another(
    client: httpx.AsyncClient, method: str
) -> None:
    response = await client.request(method, "/problems/things")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("body", "location"),
    [({"size": "large"}, ["body", "size"]), ({}, ["body", "size"]), ([], ["body"])],
)
async def test_an_invalid_body_says_what_is_wrong(client: httpx.AsyncClient, body: Any, location: list[str]) -> None:
    problem = assert_problem(await client.post("/problems/things", json=body), 422)

    assert [error["location"] for error in problem["errors"]] == [location]
    assert problem["errors"][0]["message"]


async def test_a_body_that_is_no_json(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}

    assert_problem(await client.post("/problems/things", content=b'{"size": ', headers=headers), 422)


async def test_a_body_that_says_it_is_too_large(client: httpx.AsyncClient) -> None:
    async def unread() -> AsyncGenerator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = {"content-type": "application/json", "content-length": "101"}
    assert_problem(await client.post("/problems/things", content=unread(), headers=headers), 413)


async def test_a_body_that_turns_out_to_be_too_large(client: httpx.AsyncClient) -> None:
    sent = 0

    async def pieces() -> AsyncGenerator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 10
            yield b" " * 10

    headers = {"content-type": "application/json"}
    assert_problem(await client.post("/problems/things", content=pieces(), headers=headers), 413)
    assert sent == 110


async def test_a_body_of_just_the_allowed_size(client: httpx.AsyncClient) -> None:
    body = b'{"size": 1}'.ljust(100)
    headers = {"content-type": "application/json"}

    assert (await client.post("/problems/things", content=body, headers=headers)).status_code == 201


async def test_a_body_that_takes_too_long(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for piece in (b'{"size":', b" 1}"):
            yield piece
            await asyncio.sleep(0.5)

    headers = {"content-type": "application/json"}
    assert_problem(await client.post("/problems/things", content=pieces(), headers=headers), 408)


async def test_a_client_that_stops_in_the_middle_of_a_body_has_its_answer(live_client: httpx.AsyncClient) -> None:
    url = live_client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /problems/things HTTP/1.1\r\nhost: test\r\ncontent-length: 11\r\n\r\n{")

    answer = await asyncio.wait_for(reader.read(), timeout=5)  # To the end: the rest of the body is not waited for.
    writer.close()

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


async def test_a_handler_may_give_a_body_more_time(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        await asyncio.sleep(0.5)
        yield b"x"

    assert (await client.post("/problems/slow", content=pieces())).status_code == 200


@pytest.mark.parametrize(("size", "status"), [(200, 200), (201, 413)])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_handler_may_take_a_longer_body(
    client: httpx.AsyncClient, announced: bool, size: int, status: int
) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"x" * 100
        yield b"x" * (size - 100)

    headers = {"content-length": str(size)} if announced else {}
    assert (await client.post("/problems/large", content=pieces(), headers=headers)).status_code == status


async def test_a_failing_commit_is_never_a_success(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post("/problems/commit-fails"), 409)


@pytest.mark.real_db
@pytest.mark.ci_critical
async def test_a_failing_commit_is_never_a_success_over_a_socket(live_client: httpx.AsyncClient) -> None:
    assert_problem(await live_client.post("/problems/commit-fails"), 409)


async def test_a_500_over_a_socket(live_client: httpx.AsyncClient) -> None:
    assert_problem(await live_client.get("/problems/raise/bug"), 500)


@pytest.mark.parametrize("path", ["/health/ready", "/problems/query"])
async def test_a_database_that_is_away(path: str) -> None:
    settings = Settings(environment="test", database_url="postgresql+asyncpg://nobody@127.0.0.1:1/none")
    app = create_app(settings)
    app.include_router(opened(router))

    async with running(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", trust_env=False) as client:
            response = await client.get(path)
            alive = await client.get("/health")

    assert_problem(response, 503)
    assert response.headers["retry-after"]
    assert alive.status_code == 200


@pytest.mark.real_db
async def test_a_pool_that_is_exhausted(isolation: Isolation, databases: Databases) -> None:
    url = databases.url(isolation.database).render_as_string(hide_password=False)
    settings = Settings(environment="test", database_url=url, db_pool_size=1, db_max_overflow=0, db_pool_timeout=0.1)
    engine = create_engine(settings)
    app = create_app(settings, engine)
    app.include_router(opened(router))

    async with running(app), engine.connect() as held:
        await held.execute(text("SELECT 1"))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", trust_env=False) as client:
            response = await asyncio.wait_for(client.get("/problems/query"), timeout=5)

    assert_problem(response, 503)
    assert response.headers["retry-after"]
