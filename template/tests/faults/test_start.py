"""Replicas start at the same time as the database is migrated: one migrates, and nobody serves before that."""

import asyncio
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.faults.processes import SERVE, STARTING, Service, started
from tests.harness.databases import Databases
from tests.harness.server import PROJECT
from tests.integration.test_migrations import empty_database

__all__ = ["empty_database"]

REPLICAS = 5
UPGRADE = (sys.executable, "-m", "alembic", "upgrade", "head")
MIGRATE_AND_SERVE = ("sh", "-c", '"$0" -m alembic upgrade head && exec "$0" -m app', sys.executable)
MIGRATION = '''"""{revision}."""

from alembic import op

revision = "{revision}"
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    {step}


def downgrade() -> None:
    """Undo the change."""
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is in the image."""
    for part in ("app", "alembic"):
        shutil.copytree(PROJECT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("alembic.ini", "pyproject.toml"):
        shutil.copy(PROJECT / part, tmp_path)
    return tmp_path


def add_migration(project: Path, revision: str, step: str) -> None:
    """Write one that follows those there are."""
    (before,) = ScriptDirectory(str(project / "alembic")).get_heads() or [None]
    path = project / "alembic" / "versions" / f"{revision}.py"
    path.write_text(MIGRATION.format(revision=revision, before=before, step=step))


async def tables(url: str) -> set[str]:
    """Return the names of a database's tables."""

    def look(connection: Connection) -> set[str]:
        return {*inspect(connection).get_table_names()}

    engine: AsyncEngine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(look)
    await engine.dispose()
    return found


async def test_of_five_replicas_one_migrates_and_none_serves_before(
    databases: Databases, empty_database: str, project: Path
) -> None:
    add_migration(project, "slow", 'op.execute("CREATE TABLE slow AS SELECT 1 FROM pg_sleep(2)")')
    url = databases.url(empty_database).render_as_string(hide_password=False)
    ready_before: list[Service] = []

    async with AsyncExitStack() as stack:
        impatient = await stack.enter_async_context(started(*SERVE, database_url=url, folder=project))
        async with asyncio.timeout(STARTING):
            while not await impatient.answers("/health"):
                await asyncio.sleep(0.05)
        assert not await impatient.is_ready(), "it serves without a schema"
        replicas = [
            await stack.enter_async_context(started(*MIGRATE_AND_SERVE, database_url=url, folder=project))
            for _ in range(REPLICAS)
        ]
        async with asyncio.timeout(STARTING):
            while "slow" not in await tables(url):
                ready = [service for service in (impatient, *replicas) if await service.is_ready()]
                if "slow" not in await tables(url):  # It may have been migrated meanwhile.
                    ready_before += ready
                assert [service.said() for service in replicas if service.process.returncode] == []
        await asyncio.gather(*(service.wait_until_ready() for service in (impatient, *replicas)))

        migrated = [service for service in replicas if "Running upgrade" in service.said()]
        assert len(migrated) == 1
    assert ready_before == []


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    databases: Databases, empty_database: str, project: Path
) -> None:
    url = databases.url(empty_database).render_as_string(hide_password=False)
    add_migration(project, "first", 'op.execute("CREATE TABLE first (id int)")')
    async with started(*UPGRADE, database_url=url, folder=project) as migration:
        assert await migration.process.wait() == 0, migration.said()
    before = await tables(url)

    add_migration(project, "second", 'op.execute("CREATE TABLE second (id int)")')
    add_migration(project, "third", 'op.execute("ALTER TABLE nowhere ADD COLUMN id int")')
    async with started(*MIGRATE_AND_SERVE, database_url=url, folder=project) as replica:
        assert await replica.process.wait() != 0
        assert 'relation "nowhere" does not exist' in replica.said()
    assert "first" in before
    assert await tables(url) == before
