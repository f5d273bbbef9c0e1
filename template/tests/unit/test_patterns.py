"""Patterns that need no database, each with the smallest code that shows it."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, MagicMock, create_autospec
from uuid import uuid4

import httpx
import pytest
import time_machine
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import db
from app.core.errors import InvalidInputError
from app.core.models import Entity
from app.core.pagination import PageRequest, encode_cursor, paginate


async def exchange_rate(client: httpx.AsyncClient, currency: str) -> float:
    """Stands for code of yours that calls another service."""
    response = await client.get("https://rates.example/v1", params={"currency": currency})
    response.raise_for_status()
    return float(response.json()["rate"])


async def test_an_external_http_call_is_mocked_at_the_transport() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["currency"] == "CHF"
        return httpx.Response(200, json={"rate": "0.93"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), trust_env=False) as client:
        assert await exchange_rate(client, "CHF") == 0.93


async def test_an_external_service_that_fails() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(500))

    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        with pytest.raises(httpx.HTTPStatusError):
            await exchange_rate(client, "CHF")


async def remind(send: AsyncMock, names: list[str]) -> int:
    """Stands for code of yours that awaits something it was given."""
    await asyncio.gather(*(send(name) for name in names))
    return len(names)


async def test_an_asynchronous_function_is_mocked() -> None:
    send = AsyncMock()

    assert await remind(send, ["ada", "grace"]) == 2

    assert send.await_count == 2
    send.assert_any_await("ada")


async def read_first(connect: MagicMock) -> str:
    """Stands for code of yours that opens something with `async with`."""
    async with connect() as connection:
        return str(await connection.read())


async def test_an_asynchronous_context_manager_is_mocked() -> None:
    connection = AsyncMock()
    connection.read.return_value = "hello"
    connect = MagicMock(return_value=create_autospec(AbstractAsyncContextManager, instance=True))
    connect.return_value.__aenter__.return_value = connection

    assert await read_first(connect) == "hello"

    connect.return_value.__aexit__.assert_awaited_once()


async def test_a_session_is_mocked() -> None:
    session = create_autospec(AsyncSession, instance=True)

    with pytest.raises(InvalidInputError):
        await paginate(session, Entity, MagicMock(), PageRequest(cursor="forged"))

    session.scalars.assert_not_awaited()


async def test_the_session_of_a_request_commits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session = create_autospec(AsyncSession, instance=True)
    session.__aenter__.return_value = session
    monkeypatch.setattr(db, "AsyncSessionLocal", lambda: session)

    async for given in db.get_db():
        assert given is session

    session.commit.assert_awaited_once_with()


@pytest.fixture
def moon_landing() -> datetime:
    return datetime(1969, 7, 20, 20, 17, tzinfo=UTC)


def test_time_is_frozen(moon_landing: datetime) -> None:
    with time_machine.travel(moon_landing, tick=False) as traveller:
        assert datetime.now(UTC) == moon_landing
        traveller.shift(timedelta(days=1))
        assert datetime.now(UTC) - moon_landing == timedelta(days=1)


@pytest.fixture(params=["2026-01-01T00:00:00+00:00", "2026-06-01T12:30:00+02:00"])
def moment(request: pytest.FixtureRequest) -> datetime:
    """A parametrised fixture: each test that asks for it runs once for each moment."""
    return datetime.fromisoformat(request.param)


def test_a_fixture_may_have_parameters(moment: datetime, moon_landing: datetime) -> None:
    assert moment > moon_landing
    assert len(encode_cursor(moment, uuid4())) <= 100
