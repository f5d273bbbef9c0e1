"""Detectors of leaked state and N+1 queries: each is provoked in a run that has to fail and name the cause."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import asyncpg
import pytest

from tests.harness.databases import Databases
from tests.harness.server import PROJECT, connect_arguments

PRELUDE = """
import asyncio

import asyncpg
import pytest
from sqlalchemy import text

from app.core.db import AsyncSessionLocal
from tests.harness.queries import query_budget
from tests.harness.server import connect_arguments
from tests.integration.harness.conftest import *
from tests.integration.harness.notes import Note

held = []


"""

PROVOCATIONS = {
    "a_session_left_open": (
        """
async def test_it(isolation):
    session = AsyncSessionLocal()
    await session.execute(text("SELECT 1"))
    held.append(session)
""",
        "a session was left open",
    ),
    "a_session_left_open_on_a_real_pool": (
        """
@pytest.mark.real_db
async def test_it(isolation):
    session = AsyncSessionLocal()
    await session.execute(text("SELECT 1"))
    held.append(session)
""",
        "1 connection\\(s\\) did not come back to the pool",
    ),
    "a_task_left_running": (
        """
async def test_it(isolation):
    held.append(asyncio.create_task(asyncio.sleep(60)))
""",
        "a task was left running: sleep",
    ),
    "a_raw_commit": (
        """
async def test_it(db_session):
    db_session.add(Note(line="a"))
    await db_session.flush()
    await db_session.execute(text("COMMIT"))
""",
        "raw SQL ended the sandbox's transaction",
    ),
    "a_dropped_commit": (
        """
async def test_it(client):
    await client.post("/notes/outer-rollback", params={"inner_line": "a", "outer_line": "b"})
    await client.get("/notes")
""",
        "a rollback took along what another connection had committed",
    ),
    "n_plus_one": (
        """
async def test_it(client, db_session):
    db_session.add_all(Note(line=f"note {number}") for number in range(10))
    await client.get("/notes/n-plus-one")
""",
        "N\\+1: GET /notes/n-plus-one ran one query 10 times",
    ),
    "n_plus_one_that_is_right": (
        """
@pytest.mark.repeats(10)
async def test_it(client, db_session):
    db_session.add_all(Note(line=f"note {number}") for number in range(10))
    await client.get("/notes/n-plus-one")
""",
        "test_it passed",
    ),
    "a_budget_exceeded": (
        """
async def test_it(client):
    with query_budget(0):
        await client.get("/notes")
""",
        "1 queries, and the budget is 0",
    ),
    "a_row_leaked": (
        """
async def test_it(isolation, databases, db_session):
    await db_session.execute(text("SELECT 1"))
    stranger = await asyncpg.connect(**connect_arguments(databases.server), database=databases.name)
    await stranger.execute("CREATE TABLE leaked AS SELECT 1")
    await stranger.close()


async def test_the_next_one_is_not_harmed(db_session):
    assert await db_session.scalar(text("SELECT to_regclass('leaked')")) is None
""",
        "rows were stored that outlive the test",
    ),
    "a_second_loop": (
        """
@pytest.mark.asyncio(loop_scope="function")
async def test_it(client):
    await client.get("/health/ready")


async def test_the_first_loop(client):
    await client.get("/health/ready")
""",
        "second event loop|different event loop",
    ),
    "seeded_data_in_a_database_of_its_own": (
        """
@pytest.mark.real_db
async def test_it(module_session, db_session):
    pass
""",
        "module_session is a part of the sandbox",
    ),
}


@pytest.fixture(scope="module")
def outcomes(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run all provocations, and return for each what pytest complained about: nothing, if it passed."""
    folder = tmp_path_factory.mktemp("provocations")
    (folder / "pytest.ini").write_text((PROJECT / "pytest.ini").read_text().replace("testpaths = tests", ""))
    for name, (code, _) in PROVOCATIONS.items():
        (folder / f"test_{name}.py").write_text(PRELUDE + code)
    run_pytest(folder, databases)
    outcomes = dict.fromkeys(PROVOCATIONS, "")
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):  # noqa: S314 - our own file
        name = case.attrib["classname"].split(".")[-1].removeprefix("test_")
        outcomes[name] += "".join(
            f"{child.get('message')}\n{child.text}" for child in case if child.tag != "system-out"
        )
        outcomes[name] += "" if list(case) else f"{case.attrib['name']} passed\n"
    return outcomes


def run_pytest(folder: Path, databases: Databases, *options: str) -> str:
    server = databases.server.render_as_string(hide_password=False)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TEST_DATABASE_URL": server, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["--junitxml", str(folder / "report.xml"), str(folder), *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", PROVOCATIONS)
def test_it_is_noticed(name: str, outcomes: dict[str, str]) -> None:
    assert re.search(PROVOCATIONS[name][1], outcomes[name]), outcomes[name]


def test_the_next_test_is_not_harmed_by_a_leaked_row(outcomes: dict[str, str]) -> None:
    assert "test_the_next_one_is_not_harmed passed" in outcomes["a_row_leaked"]


@pytest.mark.slow
@pytest.mark.parametrize("marker", ["", "@pytest.mark.real_db"], ids=["sandbox", "real_db"])
async def test_the_database_of_a_failing_test_can_be_kept(databases: Databases, tmp_path: Path, marker: str) -> None:
    name = "test_real_db" if marker else "test_sandbox"  # Short: the name of a database may have 63 characters.
    code = f"""
async def {name}(client, db_session):
    await client.post("/notes?line=of+a+request")
    db_session.add(Note(line="of the test"))
    assert not "what was expected"
"""
    (tmp_path / "pytest.ini").write_text((PROJECT / "pytest.ini").read_text().replace("testpaths = tests", ""))
    (tmp_path / "test_kept.py").write_text(PRELUDE + marker + code)

    output = run_pytest(tmp_path, databases, "--keep-db")

    kept = re.search(r"psql 'postgresql:.*/(\w+_failed_" + name + ")", output)
    assert kept, output
    connection = await asyncpg.connect(**connect_arguments(databases.server), database=kept.group(1))
    lines = await connection.fetch("SELECT line FROM harness_notes ORDER BY id")
    await connection.close()
    await databases.drop(kept.group(1))
    assert [row["line"] for row in lines] == ["of a request", "of the test"]
