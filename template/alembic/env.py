"""How Alembic connects: to DATABASE_URL, through the service's own driver, one migrator at a time."""

import asyncio
import time
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from logging.config import dictConfig

from alembic import context
from alembic.operations.ops import DropTableOp, MigrationScript
from alembic.util import CommandError
from pydantic import ValidationError
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.core.autogenerate import DropTypesOp, extend
from app.core.config import Settings, explain, load
from app.core.db import MIGRATION_LOCK, Base, hide_values
from app.core.discovery import load_models
from app.core.logging import logging_config

# A migration that has to wait for a lock blocks everyone who comes after it, so it gives up early and can be run again.
LOCK_TIMEOUT = "10s"
LONGEST_WAIT = 600
"""How many seconds to wait for another migrator."""

load_models()


def database_url() -> str:
    """Return the URL that a caller passed in `config.attributes`, or that of the settings."""
    given: str | None = context.config.attributes.get("database_url")
    if given is not None:
        return given
    try:
        settings = load(Settings)
    except ValidationError as error:
        raise CommandError(explain(error)) from error
    if settings.db_behind_pgbouncer:
        raise CommandError("Migrations hold a lock of their session: connect to PostgreSQL, and not through PgBouncer.")
    dictConfig(logging_config(settings))
    return settings.database_url


def full_name(step: DropTableOp) -> str:
    """Return the name of a table as foreign keys refer to it."""
    return f"{step.schema}.{step.table_name}" if step.schema else step.table_name


def drop_in_order(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
    """Drop each table before those that it refers to: `--autogenerate` leaves their order to chance."""
    for script in scripts:
        if script.upgrade_ops is None or script.downgrade_ops is None:
            continue
        steps = script.upgrade_ops.ops
        drops = {full_name(step): step for step in steps if isinstance(step, DropTableOp)}
        types = [step for step in steps if isinstance(step, DropTypesOp)]
        others = [step for step in steps if not isinstance(step, DropTableOp | DropTypesOp)]
        order: TopologicalSorter[str] = TopologicalSorter()
        for name, drop in drops.items():
            parents = {key.target_fullname.rpartition(".")[0] for key in drop.to_table().foreign_keys}
            order.add(name, *(parents & drops.keys() - {name}))
        with suppress(CycleError):  # Tables that refer to each other need a hand: their constraints have to go first.
            steps[:] = others + [drops[name] for name in reversed([*order.static_order()])] + types
            script.upgrade_ops.reverse_into(script.downgrade_ops)


def migrate(connection: Connection) -> None:
    """Run the migrations, unless another migrator is at it: then wait, and find nothing left to do."""
    # Asking again and again, because a statement that waits inside the server would block CREATE INDEX CONCURRENTLY.
    give_up = time.monotonic() + LONGEST_WAIT
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}):
        connection.rollback()
        if time.monotonic() > give_up:
            raise CommandError(f"Another migrator has been at it for {LONGEST_WAIT} seconds. Run this again later.")
        time.sleep(0.1)
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        process_revision_directives=drop_in_order,
    )
    extend(context.get_context())
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online() -> None:
    """Connect and migrate."""
    engine = create_async_engine(make_url(database_url()), poolclass=NullPool, hide_parameters=True)
    hide_values(engine)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


def migrate_offline() -> None:
    """Print the SQL instead of running it: `alembic upgrade head --sql`."""
    # With the service's own driver: others double each percent sign.
    context.configure(url="postgresql+asyncpg://", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    migrate_offline()
else:
    asyncio.run(migrate_online())
