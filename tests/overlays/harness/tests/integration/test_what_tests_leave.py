"""What tests leave behind, and mistakes that need advice: each is provoked in a run that turns red and says it."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.harness.databases import Databases
from tests.harness.server import PROJECT
from tests.integration.harness.test_detectors import PRELUDE, run_pytest

MORE = """
import os, threading, time, logging, signal
from unittest import mock
from fastapi import APIRouter
from app.core import errors
from app.core.config import Section, load
import app.core.pagination as pagination
import app.main

router = APIRouter(prefix="/leaks")


@router.post("/run")
async def run(sql: str):
    async with AsyncSessionLocal.begin() as session:
        for each in sql.split(";"):
            await session.execute(text(each))


@pytest.fixture
def leaks(app):
    before = [*app.router.routes]
    app.include_router(router)
    yield
    app.router.routes[:] = before


"""

PROVOCATIONS = {
    "a_variable": ("def test_it():\n    os.environ['LEFT'] = 'x'\n", "the environment variable LEFT was left behind"),
    "a_folder": ("def test_it():\n    os.chdir('/')\n", "the working directory was left changed"),
    "an_override": (
        "def test_it(app):\n    app.dependency_overrides[len] = lambda: 1\n",
        "app.dependency_overrides of len was left behind",
    ),
    "state": ("def test_it(app):\n    app.state.left = 1\n", "app.state.left was left behind"),
    "a_handler": (
        "def test_it(app):\n    app.exception_handlers[KeyError] = print\n",
        "app.exception_handlers of KeyError was left behind",
    ),
    "a_route": (
        "def test_it(app):\n    app.add_api_route('/left', print)\n",
        "the routes of app was left changed",
    ),
    "a_level": ("def test_it():\n    logging.getLogger().setLevel(1)\n", "the logger root was left changed"),
    "a_disabled_logger": (
        "logging.getLogger('mine')\ndef test_it():\n    logging.getLogger('mine').disabled = True\n",
        "the logger mine was left changed",
    ),
    "a_signal": (
        "def test_it():\n    signal.signal(signal.SIGTERM, lambda *_: None)\n",
        "the handler of SIGTERM was left changed",
    ),
    "a_function": (
        "def test_it():\n    pagination.paginate = print\n",
        "app.core.pagination.paginate was left replaced: use monkeypatch",
    ),
    "a_started_patch": (
        "def test_it():\n    mock.patch('app.core.pagination.paginate').start()\n",
        "app.core.pagination.paginate was left replaced",
    ),
    "a_thread": (
        "def test_it():\n    threading.Thread(target=time.sleep, args=(1,)).start()\n",
        "a thread was left running",
    ),
    "the_clock": (
        "import time_machine\ndef test_it():\n    time_machine.travel(0, tick=False).start()\n",
        "the clock was left in another time",
    ),
    "sessions": (
        "def test_it():\n    AsyncSessionLocal.configure(autoflush=False)\n",
        "the options of AsyncSessionLocal was left changed",
    ),
    "a_session_setting": (
        """
async def test_it(leaks, client):
    assert (await client.post("/leaks/run", params={"sql": "SET app.tenant = 'a'"})).status_code == 200
""",
        "a connection went back to the pool with app.tenant set",
    ),
    "a_session_role": (
        """
async def test_it(leaks, client):
    assert (await client.post("/leaks/run", params={"sql": "SET ROLE pg_monitor"})).status_code == 200
""",
        "a connection went back to the pool with role set",
    ),
    "a_session_setting_that_is_reset": (
        """
async def test_it(leaks, client):
    sql = "SET app.tenant = 'a';RESET app.tenant"
    assert (await client.post("/leaks/run", params={"sql": sql})).status_code == 200
""",
        "test_it passed",
    ),
    "a_temporary_table": (
        """
async def test_it(leaks, client):
    assert (await client.post("/leaks/run", params={"sql": "CREATE TEMP TABLE mine (n int)"})).status_code == 200
""",
        "the temporary table mine was left by a request",
    ),
    "a_prepared_statement": (
        """
async def test_it(leaks, client):
    assert (await client.post("/leaks/run", params={"sql": "PREPARE mine AS SELECT 1"})).status_code == 200
""",
        "the prepared statement mine was left by a request",
    ),
    "an_advisory_lock": (
        """
async def test_it(leaks, client):
    assert (await client.post("/leaks/run", params={"sql": "SELECT pg_advisory_lock(1)"})).status_code == 200
""",
        "a session's advisory lock was left by a request",
    ),
    "listening": (
        """
async def test_it(leaks, client):
    await client.post("/leaks/run", params={"sql": "LISTEN jobs"})
""",
        "LISTEN has no effect before a real COMMIT; .*real_db",
    ),
    "what_no_transaction_may": (
        """
async def test_it(leaks, client):
    await client.post("/leaks/run", params={"sql": "VACUUM"})
""",
        "VACUUM cannot run inside a transaction block; .*real_db",
    ),
    "an_undeclared_table": (
        """
async def test_it(db_session):
    await db_session.execute(text("SELECT * FROM invoices"))
""",
        'relation "invoices" does not exist: no migration makes it; if a model has it, make migration',
    ),
    "an_undeclared_column": (
        """
async def test_it(leaks, client):
    assert (await client.post("/leaks/run", params={"sql": "SELECT due FROM alembic_version"})).status_code == 200
""",
        'column "due" does not exist: no migration makes it',
    ),
    "a_session_fixture": (
        """
@pytest.fixture(scope="session")
async def seeded(test_engine):
    async with AsyncSessionLocal.begin() as session:
        yield await session.scalar(text("SELECT 1"))


async def test_it(seeded):
    pass
""",
        "a fixture of the scope session, package or class does: seed with `module_session`",
    ),
    "a_class_fixture": (
        """
@pytest.fixture(scope="class")
async def seeded(test_engine):
    async with AsyncSessionLocal() as session:
        yield await session.scalar(text("SELECT 1"))


class TestIt:
    async def test_it(self, seeded):
        pass
""",
        "a fixture of the scope session, package or class does: seed with `module_session`",
    ),
    "test_client": (
        "from fastapi.testclient import TestClient\n\n\ndef test_it():\n    pass\n",
        "TestClient runs a separate event loop: use the fixture `client`",
    ),
    "a_long_statement": (
        """
@pytest.mark.repeats(1)
async def test_it(leaks, client):
    sql = "SELECT " + ", ".join(str(number) for number in range(1600))
    await client.post("/leaks/run", params={"sql": f"{sql};{sql}"})
""",
        "N\\\\+1: POST /leaks/run ran one query 2 times",
    ),
    "a_long_budget": (
        """
async def test_it(db_session):
    with query_budget(1):
        for number in range(1000):
            await db_session.execute(text(f"SELECT {number}"))
""",
        "1000 queries, and the budget is 1",
    ),
}
PROVOCATIONS["a_long_statement"] = (PROVOCATIONS["a_long_statement"][0], r"N\+1: POST /leaks/run ran one query 2 times")


@pytest.fixture(scope="module")
def outcomes(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run all provocations, and return for each what pytest says about it."""
    folder = tmp_path_factory.mktemp("provocations")
    (folder / "pytest.ini").write_text((PROJECT / "pytest.ini").read_text().replace("testpaths = tests", ""))
    for name, (code, _) in PROVOCATIONS.items():
        (folder / f"test_{name}.py").write_text(PRELUDE + MORE + code)
    output = run_pytest(folder, databases, "--continue-on-collection-errors", "--override-ini=junit_logging=all")
    outcomes = dict.fromkeys(PROVOCATIONS, "")
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):  # noqa: S314 - our own file
        name = (case.attrib["classname"] or case.attrib["name"]).split(".")[-1].removeprefix("test_")
        name = "a_class_fixture" if name == "TestIt" else name
        outcomes[name] += "".join(f"{child.get('message')}\n{child.text}" for child in case)
        failed = {child.tag for child in case} & {"failure", "error"}
        outcomes[name] += "" if failed else f"{case.attrib['name']} passed\n"
    return outcomes | {"all": output}


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_it_is_said(name: str, outcomes: dict[str, str]) -> None:
    found = (
        outcomes[name] if "does not exist" not in PROVOCATIONS[name][1] and name != "test_client" else outcomes["all"]
    )

    assert re.search(PROVOCATIONS[name][1], found), outcomes[name]


def test_nothing_harms_the_next(outcomes: dict[str, str]) -> None:
    assert "test_it passed" in outcomes["a_session_setting_that_is_reset"]


@pytest.mark.parametrize("name", ["a_long_statement", "a_long_budget"])
def test_a_message_fits_a_screen(name: str, outcomes: dict[str, str]) -> None:
    message = next(line for line in outcomes[name].splitlines() if "N+1" in line or "budget is" in line)

    assert 0 < len(message) < 2000
    assert len(re.findall(r"SELECT \d+$", outcomes[name], re.MULTILINE)) < 50


def test_a_worker_of_the_lifespan_is_no_tests(databases: Databases, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text((PROJECT / "pytest.ini").read_text().replace("testpaths = tests", ""))
    (tmp_path / "test_worker.py").write_text(PRELUDE + WORKER)

    output = run_pytest(tmp_path, databases)

    assert "30 passed" in output, output


WORKER = """
from contextlib import asynccontextmanager

import app.core.discovery
from app.main import create_app
from tests.harness.client import running

rounds = []


async def poll():
    for _ in range(3):
        async with AsyncSessionLocal.begin() as session:
            rounds.append(await session.scalar(text("SELECT 1")))
            await session.execute(text("CREATE TABLE IF NOT EXISTS polled (n int)"))
        await asyncio.sleep(0.001)


async def keep_polling():
    while True:
        await asyncio.create_task(poll())


@asynccontextmanager
async def lifespan(app):
    worker = asyncio.create_task(keep_polling())
    yield
    worker.cancel()
    await asyncio.wait([worker])


@pytest.fixture(scope="module")
async def app(settings, test_engine, isolated):
    service = create_app(settings, test_engine)
    opened = service.router.lifespan_context

    @asynccontextmanager
    async def both(application):
        async with opened(application), lifespan(application):
            yield

    service.router.lifespan_context = both
    async with running(service, isolated.sandbox):
        yield service


@pytest.mark.parametrize("number", range(10))
async def test_a_request(client, number):
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize("number", range(10))
async def test_the_worker_goes_on(client, db_session, number):
    before = len(rounds)
    async with asyncio.timeout(20):
        while len(rounds) < before + 3:
            await db_session.rollback()
            await asyncio.sleep(0.001)


@pytest.mark.real_db
@pytest.mark.parametrize("number", range(10))
async def test_on_a_database_of_its_own(client, number):
    assert (await client.get("/health/ready")).status_code == 200
    before = len(rounds)
    async with asyncio.timeout(20):
        while len(rounds) < before + 3:
            await asyncio.sleep(0.001)
"""
