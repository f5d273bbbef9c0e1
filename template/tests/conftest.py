"""The fixtures of all tests. What is behind them is explained in `docs/testing.md`, and lives in `tests/harness/`.

Everything runs on one event loop, which is what both `asyncio_default_*_loop_scope` settings in `pytest.ini` are for:
the engine and its connections live for the whole session, and an asyncpg connection works only on the loop that it was
opened on. With the default, a loop for each test, the second test would fail with "attached to a different loop".
"""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core.config import Settings
from app.core.db import bind_engine, create_engine
from app.main import create_app
from tests.harness.client import Transport, rolled_back, running
from tests.harness.databases import Databases
from tests.harness.isolation import Isolation, fail_for
from tests.harness.live import serving
from tests.harness.run import REAL_DB_LEFT, is_to_be_kept, run_and_worker, server_of
from tests.harness.server import HarnessError

# What a file in tests/fixtures defines, every test can ask for.
FIXTURES = sorted(Path(__file__).parent.glob("fixtures/[!_]*.py"))
pytest_plugins = ["tests.harness.plugin", *(f"tests.fixtures.{path.stem}" for path in FIXTURES)]


@pytest.fixture(scope="session")
async def databases(request: pytest.FixtureRequest) -> AsyncGenerator[Databases]:
    """The databases of this worker."""
    databases = Databases(server_of(request.config), *run_and_worker())
    failure = ""
    try:
        await databases.open()
    except HarnessError as error:
        failure = str(error)
    if failure:
        request.session.shouldfail = "a migration failed"  # All other tests would fail for the same reason.
        pytest.fail(failure, pytrace=False)
    yield databases
    await databases.close()


@pytest.fixture(scope="session")
def settings(databases: Databases) -> Settings:
    """The settings that the application under test is built with."""
    url = databases.url(databases.name).render_as_string(hide_password=False)
    return Settings(environment="test", database_url=url)


@pytest.fixture(scope="session")
async def isolated(databases: Databases) -> AsyncGenerator[Isolation]:
    """Decides, test by test, which database the engine is connected to."""
    isolation = Isolation(databases)
    yield isolation
    await isolation.close()


@pytest.fixture(scope="session")
async def test_engine(settings: Settings, isolated: Isolation) -> AsyncGenerator[AsyncEngine]:
    """The application's engine, made the way the application makes it; `AsyncSessionLocal` uses it, too."""
    async with bind_engine(create_engine(settings)) as engine:
        isolated.attach(engine)
        yield engine


@pytest.fixture(scope="session")
async def app(settings: Settings, test_engine: AsyncEngine, isolated: Isolation) -> AsyncGenerator[FastAPI]:
    """The application, started."""
    async with running(create_app(settings, test_engine), isolated.sandbox) as app:
        yield app


@pytest.fixture
async def isolation(
    request: pytest.FixtureRequest, isolated: Isolation, test_engine: AsyncEngine
) -> AsyncGenerator[Isolation]:
    """The database of one test: the sandbox, or with the marker `real_db` one of its own. Red if it is left untidy."""
    node, databases = request.node, isolated.databases
    private = None
    if node.get_closest_marker("real_db"):
        if "module_session" in request.fixturenames:
            fail_for(["module_session is a part of the sandbox: a test with real_db cannot see its data"])
        left = request.config.stash[REAL_DB_LEFT]
        left.discard(node.nodeid)
        private = await databases.take(more_to_come=bool(left))
    await isolated.begin(private)
    yield isolated
    keep = is_to_be_kept(request)
    if keep and private is None:
        keep = await isolated.sandbox.commit_for_inspection()
    faults = await isolated.end()
    if keep:
        node.add_report_section("teardown", "database", await databases.keep(private or databases.name, node.name))
        if private is None:
            await isolated.renew()
    elif private is not None:
        databases.give_back(private)
    fail_for(faults)


@pytest.fixture(scope="module")
async def module_session(isolated: Isolation, test_engine: AsyncEngine) -> AsyncGenerator[AsyncSession]:
    """A session for data that is seeded once for a module: its tests see what it has committed, and cannot harm it."""
    async with rolled_back(isolated.sandbox), AsyncSession(test_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def db_session(
    request: pytest.FixtureRequest, isolation: Isolation, test_engine: AsyncEngine
) -> AsyncGenerator[AsyncSession]:
    """A session of the test's own, on the database that the application uses.

    What it has not committed is committed before a request of `client`, so that the application sees it; and whatever
    it reads is read anew, so that it sees what the application did.
    """
    options = {"populate_existing": True}
    async with AsyncSession(test_engine, expire_on_commit=False, execution_options=options) as session:
        isolation.sessions.append(session)
        yield session
        if is_to_be_kept(request) and session.is_active:
            await session.commit()
    isolation.sessions.remove(session)


@pytest.fixture
def make_client(
    request: pytest.FixtureRequest, app: FastAPI, isolation: Isolation
) -> Callable[[dict[str, str]], httpx.AsyncClient]:
    """Makes HTTP clients for the application, which send headers of their own."""
    repeats = request.node.get_closest_marker("repeats")
    transport = Transport(app, isolation, most_repetitions=repeats.args[0] if repeats else 5)

    def make(headers: dict[str, str]) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers, trust_env=False)

    return make


@pytest.fixture
def client(make_client: Callable[[dict[str, str]], httpx.AsyncClient]) -> httpx.AsyncClient:
    """An HTTP client for the application that shows nothing of who it is. Closing it is optional."""
    return make_client({})


@pytest.fixture
async def live_client(app: FastAPI, isolation: Isolation) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client for the application behind a real server and a real socket.

    It shows what `client` cannot: what a client receives before the application is done with the request.
    """
    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client
