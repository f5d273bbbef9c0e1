"""The ways to isolate a test that are compared, and the clock.

`python -m bench` copies this folder into a rendered project, as `tests/bench/`.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.core.db import AsyncSessionLocal, Base, create_engine
from app.main import create_app
from tests.harness.databases import Databases

DURATIONS = pytest.StashKey[dict[str, list[dict[str, float]]]]()


# ---------------------------------------------------------------- without a database


@pytest.fixture(scope="session")
def bare_app() -> FastAPI:
    """The application without a database, and with nothing of the harness."""
    return create_app(Settings(environment="test", database_url="postgresql+asyncpg://nobody@/nothing"))


@pytest.fixture
async def bare_client(bare_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The least that a test of an endpoint can do with."""
    async with calling(bare_app) as client:
        yield client


# ---------------------------------------------------------------- with a database, the common ways


@pytest.fixture(scope="session")
async def ordinary_engine(databases: Databases, settings: Settings) -> AsyncIterator[AsyncEngine]:
    """The application's engine on a migrated database that nobody cleans up."""
    name = f"{databases.name}_ordinary"
    await databases.clone(name)
    engine = engine_for(databases, settings, name)
    yield engine
    await engine.dispose()
    await databases.drop(name)


@pytest.fixture(scope="session")
async def empty_engine(databases: Databases, settings: Settings) -> AsyncIterator[AsyncEngine]:
    """The application's engine on a database without tables."""
    name = await databases.create_empty()
    engine = engine_for(databases, settings, name)
    yield engine
    await engine.dispose()
    await databases.drop(name)


@pytest.fixture
async def unisolated_client(
    app: FastAPI, test_engine: AsyncEngine, ordinary_engine: AsyncEngine
) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests are committed and stay."""
    with bound_to(ordinary_engine, afterwards=test_engine):
        async with calling(app) as client:
            yield client


@pytest.fixture
async def recreated_client(
    app: FastAPI, test_engine: AsyncEngine, empty_engine: AsyncEngine
) -> AsyncIterator[httpx.AsyncClient]:
    """A client on tables that are made for the test and dropped after it."""
    async with empty_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    with bound_to(empty_engine, afterwards=test_engine):
        async with calling(app) as client:
            yield client
    async with empty_engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


def calling(app: FastAPI) -> httpx.AsyncClient:
    """Return an ordinary client for `app`."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", trust_env=False)


def engine_for(databases: Databases, settings: Settings, name: str) -> AsyncEngine:
    """Return an engine with an ordinary pool, made the way the application makes it."""
    url = databases.url(name).render_as_string(hide_password=False)
    return create_engine(settings.model_copy(update={"database_url": url}))


@contextmanager
def bound_to(engine: AsyncEngine, *, afterwards: AsyncEngine) -> Iterator[None]:
    """Let the one running application use another engine for a while; rebinding costs next to nothing."""
    AsyncSessionLocal.configure(bind=engine)
    try:
        yield
    finally:
        AsyncSessionLocal.configure(bind=afterwards)


# ---------------------------------------------------------------- running and measuring


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `python -m bench` uses."""
    group = parser.getgroup("bench")
    group.addoption("--rounds", type=int, default=1, help="how many blocks of each test")
    group.addoption("--block", type=int, default=20, help="how often a test runs in a row")
    group.addoption("--only", help="the name of the one test function to collect")
    group.addoption("--measurements", type=Path, help="where to write the seconds that each phase of each test took")


def pytest_configure(config: pytest.Config) -> None:
    """Begin without any measurements."""
    config.stash[DURATIONS] = defaultdict[str, list[dict[str, float]]](list)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str) -> list[pytest.Item] | None:
    """Leave out what is not wanted before it is multiplied: deselected by its name it would still cost a second."""
    only = collector.config.option.only
    return [] if only and name.startswith("test_") and name != only else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each test."""
    options = metafunc.config.option
    metafunc.parametrize("turn", range(options.rounds * options.block))


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Let the tests alternate in blocks."""
    items.sort(key=round_of)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Function, nextitem: pytest.Function | None) -> Iterator[None]:
    """Say when a round is over."""
    yield
    if nextitem is None or round_of(nextitem) != round_of(item):
        terminal: Any = item.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(f"    round {round_of(item) + 1} of {item.config.option.rounds}")


def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> None:
    """Note how long a phase of a test took."""
    measured = item.config.stash[DURATIONS][item.originalname]
    if call.when == "setup":
        measured.append({})
    measured[-1][call.when] = call.duration


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Print nothing for a test that passes."""
    return ("", "", "") if report.passed else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what was measured."""
    if path := session.config.option.measurements:
        path.write_text(json.dumps(session.config.stash[DURATIONS]), encoding="utf-8")


def round_of(item: pytest.Function) -> int:
    """Return the number of the round that a test belongs to, from zero."""
    turn: Any = item.callspec.params["turn"]
    return int(turn // item.config.option.block)
