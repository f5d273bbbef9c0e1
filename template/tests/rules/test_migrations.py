"""A migration can be undone."""

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from tests.harness.databases import Databases, alembic_config
from tests.harness.server import connect_arguments

STRUCTURE = """
    SELECT concat_ws(' ', table_name || '.' || column_name, udt_name, character_maximum_length, is_nullable,
            column_default) FROM information_schema.columns WHERE table_schema = 'public'
    UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'c'
    UNION SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


@pytest.fixture
async def empty_database(databases: Databases) -> AsyncGenerator[str]:
    """The name of a database without any tables."""
    name = await databases.create_empty()
    yield name
    await databases.drop(name)


async def structure(databases: Databases, name: str) -> set[str]:
    """Describe what migrations make, but for checks, which `--autogenerate` does not bring back with their table."""
    connection = await asyncpg.connect(**connect_arguments(databases.server), database=name)
    rows = await connection.fetch(STRUCTURE)
    await connection.close()
    return {row[0] for row in rows}


async def test_the_newest_migration_leaves_nothing_when_it_is_undone(databases: Databases, empty_database: str) -> None:
    """Alone, because what it leaves in an older table is gone when all are undone."""
    config = alembic_config(databases.url(empty_database))
    script = ScriptDirectory.from_config(config)

    for newest in script.get_revisions(script.get_heads()):
        before = newest.down_revision or "base"
        if not isinstance(before, str):  # It joins branches, and changes nothing itself.
            continue
        if before == "base":
            await asyncio.to_thread(command.stamp, config, before)  # Makes the table in which Alembic keeps its place.
        else:
            await asyncio.to_thread(command.upgrade, config, before)
        found = await structure(databases, empty_database)
        await asyncio.to_thread(command.upgrade, config, newest.revision)
        await asyncio.to_thread(command.downgrade, config, before)

        assert await structure(databases, empty_database) == found
