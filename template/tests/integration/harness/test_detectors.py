"""A test that leaves something behind is red: one example. The template tests every detector."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.databases import Databases
from tests.harness.server import PROJECT

LEAVES_A_SESSION = """
from sqlalchemy import text

from app.core.db import AsyncSessionLocal

held = []


async def test_it(isolation):
    session = AsyncSessionLocal()
    await session.execute(text("SELECT 1"))
    held.append(session)
"""


@pytest.mark.slow
def test_a_session_left_open_is_noticed(databases: Databases, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text((PROJECT / "pytest.ini").read_text().replace("testpaths = tests", ""))
    (tmp_path / "test_it.py").write_text(LEAVES_A_SESSION)
    server = databases.server.render_as_string(hide_password=False)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TEST_DATABASE_URL": server, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stdout
    assert "a session was left open" in done.stdout
