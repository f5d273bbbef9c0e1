"""Readiness has a connection apart from the pool, and one check answers all probes that come at the same time."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.core.db import create_engine
from app.main import create_app
from tests.harness.client import running
from tests.harness.isolation import Isolation

pytestmark = [pytest.mark.real_db, pytest.mark.usefixtures("isolation")]


class Service:
    """An application with a small pool on the test's own database, and what it does there."""

    def __init__(self, settings: Settings) -> None:
        self.engine = create_engine(settings)
        self.connections = 0
        event.listen(self.engine.sync_engine, "do_connect", self._count)
        self.app = create_app(settings, self.engine)

    def _count(self, *_: object) -> None:
        self.connections += 1

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=self.app)
        async with running(self.app), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
def service(settings: Settings, isolation: Isolation) -> Service:
    url = isolation.databases.url(isolation.database).render_as_string(hide_password=False)
    changes = {"database_url": url, "db_pool_size": 2, "db_max_overflow": 0, "db_pool_timeout": 0.2}
    return Service(settings.model_copy(update=changes))


async def hold_all(engine: AsyncEngine, stack: AsyncExitStack) -> None:
    for _ in range(2):
        connection = await stack.enter_async_context(engine.connect())
        await connection.execute(text("SELECT 1"))


async def test_a_pool_that_is_exhausted_leaves_the_service_ready(service: Service) -> None:
    async with service.client() as client, AsyncExitStack() as stack:
        await hold_all(service.engine, stack)

        assert (await client.get("/health/ready")).status_code == 200


async def test_a_thousand_probes_share_a_check_and_a_connection(service: Service) -> None:
    async with service.client() as client, AsyncExitStack() as stack:
        await hold_all(service.engine, stack)
        before = service.connections
        answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(1000)))

    assert Counter(answer.status_code for answer in answers) == {200: 1000}
    assert service.connections - before == 1


async def test_the_next_probe_uses_the_same_connection(service: Service) -> None:
    async with service.client() as client:
        for _ in range(3):
            assert (await client.get("/health/ready")).status_code == 200

    assert service.connections == 1


async def test_a_probe_whose_client_leaves_ends_no_other(service: Service) -> None:
    async with service.client() as client:
        first, second = (asyncio.create_task(client.get("/health/ready")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()

        assert (await second).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200


async def test_the_connection_is_closed_with_the_service(service: Service, test_engine: AsyncEngine) -> None:
    async with service.client() as client:
        await client.get("/health/ready")

    async with test_engine.connect() as connection:
        statement = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        async with asyncio.timeout(10):
            while await connection.scalar(statement) != 1:
                await asyncio.sleep(0.05)


async def test_a_connection_that_was_closed_meanwhile_is_replaced(service: Service, test_engine: AsyncEngine) -> None:
    async with service.client() as client:
        await client.get("/health/ready")
        async with test_engine.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await asyncio.sleep(0.05)

        assert (await client.get("/health/ready")).status_code == 200
