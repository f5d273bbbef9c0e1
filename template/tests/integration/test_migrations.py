"""The schema is what the migrations make of it, so they are tested on a real server."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.core.db import MIGRATION_LOCK
from tests.harness.databases import Databases, alembic_config
from tests.harness.isolation import Isolation
from tests.harness.server import PROJECT, connect_arguments


@pytest.fixture
async def empty_database(databases: Databases) -> AsyncGenerator[str]:
    """The name of a database without any tables."""
    name = await databases.create_empty()
    yield name
    await databases.drop(name)


async def tables(databases: Databases, name: str) -> set[str]:
    connection = await asyncpg.connect(**connect_arguments(databases.server), database=name)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


def test_there_is_one_head() -> None:
    script = ScriptDirectory.from_config(Config(str(PROJECT / "alembic.ini")))

    assert len(script.get_heads()) <= 1


@pytest.mark.real_db
@pytest.mark.ci_critical
async def test_the_migrations_make_what_the_models_describe(databases: Databases, isolation: Isolation) -> None:
    await asyncio.to_thread(command.check, alembic_config(databases.url(isolation.database)))


async def test_every_migration_can_be_undone_and_done_again(databases: Databases, empty_database: str) -> None:
    config = alembic_config(databases.url(empty_database))

    await asyncio.to_thread(command.upgrade, config, "head")
    made = await tables(databases, empty_database)
    await asyncio.to_thread(command.downgrade, config, "base")
    left = await tables(databases, empty_database)
    await asyncio.to_thread(command.upgrade, config, "head")

    assert left <= {"alembic_version"}
    assert await tables(databases, empty_database) == made


def write_creation(config: Config, folder: Path) -> None:
    """Write a migration that creates seven tables, each of which refers to the one before."""
    head = ScriptDirectory.from_config(config).get_current_head()
    steps = [
        f'    op.create_table("gone_{number}", sa.Column("id", sa.Integer, primary_key=True),'
        f' sa.Column("other", sa.Integer, sa.ForeignKey("gone_{max(number - 1, 0)}.id"), unique=True))'
        for number in range(7)
    ]
    text = ["import sqlalchemy as sa", "from alembic import op", 'revision = "made"', f"down_revision = {head!r}"]
    text += ["def upgrade() -> None:", *steps, "def downgrade() -> None:", "    pass"]
    (folder / "made.py").write_text("\n".join(text), encoding="utf-8")


@pytest.mark.slow
async def test_tables_that_are_gone_from_the_models_are_dropped_in_order(
    databases: Databases, empty_database: str, tmp_path: Path
) -> None:
    """Each refers to the one before, so of all orders there is one that works. Other tables are left alone."""
    config = alembic_config(databases.url(empty_database))
    config.set_main_option("version_locations", f"{PROJECT / 'alembic' / 'versions'}{os.pathsep}{tmp_path}")
    write_creation(config, tmp_path)
    await asyncio.to_thread(command.upgrade, config, "head")
    connection = await asyncpg.connect(**connect_arguments(databases.server), database=empty_database)
    await connection.execute("CREATE TABLE somebody_elses AS SELECT 1 AS id")
    await connection.close()
    with_them = await tables(databases, empty_database)

    await asyncio.to_thread(command.revision, config, "drop", autogenerate=True, version_path=str(tmp_path))
    await asyncio.to_thread(command.upgrade, config, "head")
    without_them = await tables(databases, empty_database)
    await asyncio.to_thread(command.downgrade, config, "-1")

    assert with_them - without_them == {f"gone_{number}" for number in range(7)}
    assert await tables(databases, empty_database) == with_them


@pytest.mark.slow
async def test_two_replicas_migrate_at_once(databases: Databases, empty_database: str, tmp_path: Path) -> None:
    url = databases.url(empty_database).render_as_string(hide_password=False)
    third = await asyncpg.connect(**connect_arguments(databases.server), database=empty_database)
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"

    async def migrate() -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "alembic", "-c", str(PROJECT / "alembic.ini"), "upgrade", "head"),
            cwd=tmp_path,  # Where there is no `.env`.
            env=os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(PROJECT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    await third.execute("SELECT pg_advisory_lock($1::bigint)", MIGRATION_LOCK)
    both = asyncio.gather(migrate(), migrate())
    async with asyncio.timeout(60):
        while await third.fetchval(connected, empty_database) < 3 and not both.done():  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    meanwhile = await tables(databases, empty_database)
    await third.close()
    results = await both

    assert meanwhile == set()
    assert [code for code, _ in results] == [0, 0], results
    assert "alembic_version" in await tables(databases, empty_database)
